from __future__ import annotations

import random

import pytest

from adapool_sr.inference.pace import Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_foretold_before_anything_is_known() -> None:
    clock = Clock()
    pace = Pace({"a": 10.0, "b": 10.0}, clock)
    assert (pace.share, pace.seconds_left, pace.images_per_second) == (0.0, None, None)
    pace.progress("a", 0.5)
    assert pace.seconds_left is None
    assert pace.words() == "…"


@pytest.mark.parametrize("seed", range(5))
def test_after_ten_seconds_the_time_left_is_within_a_fifth(seed: int) -> None:
    # Pictures from a thumbnail to 24 megapixels, tile by tile; the first call of the network is
    # ten times as slow, and each picture costs its pixels and a little more.
    choose = random.Random(seed)
    sizes = {f"{i}.png": float(choose.choice([5e4, 3e5, 2e6, 24e6])) for i in range(200)}
    rate, each = 2e6, 0.02
    clock = Clock()
    pace = Pace({name: size + 10_000 for name, size in sizes.items()}, clock)
    began, foretold = clock.now, []
    for number, (name, size) in enumerate(sizes.items()):
        tiles = max(1, round(size / 2.5e5))
        for tile in range(tiles):
            clock.now += size / tiles / rate * (10 if number == tile == 0 else 1)
            pace.progress(name, (tile + 1) / tiles)
            if clock.now - began > 10 and pace.seconds_left is not None:
                foretold.append((clock.now, pace.seconds_left))
        clock.now += each
        pace.finished(name, int(4 * size))
    # The largest picture takes 12 s: what is left of the last ones is not asked for to 20 %.
    for when, left in foretold:
        really = clock.now - when
        if really > 5:
            assert left == pytest.approx(really, rel=0.2)
    assert pace.seconds_left == 0


def test_all_is_done_only_with_the_last_name() -> None:
    pace = Pace({"a": 1.0, "b": 3.0}, Clock())
    pace.progress("a", 1.0)
    pace.progress("b", 1.0)
    assert pace.share == pytest.approx(0.9)
    pace.finished("a", 10)
    assert pace.share == pytest.approx((1 + 2.7) / 4)
    pace.dropped("b")
    assert (pace.share, pace.images, pace.pixels) == (1.0, 1, 10)


def test_rates_and_time_left_are_worded() -> None:
    clock = Clock()
    pace = Pace({name: 1.0 for name in map(str, range(200))}, clock)
    pace.progress("0", 0)
    for number in range(20):
        clock.now += 0.5
        pace.finished(str(number), 500_000)
    assert pace.images_per_second == pytest.approx(2)
    assert pace.words() == "2.00 images/s, 1.00 megapixels/s, 1:30 left"
    assert Pace({}, clock).share == 1.0


def test_a_machine_that_becomes_busy_is_followed() -> None:
    clock = Clock()
    pace = Pace({name: 1.0 for name in map(str, range(1000))}, clock)
    for number in range(200):
        clock.now += 0.5 if number < 100 else 2.0
        pace.finished(str(number), 1)
    assert pace.seconds_left == pytest.approx(800 * 2.0, rel=0.05)


def test_names_that_were_not_announced_do_not_disturb() -> None:
    pace = Pace({"a": 1.0}, Clock())
    pace.progress("other", 1.0)
    pace.finished("other", 1)
    assert pace.share == 0.0
