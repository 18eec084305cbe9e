"""The :class:`Engine`: one network on one device, run over a picture tile by tile."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable
from itertools import takewhile
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from adapool_sr.files.errors import AdaPoolError, UsageError
from adapool_sr.inference.backends import Limits
from adapool_sr.inference.devices import PRECISIONS, choose_device, choose_precision
from adapool_sr.inference.memory import available_bytes, bytes_per_pixel, largest_tile
from adapool_sr.inference.tiles import Tile, halo_for, plan_tiles, split
from adapool_sr.io.images import quantise

__all__ = ["Engine", "Meter", "Progress", "ShouldStop", "Stopped", "as_dtype"]

Progress = Callable[[int, int], None]
ShouldStop = Callable[[], bool]

# Windows up to this many pixels are run whole without asking how much memory there is: the
# networks that ship need some 100 MB for it.
_ALWAYS_WHOLE = 256 * 256

# Tiles of one size go through the network together, up to this many pixels at a time.
_BATCH_PIXELS = _ALWAYS_WHOLE


class Stopped(Exception):
    """The caller's ``should_stop`` said so; nothing was returned."""


class Meter:
    """Progress over all tiles of a call, and the caller's wish to stop.

    Args:
        progress: called as ``progress(done, total)`` after each tile, in pixels.
        should_stop: asked before each tile.
        pictures: of one size, that the call is about.
        precision: number format of the convolutions; None for the engine's own.
    """

    def __init__(
        self,
        progress: Progress | None = None,
        should_stop: ShouldStop | None = None,
        pictures: int = 1,
        precision: torch.dtype | None = None,
    ) -> None:
        self.precision = precision
        self._done, self._total = 0, 0
        self._pictures = pictures
        self._progress, self._should_stop = progress, should_stop

    def expect(self, pixels: int) -> None:
        """Say how many pixels the network will read for a picture; the same for each."""
        self._total = self._pictures * pixels

    def check(self) -> None:
        """Raise :class:`Stopped` if the caller wants it."""
        if self._should_stop is not None and self._should_stop():
            raise Stopped

    def add(self, pixels: int) -> None:
        """Count pixels that the network has read."""
        self._done += pixels
        if self._progress is not None:
            self._progress(self._done, self._total)


