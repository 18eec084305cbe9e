"""The :class:`Family`: for each picture of a run the model that suits it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from adapool_sr.inference.backends import Loaded
from adapool_sr.inference.sizes import Size
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.decoding import JPEG

__all__ = ["Family"]

Loader = Callable[[], Loaded]


class Family:
    """Upscalers of several models, made when a picture first needs one.

    A folder of mixed sizes that is brought to one size needs another factor for each picture: the
    smallest model that reaches it is taken. JPEG files have a model of their own, where there is
    one, that takes their blocks for what they are.

    Args:
        models: by their factors: each loads one.
        photo: the same for JPEG files; empty to have them enlarged as all others.
        size: of the results; None for the factor ``scale``.
        scale: factor of the results; None for the model's.
        options: for each :class:`Upscaler`.
    """

    def __init__(
        self,
        models: Mapping[int, Loader],
        photo: Mapping[int, Loader] | None = None,
        *,
        size: Size | None = None,
        scale: float | None = None,
        **options: Any,
    ) -> None:
        self._loaders = {
            False: dict(sorted(models.items())),
            True: dict(sorted((photo or {}).items())),
        }
        self._size = size
        self._scale = scale
        self._options = options
        self._made: dict[tuple[bool, int], Upscaler] = {}
        self._guard = threading.Lock()

    @property
    def size(self) -> Size | None:
        """Of the results; None where all have one factor."""
        return self._size

    @property
    def smallest(self) -> Upscaler:
        """The Upscaler of the model with the smallest factor."""
        return self._upscaler(False, min(self._loaders[False]))

    def choose(self, height: int, width: int, form: str) -> Upscaler:
        """The Upscaler for pictures of this size and format.

        Raises:
            AdaPoolError: its model cannot be loaded.
        """
        photo = form in JPEG and bool(self._loaders[True])
        scales = list(self._loaders[photo])
        factor = self._size.factor(height, width) if self._size else self._scale or scales[0]
        reaching = [scale for scale in scales if scale >= factor]
        return self._upscaler(photo, reaching[0] if reaching else scales[-1])

    def _upscaler(self, photo: bool, scale: int) -> Upscaler:
        with self._guard:
            if (photo, scale) not in self._made:
                self._made[photo, scale] = Upscaler(
                    self._loaders[photo][scale](),
                    scale=self._scale,
                    size=self._size,
                    **self._options,
                )
            return self._made[photo, scale]
