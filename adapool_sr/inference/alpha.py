"""Colours under transparent pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["bleed"]


def bleed(pixels: Tensor, alpha: Tensor) -> Tensor:
    """Give fully transparent pixels the colour of the visible ones around them.

    What stands under transparent pixels is arbitrary, often black or the green of a cut-out's
    ground, and a network would mix it into the edge. Known colours are averaged into ever
    coarser pictures, and each unknown pixel takes the finest average that covers it (the
    pull-push filling of Gortler et al., "The Lumigraph", SIGGRAPH 1996).

    Args:
        pixels: (C, H, W) float.
        alpha: (1, H, W) float; 0 is fully transparent.

    Returns:
        (C, H, W); pixels with alpha above 0 are unchanged. Without a visible pixel, or
        without a transparent one, the input itself.
    """
    known = (alpha > 0).to(pixels.dtype)
    if bool(known.all()) or not bool(known.any()):
        return pixels
    return torch.where(known > 0, pixels, _fill(pixels * known, known))


def _fill(total: Tensor, weight: Tensor) -> Tensor:
    """Colours everywhere from sums (C, H, W) of known colours and their weights (1, H, W)."""
    here = total / weight.clamp(min=torch.finfo(weight.dtype).tiny)
    height, width = weight.shape[1:]
    if height == width == 1 or bool((weight > 0).all()):
        return here
    coarse = _fill(*(F.avg_pool2d(x[None], 2, ceil_mode=True)[0] for x in (total, weight)))
    wide = F.interpolate(
        coarse[None], scale_factor=2, mode="bilinear", align_corners=False
    )  # bilinear: no blocks where a large hole is filled
    return torch.where(weight > 0, here, wide[0, :, :height, :width])
