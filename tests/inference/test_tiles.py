from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapool_sr.inference.tiles import Box, Tile, halo_for, plan_tiles, split

SIZES = st.integers(1, 120)
MULTIPLES = st.sampled_from([1, 2, 3, 4, 8])
SIDES = st.integers(0, 150)
RADII = st.integers(0, 40)


def check_tile(tile: Tile, height: int, width: int, multiple: int, radius: int) -> None:
    core, window = tile.core, tile.window
    assert core.top % multiple == core.left % multiple == 0
    assert window.top % multiple == window.left % multiple == 0
    assert 0 <= window.top <= core.top < core.bottom <= window.bottom <= height
    assert 0 <= window.left <= core.left < core.right <= window.right <= width
    # Every pixel that can change the core is seen, unless the picture ends before.
    assert window.top <= max(0, core.top - radius)
    assert window.left <= max(0, core.left - radius)
    assert window.bottom >= min(height, core.bottom + radius)
    assert window.right >= min(width, core.right + radius)


@settings(deadline=None, max_examples=150)
@given(SIZES, SIZES, SIDES, MULTIPLES, RADII)
def test_cores_cover_the_picture_once_and_windows_hold_the_halo(
    height: int, width: int, side: int, multiple: int, radius: int
) -> None:
    tiles = plan_tiles(height, width, side, multiple=multiple, radius=radius)
    covered = np.zeros((height, width), int)
    for tile in tiles:
        check_tile(tile, height, width, multiple, radius)
        covered[tile.core.top : tile.core.bottom, tile.core.left : tile.core.right] += 1
        if side:
            assert max(tile.core.height, tile.core.width) <= max(side, multiple)
    assert (covered == 1).all()
    if side == 0:
        assert tiles == [Tile(Box(0, 0, height, width), Box(0, 0, height, width))]


@settings(deadline=None, max_examples=150)
@given(SIZES, SIZES, SIDES, MULTIPLES, RADII, st.integers(1, 4))
def test_crops_of_the_windows_results_make_the_result(
    height: int, width: int, side: int, multiple: int, radius: int, scale: int
) -> None:
    picture = np.arange(height * width).reshape(height, width)
    wanted = picture.repeat(scale, 0).repeat(scale, 1)
    result = np.full_like(wanted, -1)
    for tile in plan_tiles(height, width, side, multiple=multiple, radius=radius):
        window, crop, place = tile.window, tile.crop(scale), tile.place(scale)
        seen = picture[window.top : window.bottom, window.left : window.right]
        out = seen.repeat(scale, 0).repeat(scale, 1)
        result[place.top : place.bottom, place.left : place.right] = out[
            crop.top : crop.bottom, crop.left : crop.right
        ]
    assert np.array_equal(result, wanted)


@settings(deadline=None, max_examples=150)
@given(SIZES, SIZES, SIDES, MULTIPLES, RADII, st.data())
def test_halves_make_the_tile_again_down_to_the_smallest(
    height: int, width: int, side: int, multiple: int, radius: int, data: st.DataObject
) -> None:
    tile = data.draw(
        st.sampled_from(plan_tiles(height, width, side, multiple=multiple, radius=radius))
    )
    halves = split(tile, height, width, multiple=multiple, radius=radius)
    if max(tile.core.height, tile.core.width) <= multiple:
        assert halves == []
        return
    assert len(halves) == 2
    assert sum(half.core.area for half in halves) == tile.core.area
    for half in halves:
        check_tile(half, height, width, multiple, radius)
        assert half.core.area < tile.core.area


def test_tiles_are_nearly_equal() -> None:
    tiles = plan_tiles(1, 1030, 512, multiple=2, radius=8)
    assert [tile.core.width for tile in tiles] == [344, 344, 342]


def test_the_halo_is_the_radius_rounded_up() -> None:
    assert [halo_for(radius, 4) for radius in (0, 1, 4, 21)] == [0, 4, 4, 24]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 0}, "at least 1x1 pixels, got 5x0"),
        ({"side": -1}, "side=-1"),
        ({"multiple": 0}, "multiple=0"),
        ({"radius": -1}, "radius=-1"),
    ],
)
def test_impossible_geometry_is_refused(change: dict[str, int], words: str) -> None:
    arguments = {"height": 5, "width": 5, "side": 2, "multiple": 1, "radius": 1, **change}
    with pytest.raises(ValueError, match=words):
        plan_tiles(**arguments)
