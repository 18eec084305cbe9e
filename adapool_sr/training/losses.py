"""Losses between a picture and its original, by name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adapool_sr.files.errors import ConfigError

__all__ = ["LOSSES", "Loss", "charbonnier", "find_loss", "l1", "mse", "with_luma"]

Loss = Callable[[Tensor, Tensor], Tensor]


def l1(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean absolute difference; a scalar.

    Args:
        sr: result (N, C, H, W), any float type; computed in float32.
        hr: original of the same shape.
    """
    return (sr.float() - hr.float()).abs().mean()


def charbonnier(sr: Tensor, hr: Tensor, eps: float = 1e-3) -> Tensor:
    """Mean of ``sqrt(difference² + eps²)``, a smooth L1 (Lai et al. 2017, LapSRN, eq. 4); a scalar.

    Args:
        sr: result (N, C, H, W), any float type; computed in float32.
        hr: original of the same shape.
        eps: where the loss turns from square to absolute, in units of the picture (0..1).
    """
    return ((sr.float() - hr.float()).square() + eps * eps).sqrt().mean()


def mse(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean squared difference, what PSNR is made of; a scalar.

    Args:
        sr: result (N, C, H, W), any float type; computed in float32.
        hr: original of the same shape.
    """
    return (sr.float() - hr.float()).square().mean()


def with_luma(loss: Loss, weight: float) -> Loss:
    """Mix a loss of RGB with the same loss of luma (BT.601), which the field's tables measure.

    Args:
        loss: of two (N, 3, H, W).
        weight: the luma's share, 0 to 1.
    """
    if weight == 0:
        return loss

    def mixed(sr: Tensor, hr: Tensor) -> Tensor:
        return (1 - weight) * loss(sr, hr) + weight * loss(_luma(sr), _luma(hr))

    return mixed


def _luma(rgb: Tensor) -> Tensor:
    # Of the range 0..1 here, not 16..235: shares of red, green and blue that sum to 1.
    shares = rgb.new_tensor([65.481, 128.553, 24.966], dtype=torch.float32)
    return torch.einsum("nchw,c->nhw", rgb.float(), shares / shares.sum())


LOSSES: dict[str, Loss] = {"l1": l1, "charbonnier": charbonnier, "mse": mse}
"""Every loss by the name that a configuration uses."""


def find_loss(name: str) -> Loss:
    """The loss of that name.

    Raises:
        ConfigError: no loss has that name.
    """
    if name not in LOSSES:
        raise ConfigError("model.loss", f"got {name!r}", f"one of: {', '.join(LOSSES)}")
    return LOSSES[name]
