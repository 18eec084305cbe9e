"""PSNR and SSIM as super-resolution's tables have them: on Y of 8-bit pictures, borders cut.

SSIM: Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE
TIP 13(4), 2004, with that paper's 11x11 Gaussian window (σ 1.5), K1 = 0.01 and K2 = 0.03.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["SSIM_WINDOW", "luma", "modcrop", "psnr_y", "ssim_y", "to_uint8"]

SSIM_WINDOW = 11
_SIGMA = 1.5
_PEAK = 255.0
# ITU-R BT.601, limited range, as MATLAB's rgb2ycbcr has it.
_RED, _GREEN, _BLUE, _OFFSET = 65.481, 128.553, 24.966, 16.0


def to_uint8(x: Tensor) -> Tensor:
    """Quantise a picture once: clamp to 0..1, times 255, round half up.

    Args:
        x: any shape, float, 1.0 is white.

    Returns:
        uint8 of the same shape and device.

    Raises:
        TypeError: if ``x`` is not of a float type.
    """
    if not x.is_floating_point():
        raise TypeError(f"x must be of a float type in 0..1, got {x.dtype}")
    # float32 holds 255 steps and their halves; bfloat16 doesn't.
    wide = x if x.dtype == torch.float64 else x.float()
    return wide.clamp(0, 1).mul(255).add(0.5).floor().to(torch.uint8)


def modcrop(image: Tensor, scale: int) -> Tensor:
    """Crop the bottom and right so that both sides are multiples of ``scale``.

    Args:
        image: ``(…, H, W)``, any dtype.
        scale: a positive integer, not above H or W.

    Returns:
        A view ``(…, H − H % scale, W − W % scale)``.

    Raises:
        ValueError: if ``scale`` is not positive or a side is shorter than it.
    """
    height, width = image.shape[-2:]
    if scale < 1:
        raise ValueError(f"scale must be a positive integer, got {scale}")
    if min(height, width) < scale:
        raise ValueError(
            f"image must be at least {scale}x{scale} for scale {scale}, got {height}x{width}"
        )
    return image[..., : height - height % scale, : width - width % scale]


def luma(rgb: Tensor) -> Tensor:
    """Y of 8-bit pictures: 16 + (65.481 R + 128.553 G + 24.966 B)/255, not rounded.

    Args:
        rgb: ``(…, 3, H, W)`` uint8; or ``(…, 1, H, W)``, grey: taken as R = G = B.

    Returns:
        ``(…, H, W)`` float64 in 16..235.

    Raises:
        ValueError: if there are neither 3 channels nor 1.
        TypeError: if ``rgb`` is not uint8.
    """
    if rgb.dtype != torch.uint8:
        raise TypeError(f"rgb must be uint8, got {rgb.dtype}: see to_uint8")
    if rgb.dim() < 3 or rgb.shape[-3] not in (1, 3):
        raise ValueError(f"rgb must be (…, 3, H, W) or (…, 1, H, W), got {tuple(rgb.shape)}")
    if rgb.shape[-3] == 1:
        rgb = rgb.expand(*rgb.shape[:-3], 3, *rgb.shape[-2:])
    red, green, blue = rgb.double().unbind(-3)
    return (_RED * red + _GREEN * green + _BLUE * blue) / 255 + _OFFSET


def psnr_y(sr: Tensor, hr: Tensor, border: int) -> float:
    """PSNR of Y in dB, peak 255, after cutting ``border`` pixels from every side.

    Args:
        sr: ``(3, H, W)`` or ``(1, H, W)`` uint8.
        hr: the original, of the same height and width.
        border: pixels to cut, usually the scale.

    Returns:
        dB; infinity for equal pictures.

    Raises:
        ValueError: if the sizes differ or nothing is left inside the border.
        TypeError: if one is not uint8.
    """
    a, b = _inner_luma(sr, hr, border, 1)
    error = float(np.mean((a - b) ** 2))
    return math.inf if error == 0 else 10 * math.log10(_PEAK**2 / error)


def ssim_y(sr: Tensor, hr: Tensor, border: int) -> float:
    """SSIM of Y, after cutting ``border`` pixels from every side; mean over the valid region.

    Args:
        sr: ``(3, H, W)`` or ``(1, H, W)`` uint8.
        hr: the original, of the same height and width.
        border: pixels to cut, usually the scale.

    Returns:
        At most 1, which equal pictures have.

    Raises:
        ValueError: if the sizes differ or less than 11x11 pixels are left inside the border.
        TypeError: if one is not uint8.
    """
    a, b = _inner_luma(sr, hr, border, SSIM_WINDOW)
    mean_a, mean_b = _blur(a), _blur(b)
    var_a = _blur(a * a) - mean_a**2
    var_b = _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    return float(np.mean(top / bottom))


def _inner_luma(
    sr: Tensor, hr: Tensor, border: int, least: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Y of both pictures inside the border, at least ``least`` pixels each way."""
    if sr.dim() != 3 or hr.dim() != 3 or sr.shape[-2:] != hr.shape[-2:]:
        raise ValueError(
            f"sr and hr must be (C, H, W) of one size, got {tuple(sr.shape)} and {tuple(hr.shape)}"
        )
    height, width = sr.shape[-2:]
    if border < 0 or min(height, width) - 2 * border < least:
        raise ValueError(
            f"border must be at least 0 and leave {least}x{least} pixels, "
            f"got {border} for {height}x{width}"
        )
    inner = (..., slice(border, height - border), slice(border, width - border))
    return luma(sr.cpu())[inner].numpy(), luma(hr.cpu())[inner].numpy()


def _blur(image: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """11x11 Gaussian mean of every window that lies inside the image."""
    half = SSIM_WINDOW // 2
    window = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * _SIGMA**2))
    window /= window.sum()
    for _ in range(2):  # along each axis in turn
        inner = image.shape[0] - 2 * half
        blurred = np.zeros((inner, image.shape[1]))
        for k, weight in enumerate(window):
            blurred += weight * image[k : k + inner]
        image = blurred.T
    return image
