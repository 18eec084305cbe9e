from __future__ import annotations

import pytest
import torch

from adapool_sr.inference.alpha import bleed, bleed_evenly


def test_hidden_colours_become_those_around_them() -> None:
    pixels = torch.zeros(3, 9, 12)
    pixels[1] = 1.0  # the green of a cut-out's ground
    alpha = torch.zeros(1, 9, 12)
    pixels[:, :, 4:7], alpha[:, :, 4:7] = torch.tensor([0.8, 0.2, 0.1])[:, None, None], 0.5
    filled = bleed(pixels, alpha)
    assert torch.equal(filled[:, :, 4:7], pixels[:, :, 4:7])
    assert torch.allclose(filled, torch.tensor([0.8, 0.2, 0.1])[:, None, None].expand(3, 9, 12))


def test_two_colours_meet_between_them() -> None:
    pixels = torch.zeros(1, 4, 33)
    alpha = torch.zeros(1, 4, 33)
    alpha[..., 0] = alpha[..., -1] = 1
    pixels[..., -1] = 1
    row = bleed(pixels, alpha)[0, 0]
    assert row[1] < 0.3 < 0.7 < row[-2]  # each end is nearer to its own colour
    assert row.min() >= 0
    assert row.max() <= 1


def test_wholly_visible_and_wholly_hidden_pictures_stay() -> None:
    pixels = torch.rand(3, 5, 7)
    assert bleed(pixels, torch.full((1, 5, 7), 0.01)) is pixels
    assert bleed(pixels, torch.zeros(1, 5, 7)) is pixels


@pytest.mark.parametrize("wrap", ["x", "y", "xy"])
def test_even_bleeding_rolls_with_the_picture(wrap: str) -> None:
    pixels = torch.rand(3, 14, 17)
    alpha = (torch.rand(1, 14, 17) > 0.9).float()
    filled = bleed_evenly(pixels, alpha, 2, wrap)
    by = (3 * ("y" in wrap), 5 * ("x" in wrap))
    rolled = bleed_evenly(pixels.roll(by, (1, 2)), alpha.roll(by, (1, 2)), 2, wrap)
    assert (rolled - filled.roll(by, (1, 2))).abs().max() <= 1e-6
    assert torch.equal(filled[:, alpha[0] > 0], pixels[:, alpha[0] > 0])


def test_even_bleeding_takes_the_nearest_colours_and_far_off_the_mean() -> None:
    pixels = torch.zeros(1, 1, 40)
    alpha = torch.zeros(1, 1, 40)
    pixels[..., 0], alpha[..., 0], alpha[..., 10] = 1.0, 1.0, 1.0
    filled = bleed_evenly(pixels, alpha, 2, "x")[0, 0]
    assert filled[1:4].tolist() == [1, 1, 1]
    assert filled[7:14].tolist() == [0] * 7
    assert filled[25] == 0.5
    assert filled[39] == 1  # around the corner
    assert bleed_evenly(pixels, alpha, 2, "y")[0, 0, 39] == 0.5
