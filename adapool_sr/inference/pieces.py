"""Results in float, whole or a part of them: blended with bicubic, wrapped, true to the input.

Everything here counts pixels from the whole picture's corner, and on an axis that wraps a position
may lie beyond either end. So a part of a result is computed from the part of the input that it
depends on, and is what the whole result has there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from adapool_sr.imaging.consistency import project
from adapool_sr.imaging.taps import Taps, bicubic_taps, weigh
from adapool_sr.inference.crops import Step, steps_for
from adapool_sr.inference.engine import Engine, Meter
from adapool_sr.inference.ensemble import AS_IT_IS, TURNINGS
from adapool_sr.inference.look import Look
from adapool_sr.inference.sizes import Route
from adapool_sr.inference.tiles import Box, halo_for

__all__ = ["Pieces"]

# Pixels of the input around a part that are made consistent with it. What a pixel's error does to
# others falls by 3 a pixel (measured, any factor from 1.1): by 24 pixels to 3e-12.
_MARGIN = 24
# Networks whose grid is coarser (others' transformers) run once, not once for each of its places.
_MOST_PHASES = 8


@dataclass(frozen=True)
class Pieces:
    """Makes parts of results.

    Attributes:
        engine: the network.
        look: what is done to its results.
        self_ensemble: whether the eight flips and turns are averaged.
    """

    engine: Engine
    look: Look
    self_ensemble: bool = False

    def make(self, x: Tensor, route: Route, box: Box, meter: Meter) -> Tensor:
        """A part of a picture's result.

        Args:
            x: (C, H, W) float in 0..1, the whole picture on the CPU.
            route: the picture's.
            box: the part, in pixels of the result.
            meter: hears of each tile.

        Returns:
            (C, height, width) of the box, float32 in 0..1.
        """
        grows = route.rows >= route.height and route.columns >= route.width
        if self.look.consistent and grows:
            return self._consistent(x, route, box, meter)
        return self._blended(x, route, box, meter)

    def bicubic(self, x: Tensor, route: Route, box: Box) -> Tensor:
        """A part of the picture enlarged by the exact bicubic alone, as :meth:`make` gives it."""
        sizes = ((route.height, route.rows), (route.width, route.columns))
        return self._resized(lambda part: _part(x, part), sizes, box).clamp_(0, 1)

    def _blended(self, x: Tensor, route: Route, box: Box, meter: Meter) -> Tensor:
        strength = self.look.strength
        if strength == 0:
            return self.bicubic(x, route, box)
        if route.exact:
            y = self._grown(x, route, box, meter)
        else:
            grown = (route.height * route.grown, route.width * route.grown)
            sizes = ((grown[0], route.rows), (grown[1], route.columns))
            y = self._resized(lambda part: self._grown(x, route, part, meter), sizes, box)
            y.clamp_(0, 1)
        if strength == 1:
            return y
        plain = self.bicubic(x, route, box)
        return y.sub_(plain).mul_(strength).add_(plain).clamp_(0, 1)

    def _resized(
        self, source: Callable[[Box], Tensor], sizes: tuple[tuple[int, int], ...], box: Box
    ) -> Tensor:
        """A part of an exact resize, bit for bit; ``sizes`` are an axis's before and after."""
        (height, rows), (width, columns) = sizes
        down = self._taps(box.top, box.bottom, height, rows, "y")
        across = self._taps(box.left, box.right, width, columns, "x")
        (top, bottom), (left, right) = down.span, across.span
        planes = source(Box(top, left, bottom, right)).numpy()
        tables = [
            (down.moved(top), False, rows / height),
            (across.moved(left), True, columns / width),
        ]
        for taps, columnwise, _ in sorted(tables, key=lambda table: table[2]):
            planes = weigh(planes, taps, across=columnwise)
        return torch.from_numpy(planes).float()

    def _taps(self, first: int, last: int, length: int, out: int, axis: str) -> Taps:
        taps = bicubic_taps(first, last, out / length)
        return taps if axis in self.look.wrap else taps.clamped(length)

    # --- the network ---------------------------------------------------------------------------

    def _grown(self, x: Tensor, route: Route, box: Box, meter: Meter) -> Tensor:
        """A part of what the passes give, in their pixels; on a wrapped axis it may lie beyond."""
        if route.passes == 0:
            return _part(x, box).to(torch.float32, copy=True)
        seen = list(self._seen(route, box))
        turnings = TURNINGS if self.self_ensemble else (AS_IT_IS,)
        jobs = []
        for part in seen:
            high, wide = part.height * route.grown, part.width * route.grown
            inside = _moved(box, part.top * route.grown, part.left * route.grown)
            for turning in turnings:
                size = (
                    (part.width, part.height) if turning.transposed else (part.height, part.width)
                )
                steps = self._steps(turning.box(inside, high, wide), *size, route.passes)
                jobs.append((part, turning, steps))
        meter.expect(sum(step.window.area for _, _, steps in jobs for step in steps))
        total: Tensor | None = None
        for part, turning, steps in jobs:
            y = turning.back(self._run(turning.of(_part(x, part)), steps, meter))
            total = y.contiguous() if total is None else total.add_(y)
        assert total is not None
        return total.div_(len(jobs)) if len(jobs) > 1 else total

    def _seen(self, route: Route, box: Box) -> Iterator[Box]:
        """The parts of the input that the network is given, of which the results are averaged.

        On a wrapped axis the picture goes on at both ends. The network pools on a grid, so that
        its result depends on where the picture lies on it; the mean over all places doesn't, and
        rolling the picture rolls it.
        """
        rows = self._ranges(box.top, box.bottom, route.height, route, "y")
        columns = self._ranges(box.left, box.right, route.width, route, "x")
        for top, bottom in rows:
            for left, right in columns:
                yield Box(top, left, bottom, right)

    def _ranges(
        self, first: int, last: int, length: int, route: Route, axis: str
    ) -> list[tuple[int, int]]:
        if axis not in self.look.wrap:
            return [(0, length)]
        engine = self.engine
        multiple = engine.multiple
        reach = sum(engine.radius / engine.scale**k for k in range(route.passes))
        margin = halo_for(math.ceil(reach), multiple)
        first, last = first // route.grown, -(-last // route.grown)
        ranges = []
        for phase in range(multiple if multiple <= _MOST_PHASES else 1):
            begin = first - margin - phase
            # A whole number of cells, so that flipped pictures lie on the same grid.
            ranges.append((begin, begin - (begin - last - margin) // multiple * multiple))
        return ranges

    def _steps(self, box: Box, height: int, width: int, passes: int) -> list[Step]:
        engine = self.engine
        return steps_for(
            box,
            height,
            width,
            passes,
            scale=engine.scale,
            multiple=engine.multiple,
            radius=engine.radius,
        )

    def _run(self, x: Tensor, steps: list[Step], meter: Meter) -> Tensor:
        scale = self.engine.scale
        x = _part(x, steps[0].window)
        for step in steps:
            y = self.engine.run(x, torch.float32, meter)
            x = _part(y, _moved(step.wanted, step.window.top * scale, step.window.left * scale))
        return x

    # --- consistency ---------------------------------------------------------------------------

    def _consistent(self, x: Tensor, route: Route, box: Box, meter: Meter) -> Tensor:
        down = self._shrink(box.top, box.bottom, route.height, route.rows, "y")
        across = self._shrink(box.left, box.right, route.width, route.columns, "x")
        around = Box(down.start, across.start, down.end, across.end)
        y = self._blended(x, route, around, meter)
        small = _part(x, Box(down.first, across.first, down.last, across.last))
        inside = _moved(box, around.top, around.left)
        result = torch.empty(len(x), box.height, box.width)
        for channel in range(len(x)):  # one at a time: they are computed in float64
            planes = (y[channel : channel + 1].numpy(), small[channel : channel + 1].numpy())
            made = torch.from_numpy(project(*planes, down.taps, across.taps))
            result[channel] = _part(made, inside)[0]
        return result.clamp_(0, 1)

    def _shrink(self, first: int, last: int, length: int, out: int, axis: str) -> _Shrink:
        """The way back to the input along an axis, for results first..last and a margin."""
        wraps = axis in self.look.wrap
        begin = first * length // out - _MARGIN
        end = -(-last * length // out) + _MARGIN
        if not wraps:
            begin, end = max(0, begin), min(length, end)
        taps = self._taps(begin, end, out, length, axis)
        low, high = taps.span
        low, high = min(low, first), max(high, last)
        return _Shrink(begin, end, low, high, taps.moved(low))


@dataclass(frozen=True)
class _Shrink:
    """Input pixels first..last as sums of result pixels start..end, counted from start."""

    first: int
    last: int
    start: int
    end: int
    taps: Taps


def _moved(box: Box, top: int, left: int) -> Box:
    return Box(box.top - top, box.left - left, box.bottom - top, box.right - left)


def _part(x: Tensor, box: Box) -> Tensor:
    """A part of (C, H, W); beyond an end the picture begins anew."""
    for dim, first, last in ((1, box.top, box.bottom), (2, box.left, box.right)):
        length = x.shape[dim]
        if first >= 0 and last <= length:
            x = x.narrow(dim, first, last - first)
        else:
            x = x.index_select(dim, torch.arange(first, last) % length)
    return x
