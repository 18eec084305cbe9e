from __future__ import annotations

import pytest

from adapool_sr.files.errors import UsageError
from adapool_sr.inference.sizes import Size, route

PORTRAIT, LANDSCAPE, SQUARE = (400, 300), (300, 400), (300, 300)  # height, width


@pytest.mark.parametrize(
    ("size", "given", "result"),
    [
        (Size(width=1000), LANDSCAPE, (750, 1000)),
        (Size(width=1000), PORTRAIT, (1333, 1000)),
        (Size(height=1000), PORTRAIT, (1000, 750)),
        (Size(height=1001), LANDSCAPE, (1001, 1335)),
        (Size(max_side=1000), PORTRAIT, (1000, 750)),
        (Size(max_side=1000), LANDSCAPE, (750, 1000)),
        (Size(min_side=1000), PORTRAIT, (1333, 1000)),
        (Size(min_side=1000), SQUARE, (1000, 1000)),
        (Size(fit=(1920, 1080)), LANDSCAPE, (1080, 1440)),
        (Size(fit=(1920, 1080)), PORTRAIT, (1080, 810)),
        (Size(fit=(500, 1080)), PORTRAIT, (667, 500)),
        (Size(fit=(100, 100)), LANDSCAPE, (75, 100)),
        (Size(max_side=7), (1, 1), (7, 7)),
        (Size(max_side=2), (1, 900), (1, 2)),
    ],
)
def test_the_wanted_side_is_exact_and_the_aspect_stays(
    size: Size, given: tuple[int, int], result: tuple[int, int]
) -> None:
    assert size.of(*given) == result
    way = route(*given, size, 2)
    assert (way.rows, way.columns) == result


@pytest.mark.parametrize("width", range(1, 400, 7))
def test_a_box_is_filled_in_one_direction_and_never_left(width: int) -> None:
    for height in range(1, 300, 13):
        rows, columns = Size(fit=(640, 480)).of(height, width)
        assert rows == 480 or columns == 640
        assert rows <= 480
        assert columns <= 640


@pytest.mark.parametrize(
    ("factor", "scale", "passes", "exact"),
    [
        (2, 2, 1, True),
        (1.5, 2, 1, False),
        (3, 2, 2, False),
        (4, 2, 2, True),
        (1, 2, 0, True),
        (0.5, 2, 0, False),
        (3, 3, 1, True),
        (9, 3, 2, True),
        (3, 4, 1, False),
        (1, 1, 1, True),
        (2, 1, 1, False),
        (0.5, 1, 1, False),
        (Size(width=80), 2, 1, True),
        (Size(width=81), 2, 2, False),
        (Size(max_side=20), 2, 0, False),
    ],
)
def test_the_network_runs_as_often_as_it_must(
    factor: float | Size, scale: int, passes: int, exact: bool
) -> None:
    way = route(30, 40, factor, scale)
    assert (way.passes, way.exact) == (passes, exact)
    assert way.grown == scale**passes


def test_rounding_the_other_side_up_costs_no_second_pass() -> None:
    for height in range(1, 60):
        assert route(height, 50, Size(width=99), 2).passes == 1
        assert route(height, 50, Size(width=100), 2).exact


@pytest.mark.parametrize(
    ("size", "given", "skips"),
    [
        (Size(max_side=400, skip_larger=True), LANDSCAPE, True),
        (Size(max_side=401, skip_larger=True), LANDSCAPE, False),
        (Size(min_side=301, skip_larger=True), LANDSCAPE, False),
        (Size(fit=(400, 400), skip_larger=True), PORTRAIT, True),
        (Size(width=300), LANDSCAPE, False),
    ],
)
def test_what_has_the_size_is_skipped_if_wanted(
    size: Size, given: tuple[int, int], skips: bool
) -> None:
    assert size.skips(*given) is skips


def test_two_sizes_or_none_are_refused() -> None:
    with pytest.raises(UsageError, match="--width and --fit: stand for two sizes"):
        Size(width=3, fit=(3, 4))
    with pytest.raises(UsageError, match="size: is not given"):
        Size(skip_larger=True)
    with pytest.raises(UsageError, match="--max-side: must be at least 1 pixel"):
        Size(max_side=0)


def test_a_size_says_what_it_is() -> None:
    assert str(Size(fit=(1920, 1080))) == "1920x1080 at most"
    assert str(Size(min_side=7)) == "7 pixels on the shorter side"
