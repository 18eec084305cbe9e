from __future__ import annotations

import numpy as np
import pytest
import torch

from adapool_sr.imaging.consistency import project
from adapool_sr.imaging.resize import imresize
from adapool_sr.imaging.taps import Taps, bicubic_taps


def shrink(small: int, large: int) -> Taps:
    return bicubic_taps(0, small, small / large).clamped(large)


@pytest.mark.parametrize(
    ("small", "large"),
    [
        ((7, 9), (14, 18)),
        ((6, 11), (20, 33)),
        ((80, 5), (84, 40)),
        ((1, 1), (3, 2)),
        ((4, 3), (4, 3)),
    ],
)
def test_the_result_shrinks_to_the_given_picture(
    small: tuple[int, int], large: tuple[int, int]
) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.random((3, *small)), rng.random((3, *large)).astype(np.float32)
    tables = [shrink(*sides) for sides in zip(small, large, strict=True)]
    result = project(y, x, *tables)
    again = imresize(torch.from_numpy(result), size=small, rounded=False).numpy()
    assert np.abs(again - x).max() < 1e-9
    assert np.abs(project(result, x, *tables) - result).max() < 1e-9


def test_the_change_is_the_least_there_is() -> None:
    # The least change is orthogonal to all that the shrink does not see.
    rng = np.random.default_rng(1)
    x, y = rng.random((1, 5, 6)), rng.random((1, 10, 12))
    tables = shrink(5, 10), shrink(6, 12)
    change = project(y, x, *tables) - y
    unseen = project(rng.random((1, 10, 12)), np.zeros((1, 5, 6)), *tables)
    assert abs(float((change * unseen).sum())) < 1e-9


def test_it_never_leads_away_from_a_picture_that_shrinks_to_the_same() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random((1, 12, 16))
    x = imresize(torch.from_numpy(truth), size=(6, 8), rounded=False).numpy()
    for _ in range(5):
        y = truth + rng.normal(0, 0.1, truth.shape)
        result = project(y, x, shrink(6, 12), shrink(8, 16))
        assert ((result - truth) ** 2).sum() < ((y - truth) ** 2).sum()


def test_an_enlargement_is_refused() -> None:
    with pytest.raises(ValueError, match="make a picture larger"):
        project(np.zeros((1, 4, 4)), np.zeros((1, 8, 8)), shrink(8, 4), shrink(8, 4))
