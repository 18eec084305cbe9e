"""Losses between a picture and its original, by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from adapool_sr.files.errors import ConfigError

__all__ = ["LOSSES", "Loss", "charbonnier", "find_loss", "l1"]

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


LOSSES: dict[str, Loss] = {"l1": l1, "charbonnier": charbonnier}
"""Every loss by the name that a configuration uses."""


def find_loss(name: str) -> Loss:
    """The loss of that name.

    Raises:
        ConfigError: no loss has that name.
    """
    if name not in LOSSES:
        raise ConfigError("model.loss", f"got {name!r}", f"one of: {', '.join(LOSSES)}")
    return LOSSES[name]
