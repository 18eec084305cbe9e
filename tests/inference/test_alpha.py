from __future__ import annotations

import numpy as np
import pytest
import torch

from adapool_sr.imaging.resize import imresize
from adapool_sr.inference.alpha import bleed, bleed_evenly, hold_flat, is_flat
from adapool_sr.inference.tiles import Box
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


def test_flat_parts_stay_exact_and_edges_are_the_networks() -> None:
    alpha = torch.zeros(1, 16, 16)
    alpha[:, :, 8:] = 1
    enlarged = torch.full((1, 24, 24), 0.4)
    held = hold_flat(enlarged, alpha, (24, 24), Box(0, 0, 24, 24), "")
    assert held[:, :, :11].abs().max() == 0
    assert held[:, :, 14:].min() == 1
    assert torch.equal(held[:, :, 11:14], enlarged[:, :, 11:14])


def test_flat_parts_of_a_piece_are_those_of_the_whole() -> None:
    alpha = torch.zeros(1, 16, 16)
    alpha[:, :, 8:] = 1
    enlarged = torch.full((1, 24, 24), 0.4)
    whole = hold_flat(enlarged, alpha, (24, 24), Box(0, 0, 24, 24), "")
    piece = hold_flat(enlarged[:, 2:9, 5:20], alpha, (24, 24), Box(2, 5, 9, 20), "")
    assert torch.equal(piece, whole[:, 2:9, 5:20])


def test_flat_parts_roll_with_a_wrapped_picture() -> None:
    alpha = torch.zeros(1, 8, 16)
    alpha[:, :, 8:] = 1
    enlarged = torch.full((1, 16, 32), 0.4)
    whole = (16, 32), Box(0, 0, 16, 32), "x"
    held = hold_flat(enlarged, alpha, *whole)
    rolled = hold_flat(enlarged, alpha.roll(3, 2), *whole)
    assert torch.equal(rolled, held.roll(6, 2))
    assert held[0, 0, 0] == enlarged[0, 0, 0]  # an edge, around the corner


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


def test_a_hard_edge_rings_no_further_than_two_pixels() -> None:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    inside = torch.hypot(x - 32, y - 32) < 20
    picture = Picture(torch.full((3, 64, 64), 0.6), alpha=inside[None].float())
    result = Upscaler.from_pretrained("tiny-x2").upscale_picture(picture).alpha
    assert result is not None
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    distance = torch.hypot(x / 2 - 32.25, y / 2 - 32.25) - 19.75
    assert int(result[0][distance > 2].max()) == 0
    assert int(result[0][distance < -2].min()) == 255
