"""Blur kernels: Gaussians round and long, generalised and with a plateau, and the ideal low-pass.

Shapes as in Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure
Synthetic Data", 2021, sections 3.1 and 3.3.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["gaussian", "low_pass"]

Kernel = npt.NDArray[np.float32]


def gaussian(
    radius: int,
    sigma: float,
    other: float | None = None,
    angle: float = 0.0,
    beta: float = 1.0,
    plateau: bool = False,
) -> Kernel:
    """A kernel of side ``2·radius + 1`` that sums to 1.

    With q = xᵀ Σ⁻¹ x it is exp(−½ qᵝ), or 1 / (1 + qᵝ) with a plateau.

    Args:
        radius: in pixels.
        sigma: standard deviation along the first axis of the ellipse, in pixels.
        other: along the second; the same by default.
        angle: of the first axis against the rows, in radians.
        beta: the exponent; 1 is the Gaussian.
        plateau: whether it has a flat top.
    """
    place = np.arange(-radius, radius + 1, dtype=np.float64)
    x, y = place[None, :], place[:, None]
    cosine, sine = math.cos(angle), math.sin(angle)
    along, across = x * cosine + y * sine, y * cosine - x * sine
    q = (along / sigma) ** 2 + (across / (other or sigma)) ** 2
    kernel = 1 / (1 + q**beta) if plateau else np.exp(-0.5 * q**beta)
    normal: Kernel = (kernel / kernel.sum()).astype(np.float32)
    return normal


def low_pass(radius: int, cutoff: float) -> Kernel:
    """The circular ideal low-pass, cut off at the radius, that sums to 1.

    Args:
        radius: in pixels.
        cutoff: angular frequency in radians a pixel, up to π.
    """
    place = np.arange(-radius, radius + 1, dtype=np.float64)
    distance = np.hypot(place[None, :], place[:, None])
    bessel = torch.special.bessel_j1(torch.from_numpy(cutoff * distance)).numpy()
    kernel = cutoff * bessel / (2 * math.pi * np.maximum(distance, 1e-12))
    kernel[radius, radius] = cutoff**2 / (4 * math.pi)
    normal: Kernel = (kernel / kernel.sum()).astype(np.float32)
    return normal
