"""Weighted sums along an axis: the inside of every resize, also of a part of a picture.

A resize is a table of positions and weights for each of its output pixels. With the table at hand
some rows of a result can be made from the rows that they need, and the transposed operation is the
same kind of table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Taps", "bicubic_taps", "weigh"]

_Array = npt.NDArray[Any]

# Output rows and columns worked on at once: the float64 block of a shrink by 2 (72 x 512 inputs,
# 0.3 MB) stays in a core's second-level cache.
_BLOCK_ROWS = 32
_BLOCK_COLUMNS = 512


@dataclass(frozen=True, eq=False)
class Taps:
    """For each output position of an axis the input positions that it is a weighted sum of.

    Attributes:
        index: (outputs, taps) input positions; they may lie outside the picture until one of
            :meth:`clamped` and :meth:`mirrored` has brought them in.
        weight: (outputs, taps) float64.
    """

    index: npt.NDArray[np.intp]
    weight: npt.NDArray[np.float64]

    @property
    def span(self) -> tuple[int, int]:
        """The first input position that is used, and the one behind the last."""
        return int(self.index.min()), int(self.index.max()) + 1

    def clamped(self, length: int) -> Taps:
        """Beyond an axis of this length its outermost pixels go on."""
        return Taps(self.index.clip(0, length - 1), self.weight)

    def mirrored(self, length: int) -> Taps:
        """Beyond an axis of this length stands its mirror image."""
        index = self.index % (2 * length)
        return Taps(np.minimum(index, 2 * length - 1 - index), self.weight)

    def moved(self, by: int) -> Taps:
        """The same for an input that begins ``by`` pixels later."""
        return Taps(self.index - by, self.weight)

    def transposed(self, length: int) -> Taps:
        """The transposed table: outputs are this table's inputs 0..length, inputs its outputs."""
        outputs, taps = self.index.shape
        target, weight = self.index.ravel(), self.weight.ravel()
        source = np.repeat(np.arange(outputs), taps)
        order = np.argsort(target, kind="stable")
        target, source, weight = target[order], source[order], weight[order]
        count = np.bincount(target, minlength=length)
        place = np.arange(len(target)) - np.repeat(np.cumsum(count) - count, count)
        index = np.zeros((length, max(1, int(count.max()))), np.intp)
        weights = np.zeros(index.shape)
        index[target, place], weights[target, place] = source, weight
        return Taps(index, weights)


def bicubic_taps(first: int, last: int, scale: float) -> Taps:
    """The table of MATLAB's bicubic ``imresize`` for output positions first..last.

    Args:
        first: an output position; below 0 it lies before the picture.
        last: the position behind the last one.
        scale: output pixels for each input pixel.
    """
    stretch = min(scale, 1.0)
    width = 4.0 / stretch
    centre = (np.arange(first, last) + 0.5) / scale - 0.5
    left = np.floor(centre - width / 2).astype(np.intp)
    index = left[:, None] + np.arange(math.ceil(width) + 2)
    distance = np.abs((centre[:, None] - index) * stretch)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weight = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    weight /= weight.sum(axis=1, keepdims=True)
    used = np.flatnonzero(weight.any(axis=0))
    return Taps(index[:, used], weight[:, used])


def weigh(planes: _Array, taps: Taps, *, across: bool = False, rounded: bool = False) -> _Array:
    """Make the outputs of a table from the rows (or, ``across``, the columns) of planes.

    Every output is summed tap after tap in float64, so that every machine rounds alike and a part
    of a result equals the whole bit for bit.

    Args:
        planes: (L, H, W) of any number type.
        taps: whose positions all lie on the axis.
        across: along the columns.
        rounded: clamp to 0..255 and round half up to uint8.

    Returns:
        (L, outputs, W), or (L, H, outputs) across; contiguous float64, or uint8 if rounded.
    """
    if across:
        planes = planes.transpose(0, 2, 1)
    count, _, width = planes.shape
    index, weight = taps.index, taps.weight
    length = len(index)
    dtype = np.uint8 if rounded else np.float64
    # Written in the picture's own layout, so that a result is always contiguous.
    out = np.empty((count, width, length) if across else (count, length, width), dtype)
    view = out.transpose(0, 2, 1) if across else out
    for top in range(0, length, _BLOCK_ROWS):
        rows = slice(top, min(top + _BLOCK_ROWS, length))
        first, last = int(index[rows].min()), int(index[rows].max()) + 1
        for plane in range(count):
            for start in range(0, width, _BLOCK_COLUMNS):
                columns = slice(start, min(start + _BLOCK_COLUMNS, width))
                # A copy even of float64 planes: the block is contiguous whatever the axis.
                block = np.array(planes[plane, first:last, columns], dtype=np.float64, order="C")
                mixed = _mix(block, index[rows] - first, weight[rows])
                if rounded:
                    mixed += 0.5
                    np.floor(mixed, out=mixed)
                    np.clip(mixed, 0, 255, out=mixed)
                view[plane, rows, columns] = mixed
    return out


def _mix(
    block: npt.NDArray[np.float64], index: npt.NDArray[np.intp], weight: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Weighted sums of a block's rows, tap after tap, so that every machine rounds alike."""
    total = np.zeros((len(index), block.shape[1]))
    product = np.empty_like(total)
    for tap in range(index.shape[1]):
        rows = index[:, tap]
        step = int(rows[1] - rows[0]) if len(rows) > 1 else 1
        if step > 0 and np.all(np.diff(rows) == step):
            chosen = block[int(rows[0]) : int(rows[-1]) + 1 : step]
        else:
            chosen = block[rows]
        np.multiply(chosen, weight[:, tap, None], out=product)
        total += product
    return total