class Engine:
    """Runs a network over pictures of any size, tile by tile where they are large.

    Args:
        network: with ``scale``, ``size_multiple`` and ``receptive_radius`` (and, if it cannot do
            all that ours can, ``limits``). It is copied.
        device: "auto", "cpu", "cuda", "cuda:1" or any name that torch knows.
        precision: "auto", "fp32", "bf16" or "fp16" of the convolutions.
        tile: the side of a tile in input pixels, 0 for none, "auto" for the largest that fits.

    Attributes:
        network: the copy.
        scale: the network's factor.
        multiple: the network's size multiple.
        radius: the network's receptive radius.
        device: where it runs.
        precision: the number format of the convolutions.
        deep_precision: the same for pictures of 16 bits: float32 unless one was asked for.
        tile: as it was given, or 0 for a network that cuts pictures up itself.
        redone: tiles that came out non-finite and were done again in float32.

    Raises:
        UsageError: a device, precision or tile that cannot be.
    """

    def __init__(
        self,
        network: nn.Module,
        device: str = "auto",
        precision: str = "auto",
        tile: int | Literal["auto"] = "auto",
    ) -> None:
        if tile != "auto" and (isinstance(tile, str) or tile < 0):
            raise UsageError("tile", f"must be 'auto', 0 or pixels, got {tile!r}")
        limits = cast(Limits, getattr(network, "limits", Limits()))
        self.device = choose_device("cpu" if limits.cpu_only and device == "auto" else device)
        if limits.cpu_only and self.device.type != "cpu":
            raise UsageError(f"device '{device}'", "is not for this model", "use cpu")
        self.precision = choose_precision(precision, self.device, limits.precisions)
        self.deep_precision = torch.float32 if precision == "auto" else self.precision
        self.redone = 0
        self.scale = int(cast(int, network.scale))
        self.multiple = int(cast(int, network.size_multiple))
        self.radius = int(cast(int, network.receptive_radius))
        self.tile: int | Literal["auto"] = 0 if limits.untiled and tile == "auto" else tile
        self._largest_core = 2**62  # input pixels; shrinks when the device runs out of memory
        self._batch_pixels = _BATCH_PIXELS
        self._measuring = threading.Lock()
        self._pixel_bytes = dict.fromkeys(PRECISIONS.values(), limits.pixel_bytes)
        self.network = copy.deepcopy(network).eval().to(self.device)
        # mypy: nn.Module.to has no overload with a memory format alone
        self.network = cast(Any, self.network).to(memory_format=torch.channels_last)

    def tile_for(self, height: int, width: int, precision: torch.dtype | None = None) -> int:
        """Side of the tiles that an input of this size is cut into; 0 where it stays whole."""
        if self.tile != "auto":
            return self.tile if max(height, width) > self.tile else 0
        if height * width <= _ALWAYS_WHOLE:
            return 0
        precision = precision or self.precision
        side = largest_tile(
            available_bytes(self.device),
            self.pixel_bytes(precision),
            halo=halo_for(self.radius, self.multiple),
            multiple=self.multiple,
            on_cpu=self.device.type == "cpu",
        )
        return side if max(height, width) > side else 0

    def pixel_bytes(self, precision: torch.dtype) -> float:
        """What the network needs for a pixel of its input, measured at the first call."""
        with self._measuring:  # a run's headers are read by several threads
            found = self._pixel_bytes[precision]
            if found is None:
                found = bytes_per_pixel(self.network, 3, self.device, precision)
                self._pixel_bytes[precision] = found
            return found

    def bytes_for(self, height: int, width: int) -> int:
        """About what the network needs at once for an input of this size, tile by tile."""
        geometry = {"multiple": self.multiple, "radius": self.radius}
        tiles = plan_tiles(height, width, self.tile_for(height, width), **geometry)
        return int(self.pixel_bytes(self.precision) * max(tile.window.area for tile in tiles))

    def trial(self, x: Tensor) -> Tensor:
        """Run the network over a small picture (C, h, w); uint8, as the results mostly are."""
        return self.run(x, torch.uint8, Meter())

    def run_passes(self, x: Tensor, passes: int, dtype: torch.dtype, meter: Meter) -> Tensor:
        """(C, h, w) float through the network so many times; the last result is of ``dtype``."""
        for index in range(passes):
            last = index == passes - 1
            x = self.run(x, dtype if last else torch.float32, meter)
        return x

    def run(self, x: Tensor, dtype: torch.dtype, meter: Meter) -> Tensor:
        """Run the network once over a whole picture (C, H, W), tile by tile.

        Args:
            x: float in 0..1, C = 1 or 3.
            dtype: of the result: float32, uint8 or uint16.
            meter: hears of each tile.

        Returns:
            (C, scale·H, scale·W) on the CPU, clamped, rounded if it is of integers.

        Raises:
            AdaPoolError: values that are not numbers.
            Stopped: the meter said so.
        """
        channels, height, width = x.shape
        result = torch.empty(channels, height * self.scale, width * self.scale, dtype=dtype)
        geometry = {"multiple": self.multiple, "radius": self.radius}
        precision = meter.precision or self.precision
        tiles = plan_tiles(height, width, self.tile_for(height, width, precision), **geometry)
        tiles.sort(key=_window_size, reverse=True)  # equal ones lie together; the sort is stable
        while tiles:
            meter.check()
            tile = tiles[-1]
            smaller = split(tile, height, width, **geometry)
            if smaller and tile.core.area > self._largest_core:
                tiles[-1:] = reversed(smaller)
                continue
            batch = tiles[-self._together(tiles) :]
            try:
                kept = self._run(x, batch, precision, dtype)
            except RuntimeError as error:
                if not _is_out_of_memory(error) or not (smaller or len(batch) > 1):
                    raise
                if len(batch) > 1:
                    self._batch_pixels = 0
                else:
                    self._largest_core = tile.core.area - 1
                continue
            del tiles[-len(batch) :]
            for each, y in zip(batch, kept, strict=True):
                place = each.place(self.scale)
                result[:, place.top : place.bottom, place.left : place.right] = as_dtype(y, dtype)
                meter.add(each.core.area)
        return result

    def _together(self, tiles: list[Tile]) -> int:
        """How many of the last tiles go through the network in one call."""
        size = _window_size(tiles[-1])
        count = max(1, self._batch_pixels // tiles[-1].window.area)
        return sum(
            1 for _ in takewhile(lambda t: _window_size(t) == size, tiles[: -count - 1 : -1])
        )

    def _run(
        self, x: Tensor, tiles: list[Tile], precision: torch.dtype, dtype: torch.dtype
    ) -> list[Tensor]:
        """The outputs (C, h, w) for the tiles' cores, on the CPU: uint8, or float32 not clamped."""
        seen = torch.stack(
            [x[:, t.window.top : t.window.bottom, t.window.left : t.window.right] for t in tiles]
        ).to(self.device, torch.float32)
        batch = seen.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        y = self._forward(batch, precision)
        kept = []
        for index, tile in enumerate(tiles):
            core = self._core(y[index], tile)
            finite = _is_finite(core)
            if not finite and precision != torch.float32:
                self.redone += 1
                again = self._forward(batch[index : index + 1], torch.float32)
                core = self._core(again[0], tile)
                finite = _is_finite(core)
            if not finite:
                raise AdaPoolError(
                    "model", "gave values that are not numbers, in float32 too", "use another model"
                )
            if x.shape[0] == 1:  # three equal channels went in
                core = core.mean(0, keepdim=True)
            # Rounded where it is: a quarter of the bytes leave the device.
            kept.append((as_dtype(core, dtype) if dtype == torch.uint8 else core).cpu())
        return kept

    def _core(self, y: Tensor, tile: Tile) -> Tensor:
        crop = tile.crop(self.scale)
        return y[:, crop.top : crop.bottom, crop.left : crop.right]

    def _forward(self, batch: Tensor, precision: torch.dtype) -> Tensor:
        reduced = precision != torch.float32
        with torch.autocast(self.device.type, precision, enabled=reduced):
            return cast(Tensor, self.network(batch)).float()


def _window_size(tile: Tile) -> tuple[int, int]:
    return tile.window.height, tile.window.width


def _is_finite(y: Tensor) -> bool:
    return math.isfinite(float(y.sum()))


def as_dtype(y: Tensor, dtype: torch.dtype) -> Tensor:
    """Finite floats as float32 clamped to 0..1, or quantised to uint8 or uint16."""
    if dtype == torch.float32:
        return y.to(dtype).clamp(0, 1)
    return quantise(y, 8 if dtype == torch.uint8 else 16)


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator raises a plain RuntimeError with these words (c10/core/impl/alloc_cpu).
    words = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "can't allocate memory" in words
        or "could not create a memory object" in words
    )
