"""A piece of a picture: where it lies in the result, and what the network must see for it.

Integers only, no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapool_sr.files.errors import UsageError
from adapool_sr.inference.sizes import Route
from adapool_sr.inference.tiles import Box, halo_for

__all__ = ["Crop", "Step", "steps_for"]


@dataclass(frozen=True)
class Crop:
    """A rectangle of a picture.

    Attributes:
        x: its first column.
        y: its first row.
        width: columns.
        height: rows.

    Raises:
        UsageError: one without pixels, or beyond the left or upper edge.
    """

    x: int
    y: int
    width: int
    height: int

    def __post_init__(self) -> None:
        if min(self.x, self.y) < 0 or min(self.width, self.height) < 1:
            raise UsageError(
                f"crop {self}", "must begin at 0 or more and hold pixels", "give x,y,width,height"
            )

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"

    def check(self, height: int, width: int) -> None:
        """Refuse a rectangle that does not lie in a picture of this size.

        Raises:
            UsageError: it does not.
        """
        if self.x + self.width > width or self.y + self.height > height:
            raise UsageError(
                f"crop {self}",
                f"reaches beyond the picture's {width}x{height} pixels",
                "choose a piece inside",
            )

    def place(self, route: Route) -> Box:
        """Where it lies in the result, to the nearest pixel and never empty."""
        top, bottom = _scaled(self.y, self.y + self.height, route.rows, route.height)
        left, right = _scaled(self.x, self.x + self.width, route.columns, route.width)
        return Box(top, left, bottom, right)


def _scaled(first: int, last: int, out: int, length: int) -> tuple[int, int]:
    begin, end = ((2 * edge * out + length) // (2 * length) for edge in (first, last))
    begin = min(begin, out - 1)
    return begin, max(end, begin + 1)


@dataclass(frozen=True)
class Step:
    """One pass of the network over a part of its input.

    Attributes:
        window: the input pixels that it sees.
        wanted: the output pixels that are kept, counted from the whole output's corner.
    """

    window: Box
    wanted: Box


def steps_for(
    box: Box, height: int, width: int, passes: int, *, scale: int, multiple: int, radius: int
) -> list[Step]:
    """What each pass must see, so that a part of the last one's output is as in a whole run.

    Args:
        box: the part, in pixels of the last output.
        height: of the first input.
        width: of the first input.
        passes: how often the network runs.
        scale: the network's factor.
        multiple: the network's size multiple.
        radius: the network's receptive radius.
    """
    halo = halo_for(radius, multiple)
    steps = []
    for index in reversed(range(passes)):
        high, wide = height * scale**index, width * scale**index
        window = Box(
            max(0, (box.top // scale) // multiple * multiple - halo),
            max(0, (box.left // scale) // multiple * multiple - halo),
            min(high, -(-box.bottom // scale // multiple) * multiple + halo),
            min(wide, -(-box.right // scale // multiple) * multiple + halo),
        )
        steps.append(Step(window, box))
        box = window
    return steps[::-1]
