"""How fast a run goes and how long it will take, weighted by what each picture costs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

__all__ = ["Pace"]

# Of a picture's part of a run, what the network fills; the rest comes with the file's name.
_NETWORK_SHARE = 0.9
# Seconds that the rate is taken over: long enough for a folder of mixed pictures, short enough to
# follow a machine that becomes busy.
_WINDOW = 60.0
_EVERY = 0.25  # seconds between the samples that are kept
_ENOUGH = 1.0  # seconds that must have passed before anything is foretold


class Pace:
    """Counts what is done; its figures are those of now.

    The clock starts at the first sign of work: what comes before it, as the network's first and
    slower run does, says nothing about the rest.

    Args:
        weights: of the pictures, in any unit, by name.
        clock: seconds.
    """

    def __init__(
        self, weights: Mapping[str, float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._weights = dict(weights)
        self._clock = clock
        self._total = float(sum(self._weights.values()))
        self._under_way: dict[str, float] = {}
        self._ended = 0.0
        self._samples: deque[tuple[float, float, int, int]] = deque()
        self.images = 0
        self.pixels = 0

    def progress(self, name: str, share: float) -> None:
        """The network has read so much of a picture, 0 to 1."""
        if name in self._weights:
            self._under_way[name] = _NETWORK_SHARE * share * self._weights[name]
        self._note()

    def finished(self, name: str, pixels: int) -> None:
        """A result of so many pixels stands under its name."""
        self.images += 1
        self.pixels += pixels
        self.dropped(name)

    def dropped(self, name: str) -> None:
        """A picture failed or was left alone."""
        self._under_way.pop(name, None)
        self._ended += self._weights.pop(name, 0.0)
        self._note()

    def _note(self) -> None:
        now = self._clock()
        if self._samples and now - self._samples[-1][0] < _EVERY:
            return
        self._samples.append((now, self._done, self.images, self.pixels))
        while len(self._samples) > 2 and now - self._samples[1][0] >= _WINDOW:
            self._samples.popleft()

    @property
    def _done(self) -> float:
        return self._ended + sum(self._under_way.values())

    @property
    def share(self) -> float:
        """The part of the run that is done, 0 to 1; 1 only when every file has its name."""
        return self._done / self._total if self._weights and self._total else 1.0

    def _since(self) -> tuple[float, float, int, int] | None:
        """Seconds, weight, images and pixels since the oldest sample that is kept."""
        if not self._samples:
            return None
        then, done, images, pixels = self._samples[0]
        seconds = self._clock() - then
        if seconds < _ENOUGH:
            return None
        return seconds, self._done - done, self.images - images, self.pixels - pixels

    @property
    def seconds_left(self) -> float | None:
        """Until the end; None while nothing can be said."""
        since = self._since()
        if not self._weights:
            return 0.0
        if since is None or since[1] <= 0:
            return None
        return (self._total - self._done) * since[0] / since[1]

    @property
    def images_per_second(self) -> float | None:
        """Results of late; None while nothing can be said."""
        since = self._since()
        return None if since is None else since[2] / since[0]

    @property
    def megapixels_per_second(self) -> float | None:
        """Of results of late; None while nothing can be said."""
        since = self._since()
        return None if since is None else since[3] / 1e6 / since[0]

    def words(self) -> str:
        """The rates and the time left, as in ``2.1 images/s, 5.3 megapixels/s, 1:05 left``."""
        left, images, pixels = (
            self.seconds_left,
            self.images_per_second,
            self.megapixels_per_second,
        )
        if left is None or images is None or pixels is None:
            return "…"
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return f"{images:.2f} images/s, {pixels:.2f} megapixels/s, {clock} left"
