from __future__ import annotations

import pytest
import torch

from adapool_sr.files.errors import ConfigError
from adapool_sr.training.losses import charbonnier, find_loss, l1


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


@pytest.mark.parametrize("name", ["l1", "charbonnier"])
def test_bfloat16_results_are_compared_in_float32(name: str) -> None:
    sr = torch.full((2, 3, 8, 8), 0.5, dtype=torch.bfloat16)
    hr = torch.full((2, 3, 8, 8), 0.5001)  # bfloat16 would see no difference at all
    loss = find_loss(name)(sr, hr)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(find_loss(name)(sr.float(), hr).item())


def test_unknown_loss_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"got 'l3'; one of: l1, charbonnier"):
        find_loss("l3")
