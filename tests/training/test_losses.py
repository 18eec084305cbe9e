from __future__ import annotations

import pytest
import torch

from adapool_sr.files.errors import ConfigError
from adapool_sr.training.losses import (
    LOSSES,
    charbonnier,
    find_loss,
    frequency,
    l1,
    mse,
    psnr,
    ssim,
    with_luma,
)


def test_l1_is_the_mean_absolute_difference() -> None:
    sr, hr = torch.tensor([[0.0, 1.0, 0.5]]), torch.tensor([[0.5, 0.0, 0.5]])
    assert l1(sr, hr).item() == pytest.approx(0.5)


def test_charbonnier_is_l1_far_away_and_eps_at_zero() -> None:
    far = charbonnier(torch.zeros(4), torch.full((4,), 0.5))
    assert far.item() == pytest.approx((0.25 + 1e-6) ** 0.5)
    assert charbonnier(torch.zeros(4), torch.zeros(4)).item() == pytest.approx(1e-3)


def test_charbonnier_has_a_gradient_where_pictures_agree() -> None:
    sr = torch.zeros(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(charbonnier(sr, torch.zeros(3)), sr)
    assert gradient.tolist() == [0.0, 0.0, 0.0]


def test_mse_is_the_mean_square() -> None:
    assert mse(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 1.0])).item() == pytest.approx(0.125)


def test_psnr_counts_a_nearly_right_picture_as_much_as_a_wrong_one() -> None:
    hr = torch.zeros(2, 3, 4, 4)
    sr = torch.stack([torch.full((3, 4, 4), 0.1), torch.full((3, 4, 4), 0.01)]).requires_grad_()
    loss = psnr(sr, hr, eps=0.0)
    assert loss.item() == pytest.approx(-(20 + 40) / 2)
    (gradient,) = torch.autograd.grad(loss, sr)
    # A step that is small beside the error is worth the same decibels in both.
    gains = (gradient * sr).flatten(1).sum(1)
    assert gains[0].item() == pytest.approx(gains[1].item())


def test_psnr_of_equal_pictures_is_finite() -> None:
    assert psnr(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)).item() == pytest.approx(-60)


def test_luma_has_its_share_of_the_loss() -> None:
    hr = torch.zeros(1, 3, 2, 2)
    green = hr.clone()
    green[:, 1] = 0.6
    of_rgb, of_luma = 0.2, 0.6 * 128.553 / (65.481 + 128.553 + 24.966)
    assert with_luma(l1, 0.0)(green, hr).item() == pytest.approx(of_rgb)
    assert with_luma(l1, 1.0)(green, hr).item() == pytest.approx(of_luma)
    assert with_luma(l1, 0.25)(green, hr).item() == pytest.approx(0.75 * of_rgb + 0.25 * of_luma)


def test_luma_of_grey_pictures_is_their_value() -> None:
    hr, sr = torch.full((2, 3, 4, 4), 0.25), torch.full((2, 3, 4, 4), 0.75)
    assert with_luma(mse, 0.5)(sr, hr).item() == pytest.approx(0.25)


@pytest.mark.parametrize("name", [*LOSSES])
def test_bfloat16_results_are_compared_in_float32(name: str) -> None:
    sr = torch.full((2, 3, 16, 16), 0.5, dtype=torch.bfloat16)
    hr = torch.full((2, 3, 16, 16), 0.5001)  # bfloat16 would see no difference at all
    loss = find_loss(name)(sr, hr)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(find_loss(name)(sr.float(), hr).item())


def test_unknown_loss_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"got 'l3'; one of: l1, charbonnier, mse, psnr, ssim"):
        find_loss("l3")


def test_ssim_is_what_is_missing_to_one_and_sees_structure() -> None:
    torch.manual_seed(0)
    hr = torch.rand(1, 3, 24, 24)
    assert ssim(hr, hr).item() == pytest.approx(0, abs=1e-5)
    assert 0.5 < ssim(torch.full_like(hr, 0.5), hr).item() <= 1
    blurred = torch.nn.functional.avg_pool2d(hr, 3, 1, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(ssim(blurred, hr), blurred)
    assert gradient.abs().sum() > 0


def test_frequency_of_a_constant_difference_is_its_size_at_one_frequency() -> None:
    hr = torch.zeros(1, 1, 8, 8)
    # All of the difference is in the constant term, 0.25 · sqrt(64); rfft2 has 8 · 5 terms.
    assert frequency(hr + 0.25, hr).item() == pytest.approx(0.25 * 8 / 40)


def test_several_losses_are_summed_by_their_weights() -> None:
    sr, hr = torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([[[[0.5, 1.0]]]])
    assert find_loss({"l1": 1.0, "mse": 2.0})(sr, hr).item() == pytest.approx(0.25 + 2 * 0.125)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({}, "names no loss"),
        ({"l1": 1.0, "l3": 1.0}, "got 'l3'"),
        ({"l1": 0.0}, r"model\.loss\.l1: must be above 0, got 0\.0"),
    ],
)
def test_impossible_sums_are_refused(names: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_loss(names)
