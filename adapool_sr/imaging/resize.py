"""MATLAB's bicubic ``imresize``: the degradation and the baseline of super-resolution's tables.

Keys' cubic kernel (a = −0.5; "Cubic convolution interpolation for digital image processing", IEEE
TASSP 29(6), 1981), widened by 1/scale when shrinking. :func:`imresize` is exact to the last bit of
uint8 pictures and runs in NumPy on the CPU; :func:`enlarge` is the same enlargement as a
differentiable layer of a network.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Literal

import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from adapool_sr.imaging.taps import bicubic_taps, weigh

__all__ = ["enlarge", "enlarging_taps", "imresize"]

Edges = Literal["replicate", "symmetric"]
_Array = npt.NDArray[Any]


def _keys(x: float) -> float:
    """Keys' cubic kernel with a = −0.5 at distance ``x``."""
    x = abs(x)
    if x <= 1:
        return (1.5 * x - 2.5) * x * x + 1
    if x < 2:
        return ((-0.5 * x + 2.5) * x - 4) * x + 2
    return 0.0


def enlarge(x: Tensor, scale: int) -> Tensor:
    """Enlarge a batch by a whole factor with MATLAB's bicubic kernel, edges replicated.

    Equal to ``imresize(x, scale, rounded=False)`` to 1e-5, but differentiable, on any device and
    exportable: one depthwise convolution and a pixel shuffle. Half types, and everything under
    autocast, are computed in float32: in bfloat16 the enlarged picture alone would lose half a
    grey level.

    Args:
        x: ``(N, C, H, W)``, any float type and range, H and W at least 1.
        scale: the factor, at least 1.

    Returns:
        ``(N, C, scale·H, scale·W)`` of x's dtype, not clamped.

    Raises:
        ValueError: if ``x`` is not 4-d or ``scale`` not a positive integer.
        TypeError: if ``x`` is not of a float type.
    """
    if x.dim() != 4:
        raise ValueError(f"x must have 4 dimensions (N, C, H, W), got shape {tuple(x.shape)}")
    if not x.is_floating_point():
        raise TypeError(f"x must be of a float type, got {x.dtype}")
    if isinstance(scale, bool) or not isinstance(scale, int) or scale < 1:
        raise ValueError(f"scale must be a positive integer, got {scale!r}")
    if scale == 1:
        return x
    device = x.device.type
    if torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return _enlarge(x, scale)
    return _enlarge(x, scale)


def enlarging_taps(scale: int) -> Tensor:
    """Weights with which MATLAB's bicubic kernel enlarges an axis by a whole factor.

    Output pixel scale·i + p lies at i + (p + ½)/scale − ½ of the input: always between the taps
    i − 2 … i + 2, of which one has weight 0.

    Returns:
        ``(scale, 5)`` float64: row p holds the weights of the input's pixels i − 2 … i + 2.
    """
    taps = [[_keys((p + 0.5) / scale - 0.5 - k) for k in range(-2, 3)] for p in range(scale)]
    return torch.tensor(taps, dtype=torch.float64)


def _enlarge(x: Tensor, scale: int) -> Tensor:
    channels = x.shape[1]
    work = torch.float64 if x.dtype == torch.float64 else torch.float32
    # On the CPU forming them anew costs nothing; to a card they would be copied at every call, and
    # the program would wait for it. A compiler is to see them formed.
    kept = x.device.type == "cuda" and not torch.compiler.is_compiling()
    phase = (_kept_taps if kept else _taps)(scale, x.device, work)
    kernel = phase[:, None, :, None] * phase[None, :, None, :]
    weight = kernel.reshape(scale * scale, 1, 5, 5).repeat(channels, 1, 1, 1)
    padded = F.pad(x.to(work), (2, 2, 2, 2), mode="replicate")
    return F.pixel_shuffle(F.conv2d(padded, weight, groups=channels), scale).to(x.dtype)


