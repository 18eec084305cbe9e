"""Alpha: colours under transparent pixels, and planes that stay exactly clear or opaque."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["bleed", "hold_flat", "is_flat"]

# Input pixels around a pixel that must be equal for its result to be held. tiny-x2 moves what
# lies further than this from any edge by at most 1.5/255 (measured on text, lines and mattes).
_REACH = 2


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


def is_flat(alpha: Tensor) -> bool:
    """Whether a plane has one value only: it needs no network."""
    return bool((alpha == alpha.reshape(-1)[0]).all())


def hold_flat(enlarged: Tensor, alpha: Tensor) -> Tensor:
    """Give the flat parts of an enlarged plane their exact value back.

    A network moves what is flat by a step or so: the opaque inside of a cut-out would let its
    ground shine through, and the clear outside would be veiled.

    Args:
        enlarged: (1, sH, sW) float, what a network made of alpha.
        alpha: (1, H, W) float.

    Returns:
        (1, sH, sW): where alpha is the same for two pixels around, that value.
    """
    side = 2 * _REACH + 1
    padded = F.pad(alpha[None], [_REACH] * 4, mode="replicate")
    highest, lowest = F.max_pool2d(padded, side, 1), -F.max_pool2d(-padded, side, 1)
    size = enlarged.shape[1:]
    flat = F.interpolate((highest == lowest).to(alpha.dtype), size=size)[0] > 0
    return torch.where(flat, F.interpolate(alpha[None], size=size)[0], enlarged)
