"""Losses between a picture and its original, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import cast

import torch
from torch import Tensor

from adapool_sr.files.errors import ConfigError

__all__ = [
    "LOSSES",
    "Loss",
    "charbonnier",
    "find_loss",
    "frequency",
    "l1",
    "mse",
    "psnr",
    "ssim",
    "with_luma",
]

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


def psnr(sr: Tensor, hr: Tensor, eps: float = 1e-6) -> Tensor:
    """``-PSNR`` in dB, mean over the pictures (Chen et al. 2021, HINet, eq. 3); a scalar below 0.

    A picture that is nearly right already counts as much as one that is far off, where the mean
    error of a batch would forget it: for networks that shall leave good pictures alone. Its
    gradient grows as the error shrinks, to hundreds of times that of :func:`l1`.

    Args:
        sr: result (N, C, H, W), any float type, 0..1; computed in float32.
        hr: original of the same shape.
        eps: added to the mean squared error; 1e-6 counts nothing above 60 dB.
    """
    error = (sr.float() - hr.float()).square().flatten(1).mean(1)
    return 10 * (error + eps).log10().mean()


def ssim(sr: Tensor, hr: Tensor) -> Tensor:
    """``1 − SSIM`` with the 11x11 Gaussian of Wang et al. 2004, mean over channels; a scalar.

    Args:
        sr: result (N, C, H, W), any float type, 0..1; computed in float32.
        hr: original of the same shape.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    value = structural_similarity_index_measure(sr.float(), hr.float(), data_range=1.0)
    return 1 - cast(Tensor, value)  # a tuple only where the whole map is asked for


def frequency(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean modulus of the spectra's difference (Cho et al. 2021, MIMO-UNet, eq. 5); a scalar.

    The transform is orthonormal, so that the loss has the size of :func:`l1`.

    Args:
        sr: result (N, C, H, W), any float type; computed in float32.
        hr: original of the same shape.
    """
    spectrum: Tensor = torch.fft.rfft2(sr.float() - hr.float(), norm="ortho")
    return spectrum.abs().mean()


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
    return torch.einsum("nchw,c->nhw", rgb.float(), _luma_shares(rgb.device)).unsqueeze(1)


@cache  # a card would wait for the copy at every step
def _luma_shares(device: torch.device) -> Tensor:
    # Of the range 0..1 here, not 16..235: shares of red, green and blue that sum to 1.
    shares = torch.tensor([65.481, 128.553, 24.966], device=device)
    return shares / shares.sum()


LOSSES: dict[str, Loss] = {
    "l1": l1,
    "charbonnier": charbonnier,
    "mse": mse,
    "psnr": psnr,
    "ssim": ssim,
    "frequency": frequency,
}
"""Every loss by the name that a configuration uses."""


def find_loss(names: str | Mapping[str, float]) -> Loss:
    """The loss of that name, or the weighted sum of several.

    Args:
        names: "l1", or names to weights: ``{"l1": 1.0, "frequency": 0.05}``.

    Raises:
        ConfigError: no loss has that name, none is named, or a weight isn't above 0.
    """
    if isinstance(names, str):
        return _find_one(names)
    if not names:
        raise ConfigError("model.loss", "names no loss", f"one or several of {', '.join(LOSSES)}")
    parts = [(_find_one(name), weight) for name, weight in names.items()]
    for name, weight in names.items():
        if not 0 < weight < float("inf"):
            raise ConfigError(f"model.loss.{name}", f"must be above 0, got {weight}")

    def total(sr: Tensor, hr: Tensor) -> Tensor:
        return torch.stack([weight * loss(sr, hr) for loss, weight in parts]).sum()

    return total


def _find_one(name: str) -> Loss:
    if name not in LOSSES:
        raise ConfigError("model.loss", f"got {name!r}", f"one of: {', '.join(LOSSES)}")
    return LOSSES[name]