def _taps(scale: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return enlarging_taps(scale).to(device, dtype)


@cache
def _kept_taps(scale: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # else no gradient could pass them later
        return _taps(scale, device, dtype)


def imresize(
    image: Tensor,
    scale: float | None = None,
    size: tuple[int, int] | None = None,
    *,
    edges: Edges = "replicate",
    rounded: bool = True,
) -> Tensor:
    """Resize pictures as MATLAB's ``imresize(image, …, 'bicubic')`` does.

    Each axis is resized in float64 with normalised weights, the axis of the smaller scale first
    (rows when equal). uint8 pictures are clamped and rounded half up after each of the two passes.

    Args:
        image: ``(…, H, W)``, uint8 or any float type, not empty.
        scale: the factor of both axes; the result has ``ceil(scale·H)`` rows.
        size: ``(rows, columns)`` wanted, instead of ``scale``.
        edges: what lies beyond the picture: its outermost pixels (``"replicate"``, as the published
            test sets have it) or its mirror image (``"symmetric"``, newer MATLAB).
        rounded: False leaves out clamping and rounding; uint8 then gives float64 in 0..255.

    Returns:
        ``(…, rows, columns)`` of image's dtype on its device; never attached to autograd.

    Raises:
        ValueError: if not exactly one of ``scale`` and ``size`` is given or it is impossible, for
            an empty image, and for a float image with ``rounded=True``.
        TypeError: for a dtype that is neither uint8 nor float.

    Example:
        >>> import torch
        >>> imresize(torch.tensor([[0, 0, 255, 255]], dtype=torch.uint8), size=(1, 2))
        tensor([[ 17, 238]], dtype=torch.uint8)
    """
    rows, columns = _check(image, scale, size, edges, rounded)
    height, width = image.shape[-2:]
    scales = (scale, scale) if scale is not None else (rows / height, columns / width)
    is_bytes = image.dtype == torch.uint8
    flat = image.detach().cpu().reshape(-1, height, width)
    planes: _Array = (flat if is_bytes else flat.double()).numpy()
    passes = [(rows, scales[0], False), (columns, scales[1], True)]
    passes.sort(key=lambda p: p[1])  # stable: rows first when equal
    for length, factor, across in passes:
        taps = bicubic_taps(0, length, factor)
        if edges == "replicate":
            taps = taps.clamped(planes.shape[2 if across else 1])
        else:
            taps = taps.mirrored(planes.shape[2 if across else 1])
        planes = weigh(planes, taps, across=across, rounded=rounded)
    result = torch.from_numpy(planes).reshape(*image.shape[:-2], rows, columns)
    dtype = image.dtype if rounded or not is_bytes else torch.float64
    return result.to(device=image.device, dtype=dtype)


def _check(
    image: Tensor, scale: float | None, size: tuple[int, int] | None, edges: str, rounded: bool
) -> tuple[int, int]:
    """Refuse what cannot be meant; return the result's rows and columns."""
    if image.dim() < 2 or image.numel() == 0:
        raise ValueError(f"image must be (…, H, W) and not empty, got shape {tuple(image.shape)}")
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise TypeError(f"image must be uint8 or of a float type, got {image.dtype}")
    if image.dtype != torch.uint8 and rounded:
        raise ValueError(f"rounded=True is for uint8 images, got {image.dtype}: use rounded=False")
    if edges not in ("replicate", "symmetric"):
        raise ValueError(f"edges must be 'replicate' or 'symmetric', got {edges!r}")
    if (scale is None) == (size is None):
        raise ValueError(f"give exactly one of scale and size, got {scale=} and {size=}")
    if size is not None:
        if min(size) < 1:
            raise ValueError(f"size must be at least (1, 1), got {size}")
        return size
    assert scale is not None
    if not (math.isfinite(scale) and scale > 0):
        raise ValueError(f"scale must be a positive number, got {scale}")
    # The 1e-9 keeps 10 · 1.1 = 11.000000000000002 from becoming 12.
    return (
        max(1, math.ceil(scale * image.shape[-2] - 1e-9)),
        max(1, math.ceil(scale * image.shape[-1] - 1e-9)),
    )
