"""Alpha: colours under transparent pixels, and planes that stay exactly clear or opaque."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from adapool_sr.inference.tiles import Box

__all__ = ["bleed", "bleed_evenly", "hold_flat", "is_flat"]

# Input pixels around a pixel that must be equal for its result to be held. A hard edge rings in
# tiny-x2: with 2, up to 38/255 were left over 2 pixels outside a disc, with 1 nothing is, and the
# edge itself is untouched.
_REACH = 1


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


def bleed_evenly(pixels: Tensor, alpha: Tensor, reach: int, wrap: str) -> Tensor:
    """As :func:`bleed`, but so that rolling the picture on its wrapped axes rolls the result.

    Ring after ring, transparent pixels take the mean of the known ones around them; what lies
    further than the network sees takes the mean of all.

    Args:
        pixels: (C, H, W) float.
        alpha: (1, H, W) float; 0 is fully transparent.
        reach: pixels that the network sees.
        wrap: the axes, "x", "y" or "xy", on which the picture goes on with its other end.

    Returns:
        (C, H, W); pixels with alpha above 0 are unchanged.
    """
    known = (alpha > 0).to(pixels.dtype)
    if bool(known.all()) or not bool(known.any()):
        return pixels
    result = pixels * known
    mean = result.double().sum((1, 2)) / known.double().sum()
    for _ in range(reach + 1):
        if bool(known.all()):
            return result
        total, count = _around(result, wrap), _around(known, wrap)
        new = (known == 0) & (count > 0)
        result = torch.where(new, total / count.clamp(min=1), result)
        known = torch.where(new, torch.ones_like(known), known)
    return torch.where(known > 0, result, mean[:, None, None].to(result.dtype))


def _around(x: Tensor, wrap: str) -> Tensor:
    """The sum over the 3x3 pixels around each one of (C, H, W)."""
    for axis, dim in (("y", 1), ("x", 2)):
        side = [1, 1] if dim == 2 else [0, 0, 1, 1]
        padded = F.pad(x, side)
        if axis in wrap:
            last = x.shape[dim]
            padded = torch.cat([x.narrow(dim, last - 1, 1), x, x.narrow(dim, 0, 1)], dim)
        length = x.shape[dim]
        x = sum((padded.narrow(dim, k, length) for k in (1, 2)), padded.narrow(dim, 0, length))
    return x


def is_flat(alpha: Tensor) -> bool:
    """Whether a plane has one value only: it needs no network."""
    return bool((alpha == alpha.reshape(-1)[0]).all())


def hold_flat(
    enlarged: Tensor, alpha: Tensor, size: tuple[int, int], box: Box, wrap: str
) -> Tensor:
    """Give the flat parts of an enlarged plane their exact value back.

    A network moves what is flat by a step or so: the opaque inside of a cut-out would let its
    ground shine through, and the clear outside would be veiled.

    Args:
        enlarged: (1, h, w) float, what a network made of alpha, or a part of it.
        alpha: (1, H, W) float.
        size: of the whole result.
        box: which part of the result ``enlarged`` is.
        wrap: the axes on which the picture goes on with its other end.

    Returns:
        (1, h, w): where alpha is the same for a pixel around, that value.
    """
    side = 2 * _REACH + 1
    padded = alpha[None]
    for axis, pad in (("x", [_REACH, _REACH, 0, 0]), ("y", [0, 0, _REACH, _REACH])):
        length = alpha.shape[2 if axis == "x" else 1]
        around = axis in wrap and length >= _REACH
        padded = F.pad(padded, pad, mode="circular" if around else "replicate")
    highest, lowest = F.max_pool2d(padded, side, 1), -F.max_pool2d(-padded, side, 1)
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    flat = F.interpolate((highest == lowest).to(alpha.dtype), size=size)[0, :, rows, columns] > 0
    return torch.where(flat, F.interpolate(alpha[None], size=size)[0, :, rows, columns], enlarged)
