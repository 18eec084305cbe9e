"""How large the results are to be: a factor, or a side or box that each picture is brought to.

Imports no torch: a command checks its flags and plans its sizes before any work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from adapool_sr.files.errors import UsageError

__all__ = ["Route", "Size", "route"]

# Of the factor of repeated passes: 1.2 ** 2 is not the float 1.44.
_NEARLY = 1e-9


@dataclass(frozen=True)
class Size:
    """A rule for the size of results; the aspect always stays. One of the five is given.

    Attributes:
        width: pixels of a row.
        height: pixels of a column.
        max_side: pixels of the longer side.
        min_side: pixels of the shorter side.
        fit: (width, height) of a box that the picture shall fill in one direction at least.
        skip_larger: leave alone what has that size or more.

    Raises:
        UsageError: none or several of the five, or one below 1.

    Example:
        >>> Size(fit=(1920, 1080)).of(height=400, width=300)
        (1080, 810)
    """

    width: int | None = None
    height: int | None = None
    max_side: int | None = None
    min_side: int | None = None
    fit: tuple[int, int] | None = None
    skip_larger: bool = False

    def __post_init__(self) -> None:
        given = {
            "--width": self.width,
            "--height": self.height,
            "--max-side": self.max_side,
            "--min-side": self.min_side,
            "--fit": self.fit,
        }
        named = [flag for flag, value in given.items() if value is not None]
        if not named:
            raise UsageError("size", "is not given", f"one of {', '.join(given)}")
        if len(named) > 1:
            remedy = "--fit WxH keeps the aspect inside both"
            raise UsageError(" and ".join(named), "stand for two sizes", remedy)
        value = given[named[0]]
        if min(value if isinstance(value, tuple) else (value or 0,)) < 1:
            raise UsageError(named[0], f"must be at least 1 pixel, got {value}")

    def factor(self, height: int, width: int) -> Fraction:
        """Exact enlargement of a picture of this size."""
        if self.fit is not None:
            return min(Fraction(self.fit[0], width), Fraction(self.fit[1], height))
        sides = (
            (self.width, width),
            (self.height, height),
            (self.max_side, max(height, width)),
            (self.min_side, min(height, width)),
        )
        return next(Fraction(wanted, side) for wanted, side in sides if wanted is not None)

    def of(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result: the wanted side exactly, the other rounded."""
        factor = self.factor(height, width)
        return _rounded(height * factor), _rounded(width * factor)

    def skips(self, height: int, width: int) -> bool:
        """Whether a picture of this size is to be left alone."""
        return self.skip_larger and self.factor(height, width) <= 1

    def __str__(self) -> str:
        if self.fit is not None:
            return f"{self.fit[0]}x{self.fit[1]} at most"
        names = (
            (self.width, "wide"),
            (self.height, "high"),
            (self.max_side, "on the longer side"),
            (self.min_side, "on the shorter side"),
        )
        return next(f"{pixels} pixels {words}" for pixels, words in names if pixels is not None)


@dataclass(frozen=True)
class Route:
    """How a picture gets from its size to another.

    Attributes:
        height: of the input.
        width: of the input.
        passes: how often the network runs; 0 where the result is smaller than the input.
        grown: the factor of all passes together.
        rows: of the result.
        columns: of the result.
    """

    height: int
    width: int
    passes: int
    grown: int
    rows: int
    columns: int

    @property
    def exact(self) -> bool:
        """Whether the network alone reaches the size, so that no resize follows."""
        return (self.rows, self.columns) == (self.height * self.grown, self.width * self.grown)


def route(height: int, width: int, factor: float | Size, model_scale: int) -> Route:
    """Plan the way of a picture.

    The network runs as often as is needed to reach the size, and one exact resize brings the
    result to it. What is not to become larger than it is runs through no network that enlarges.

    Args:
        height: of the input.
        width: of the input.
        factor: wanted, or the rule that says it.
        model_scale: the network's own factor.
    """
    if isinstance(factor, Size):
        rows, columns = factor.of(height, width)
        wanted = float(factor.factor(height, width))
    else:
        wanted = factor
        rows, columns = (max(1, math.floor(side * wanted + 0.5)) for side in (height, width))
    passes = 0 if wanted <= 1 and model_scale > 1 else 1
    while model_scale > 1 and model_scale**passes < wanted - _NEARLY:
        passes += 1
    return Route(height, width, passes, model_scale**passes, rows, columns)


def _rounded(value: Fraction) -> int:
    """Half up, at least 1."""
    return max(1, math.floor(value + Fraction(1, 2)))
