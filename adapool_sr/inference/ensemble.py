"""Self-ensemble: the mean of a network's results over the eight flips and turns of its input.

The "geometric self-ensemble" of Lim et al., "Enhanced Deep Residual Networks for Single Image
Super-Resolution", CVPRW 2017, section 3.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from adapool_sr.inference.tiles import Box

__all__ = ["AS_IT_IS", "TURNINGS", "TURNS", "Turning", "self_ensembled"]


@dataclass(frozen=True)
class Turning:
    """One of the eight ways to lay a picture (C, H, W).

    Attributes:
        transposed: rows become columns first.
        flips: dimensions that are flipped then.
    """

    transposed: bool = False
    flips: tuple[int, ...] = ()

    def of(self, x: Tensor) -> Tensor:
        """The picture laid so."""
        return (x.transpose(1, 2) if self.transposed else x).flip(self.flips)

    def back(self, y: Tensor) -> Tensor:
        """A picture laid so, as it was."""
        y = y.flip(self.flips)
        return y.transpose(1, 2) if self.transposed else y

    def box(self, box: Box, height: int, width: int) -> Box:
        """Where a part of a picture of this size lies once the picture is laid so."""
        top, left, bottom, right = box.top, box.left, box.bottom, box.right
        if self.transposed:
            top, left, bottom, right = left, top, right, bottom
            height, width = width, height
        if 1 in self.flips:
            top, bottom = height - bottom, height - top
        if 2 in self.flips:
            left, right = width - right, width - left
        return Box(top, left, bottom, right)


AS_IT_IS = Turning()
"""The picture as it came, the first of the eight."""

TURNINGS = tuple(
    Turning(transposed, flips) for transposed in (False, True) for flips in ((), (1,), (2,), (1, 2))
)
"""All eight."""

TURNS = len(TURNINGS)
"""How many there are."""


def self_ensembled(x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Average ``run`` over the eight flips and turns of a picture, each turned back, in float.

    Args:
        x: (C, H, W) float.
        run: takes (C, H, W) or (C, W, H) and gives a new float picture, enlarged alike both ways.

    Returns:
        The mean of the eight, contiguous, of the dtype that ``run`` gives.
    """
    total = run(x)
    for turning in TURNINGS[1:]:
        total += turning.back(run(turning.of(x)))
    return total.div_(TURNS)
