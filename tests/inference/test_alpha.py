from __future__ import annotations

import torch

from adapool_sr.inference.alpha import bleed


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
