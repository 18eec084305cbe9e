from __future__ import annotations

import numpy as np
import pytest
import torch

from adapool_sr.imaging.resize import imresize
from adapool_sr.inference.alpha import bleed, hold_flat, is_flat
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.images import Picture, quantise


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


def test_flat_parts_stay_exact_and_edges_are_the_networks() -> None:
    alpha = torch.zeros(1, 16, 16)
    alpha[:, :, 8:] = 1
    enlarged = torch.full((1, 24, 24), 0.4)
    held = hold_flat(enlarged, alpha)
    assert held[:, :, :9].abs().max() == 0
    assert held[:, :, 15:].min() == 1
    assert torch.equal(held[:, :, 9:15], enlarged[:, :, 9:15])


def test_a_plane_of_one_value_is_flat() -> None:
    assert is_flat(torch.full((1, 3, 3), 0.3))
    assert not is_flat(torch.tensor([[[0.3, 0.3, 0.31]]]))


def test_alpha_is_as_sharp_as_the_network_makes_it() -> None:
    fine = np.zeros((96, 96), np.float32)
    ys, xs = np.mgrid[0:96, 0:96]
    for centre, radius in (((30, 34), 22.3), ((66, 60), 18.7)):
        distance = np.hypot(ys - centre[0], xs - centre[1])
        fine = np.maximum(fine, np.clip(radius - distance + 0.5, 0, 1))
    wanted = torch.from_numpy(fine)[None]
    small = quantise(imresize(wanted, 0.5, rounded=False)).float() / 255
    picture = Picture(torch.full((3, 48, 48), 0.5), small)
    result = Upscaler.from_pretrained("tiny-x2").upscale_picture(picture).alpha
    assert result is not None
    found = result.float() / 255
    bicubic = imresize(small, 2, rounded=False).clamp(0, 1)
    loss, before = ((each - wanted).square().mean() for each in (found, bicubic))
    assert loss < before / 2
    assert found[wanted == 0].max() < bicubic[wanted == 0].max()
    assert float(found[0, 28:40, 28:40].min()) == 1  # the inside is opaque, to the bit
    assert float(found[0, :6, :6].max()) == 0


@pytest.mark.parametrize("ground", [0.0, 1.0])
def test_a_cut_out_shows_no_halo_on_any_ground(ground: float) -> None:
    pixels = torch.zeros(3, 32, 32)
    pixels[1] = 1  # green where nothing is seen
    alpha = torch.zeros(1, 32, 32)
    ys, xs = np.mgrid[0:32, 0:32]
    alpha[0] = torch.from_numpy(np.clip(10.5 - np.hypot(ys - 15.5, xs - 15.5), 0, 1))
    red = torch.tensor([0.8, 0.1, 0.1])[:, None, None]
    pixels = torch.where(alpha > 0, red, pixels)
    result = Upscaler.from_pretrained("tiny-x2").upscale_picture(Picture(pixels, alpha))
    assert result.alpha is not None
    opacity, colours = result.alpha.float() / 255, result.pixels.float() / 255
    shown = opacity * colours + (1 - opacity) * ground
    pure = opacity * red + (1 - opacity) * ground
    assert (shown - pure).abs().max() < 3 / 255
