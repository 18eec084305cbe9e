"""The :class:`Family`: one size for all pictures, for each the smallest network that reaches it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from adapool_sr.inference.backends import Loaded
from adapool_sr.inference.sizes import Size
from adapool_sr.inference.upscaler import Upscaler

__all__ = ["Family"]


class Family:
    """Upscalers of the models of a family, made when a picture first needs one.

    A folder of mixed sizes that is brought to one size needs another factor for each picture.

    Args:
        models: by their factors: each loads one.
        size: of the results.
        options: for each :class:`Upscaler`.
    """

    def __init__(
        self, models: Mapping[int, Callable[[], Loaded]], size: Size, **options: Any
    ) -> None:
        self._models = dict(sorted(models.items()))
        self._size = size
        self._options = options
        self._made: dict[int, Upscaler] = {}
        self._guard = threading.Lock()

    @property
    def size(self) -> Size:
        """Of the results."""
        return self._size

    @property
    def smallest(self) -> Upscaler:
        """The Upscaler of the model with the smallest factor."""
        return self._upscaler(min(self._models))

    def for_size(self, height: int, width: int) -> Upscaler:
        """The Upscaler for pictures of this size.

        Raises:
            AdaPoolError: its model cannot be loaded.
        """
        factor = self._size.factor(height, width)
        reaching = [scale for scale in self._models if scale >= factor]
        return self._upscaler(reaching[0] if reaching else max(self._models))

    def _upscaler(self, scale: int) -> Upscaler:
        with self._guard:
            if scale not in self._made:
                self._made[scale] = Upscaler(
                    self._models[scale](), size=self._size, **self._options
                )
            return self._made[scale]
