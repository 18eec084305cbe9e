"""The last step of a super-resolution network in one pass: enlarged input plus shuffled residual.

Done by separate operators it takes five passes over memory at the high resolution, for a small
network a quarter of its time. Inference only; a network that trains composes the same of
:func:`adapool_sr.imaging.resize.enlarge` and a pixel shuffle.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adapool_sr.ops import build
from adapool_sr.ops.library import NAMESPACES

__all__ = ["enlarge_add"]

_SCHEMA = "enlarge_add(Tensor lr, Tensor residual, Tensor taps) -> Tensor"


def enlarge_add(lr: Tensor, residual: Tensor, taps: Tensor) -> Tensor:
    """Enlarge pictures by a separable filter and add a residual whose channels become pixels.

    Output pixel scale·i + p of an axis is the sum of ``taps[p]`` times the input's pixels i − 2 …
    i + 2, edges replicated; ``F.pixel_shuffle(residual, scale)`` is added to it.

    Args:
        lr: (N, C, H, W) float32, any memory format.
        residual: (N, C·scale², H, W), float32, float16 or bfloat16, any memory format.
        taps: (scale, 5) float32, contiguous.

    Returns:
        (N, C, scale·H, scale·W) float32, contiguous. Carries no gradient.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: ``lr`` or ``taps`` is not float32, or ``residual`` of no float type.

    Example:
        >>> nearest = torch.tensor([[0.0, 0, 1, 0, 0]] * 2)
        >>> enlarge_add(torch.ones(1, 3, 4, 5), torch.zeros(1, 12, 4, 5), nearest).shape
        torch.Size([1, 3, 8, 10])
    """
    if lr.dtype != torch.float32 or taps.dtype != torch.float32:
        raise TypeError(f"lr and taps must be float32, got {lr.dtype} and {taps.dtype}")
    if not residual.is_floating_point():
        raise TypeError(f"residual must be of a float type, got {residual.dtype}")
    if taps.dim() != 2 or taps.shape[1] != 5 or taps.shape[0] < 1:
        raise ValueError(f"taps must be (scale, 5), got {tuple(taps.shape)}")
    scale = taps.shape[0]
    expected = (lr.shape[0], lr.shape[1] * scale**2, *lr.shape[2:]) if lr.dim() == 4 else ()
    if tuple(residual.shape) != expected:
        raise ValueError(
            f"lr must be (N, C, H, W) and residual (N, {scale * scale}·C, H, W), got "
            f"{tuple(lr.shape)} and {tuple(residual.shape)}"
        )
    build.load()
    result: Tensor = torch.ops.adapool.enlarge_add(lr, residual, taps.contiguous())
    return result


def _reference(lr: Tensor, residual: Tensor, taps: Tensor) -> Tensor:
    scale, channels = taps.shape[0], lr.shape[1]
    kernel = taps[:, None, :, None] * taps[None, :, None, :]
    weight = kernel.reshape(scale * scale, 1, 5, 5).repeat(channels, 1, 1, 1)
    padded = F.pad(lr, (2, 2, 2, 2), mode="replicate")
    together = F.conv2d(padded, weight, groups=channels) + residual.float()
    return F.pixel_shuffle(together, scale).contiguous()


def _fake(lr: Tensor, residual: Tensor, taps: Tensor) -> Tensor:
    scale, (n, c, height, width) = taps.shape[0], lr.shape
    return torch.empty((n, c, scale * height, scale * width), dtype=lr.dtype, device=lr.device)


def _register(namespace: str) -> torch.library.Library:
    library = torch.library.Library(namespace, "FRAGMENT")  # type: ignore[no-untyped-call]
    library.define(_SCHEMA)  # type: ignore[no-untyped-call]
    library.impl("enlarge_add", _reference, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
    for device in ("CPU", "CUDA"):
        library.impl("enlarge_add", torch.library.fallthrough_kernel, f"Autocast{device}")  # type: ignore[no-untyped-call]
    torch.library.register_fake(f"{namespace}::enlarge_add", _fake, lib=library)
    return library


_LIBRARIES = [_register(namespace) for namespace in NAMESPACES]
