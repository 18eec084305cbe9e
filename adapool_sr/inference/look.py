"""How results are to look: nearer to bicubic, true to the input, without a seam when tiled.

Imports no torch, as :mod:`adapool_sr.inference.sizes`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from adapool_sr.files.errors import UsageError

__all__ = ["MOST_STRENGTH", "Look", "Wrap"]

Wrap = Literal["", "x", "y", "xy"]

#: More than this shows noise: at 2 what the network adds to bicubic is doubled.
MOST_STRENGTH = 2.0


@dataclass(frozen=True)
class Look:
    """What is done to the network's result, in float, before the one rounding.

    Attributes:
        strength: s of bicubic + s·(network − bicubic), 0 to 2: 0 is bicubic and runs no
            network, 1 the network's result.
        wrap: the axes on which the picture goes on with its other end, as a tiling texture does.
        consistent: change the result by the least that makes the exact resize back to the
            input's size give the input.

    Raises:
        UsageError: a strength outside 0..2, or other axes.
    """

    strength: float = 1.0
    wrap: Wrap = ""
    consistent: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.strength) and 0 <= self.strength <= MOST_STRENGTH):
            raise UsageError("strength", f"must be 0 to {MOST_STRENGTH:g}, got {self.strength}")
        if self.wrap not in get_args(Wrap):
            raise UsageError("wrap", f"must be x, y or xy, got {self.wrap!r}")

    @property
    def plain(self) -> bool:
        """Whether the result is the network's own."""
        return self == Look()
