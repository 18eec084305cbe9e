"""Cutting a picture into tiles whose results join without a seam: integers only, no torch.

A tile's *core* is the part of the picture it answers for; cores cover the picture once. Its
*window* is what the network sees: the core and a halo of at least the receptive radius, cut
at the picture's edges. Windows begin at multiples of the network's size multiple, so that its
pooling grid lies on the same pixels as over the whole picture; then every output pixel of the
core has the same inputs as without tiles, and the same value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Box", "Tile", "halo_for", "plan_tiles", "split"]


@dataclass(frozen=True)
class Box:
    """A rectangle of input pixels; ``bottom`` and ``right`` are beyond the last."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def area(self) -> int:
        """Pixels."""
        return self.height * self.width


@dataclass(frozen=True)
class Tile:
    """One call of the network.

    Attributes:
        core: the input pixels whose output is kept; it begins at multiples of the network's
            size multiple.
        window: the input pixels that the network sees; contains the core.
    """

    core: Box
    window: Box

    def crop(self, scale: int) -> Box:
        """Where the core lies in the network's output for the window."""
        top, left = self.core.top - self.window.top, self.core.left - self.window.left
        return Box(
            top * scale,
            left * scale,
            (top + self.core.height) * scale,
            (left + self.core.width) * scale,
        )

    def place(self, scale: int) -> Box:
        """Where the core lies in the enlarged picture."""
        core = self.core
        return Box(core.top * scale, core.left * scale, core.bottom * scale, core.right * scale)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def halo_for(radius: int, multiple: int) -> int:
    """The halo of a network: its receptive radius, rounded up to its size multiple."""
    return _round_up(radius, multiple)


def _cuts(length: int, side: int, multiple: int) -> Iterator[tuple[int, int]]:
    """Cut 0..length into nearly equal pieces of at most side, each from a multiple."""
    side = max(multiple, side // multiple * multiple)
    pieces = -(-length // side)
    even = _round_up(-(-length // pieces), multiple)  # no sliver at the end; never above side
    for start in range(0, length, even):
        yield start, min(start + even, length)


def _tile(core: Box, height: int, width: int, multiple: int, halo: int) -> Tile:
    window = Box(
        max(0, core.top - halo),
        max(0, core.left - halo),
        min(height, _round_up(core.bottom, multiple) + halo),
        min(width, _round_up(core.right, multiple) + halo),
    )
    return Tile(core, window)


def plan_tiles(height: int, width: int, side: int, *, multiple: int, radius: int) -> list[Tile]:
    """Cut a picture into tiles, row by row.

    Args:
        height: input pixels, at least 1.
        width: input pixels, at least 1.
        side: the longest side of a core; 0 for one tile. Rounded down to the multiple, and
            at least the multiple.
        multiple: the network's size multiple.
        radius: the network's receptive radius: the furthest input pixel that can change an
            output pixel.

    Raises:
        ValueError: an argument out of its range.
    """
    if height < 1 or width < 1:
        raise ValueError(f"a picture has at least 1x1 pixels, got {width}x{height}")
    if side < 0 or multiple < 1 or radius < 0:
        raise ValueError(f"out of range: side={side}, multiple={multiple}, radius={radius}")
    if side == 0:
        whole = Box(0, 0, height, width)
        return [Tile(whole, whole)]
    halo = halo_for(radius, multiple)
    return [
        _tile(Box(top, left, bottom, right), height, width, multiple, halo)
        for top, bottom in _cuts(height, side, multiple)
        for left, right in _cuts(width, side, multiple)
    ]


def split(tile: Tile, height: int, width: int, *, multiple: int, radius: int) -> list[Tile]:
    """Halve a tile's longer side, for a device that has no memory for the whole.

    Args:
        tile: the tile to halve.
        height: of the picture it belongs to.
        width: of the picture it belongs to.
        multiple: as for :func:`plan_tiles`.
        radius: as for :func:`plan_tiles`.

    Returns:
        Two tiles with the core of the one; none if it cannot be halved.
    """
    core, halo = tile.core, halo_for(radius, multiple)
    if max(core.height, core.width) <= multiple:
        return []
    if core.height >= core.width:
        middle = core.top + _round_up(core.height // 2, multiple)
        cores = [
            Box(core.top, core.left, middle, core.right),
            Box(middle, core.left, core.bottom, core.right),
        ]
    else:
        middle = core.left + _round_up(core.width // 2, multiple)
        cores = [
            Box(core.top, core.left, core.bottom, middle),
            Box(core.top, middle, core.bottom, core.right),
        ]
    return [_tile(each, height, width, multiple, halo) for each in cores]
