from __future__ import annotations

from itertools import pairwise

import pytest

from adapool_sr.files.errors import UsageError
from adapool_sr.inference.crops import Crop, steps_for
from adapool_sr.inference.sizes import Size, route
from adapool_sr.inference.tiles import Box


def test_a_piece_lies_where_its_pixels_go() -> None:
    assert Crop(10, 20, 30, 40).place(route(100, 80, 2, 2)) == Box(40, 20, 120, 80)
    assert Crop(1, 0, 3, 1).place(route(9, 9, 1.5, 2)) == Box(0, 2, 2, 6)
    whole = Crop(0, 0, 7, 9).place(route(9, 7, Size(width=50), 2))
    assert whole == Box(0, 0, 64, 50)


def test_no_piece_is_empty() -> None:
    for x in range(9):
        box = Crop(x, x, 1, 1).place(route(9, 9, 0.2, 2))
        assert box.area == 1
        assert box.bottom <= 2


def test_neighbouring_pieces_meet_without_a_gap() -> None:
    way = route(50, 50, 1.37, 2)
    edges = [Crop(x, 0, 1, 1).place(way) for x in range(50)]
    assert all(one.right == two.left for one, two in pairwise(edges))
    assert edges[-1].right == way.columns


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("multiple", [1, 2, 4])
def test_each_pass_sees_what_the_next_one_needs(passes: int, multiple: int) -> None:
    geometry = {"scale": 2, "multiple": multiple, "radius": 5}
    box = Box(37, 10, 60, 91)
    steps = steps_for(box, 40, 50, passes, **geometry)
    assert len(steps) == passes
    assert steps[-1].wanted == box
    for step, following in pairwise(steps):
        assert step.wanted == following.window
    for step in steps:
        assert step.window.top % multiple == step.window.left % multiple == 0
        assert step.window.top == 0 or step.window.top <= step.wanted.top // 2 - 5


def test_pieces_outside_a_picture_are_refused() -> None:
    with pytest.raises(UsageError, match="crop 5,0,6,2: reaches beyond the picture's 10x4"):
        Crop(5, 0, 6, 2).check(4, 10)
    with pytest.raises(UsageError, match="must begin at 0 or more and hold pixels"):
        Crop(0, 0, 0, 2)
