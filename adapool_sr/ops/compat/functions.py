"""The authors' functions: see :mod:`adapool_sr.ops.compat`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from adapool_sr import ops
from adapool_sr.ops.functional import PoolMasks, Size
from adapool_sr.ops.geometry import make_geometry

__all__ = [
    "Mask",
    "adapool1d",
    "adapool2d",
    "adapool3d",
    "adaunpool",
    "edscwpool1d",
    "edscwpool2d",
    "edscwpool3d",
    "empool1d",
    "empool2d",
    "empool3d",
    "idwpool1d",
    "idwpool2d",
    "idwpool3d",
]

Mask = Tensor | tuple[Tensor, Tensor, Tensor]


def _check_mask_geometry(x: Tensor, rank: int, kernel_size: Size, stride: Size | None) -> None:
    kernel, step, *_ = make_geometry(kernel_size, stride, 0, False, tuple(x.shape[-rank:]))
    if kernel != step:
        raise ValueError(
            f"return_mask needs a stride like kernel_size, {kernel_size!r}, got {stride!r}; "
            "adapool_sr.ops has masks and unpooling for every stride"
        )


# --- pooling functions -----------------------------------------------------------------------


def _spread_over_windows(beta: Tensor, kernel: Sequence[int]) -> Tensor:
    """Beta (…, *out), laid out like a mask (…, *(out·kernel)); sizes of 1 stay."""
    for dim, k in enumerate(reversed(kernel), start=1):
        if beta.dim() >= dim and beta.shape[-dim] > 1:
            beta = beta.repeat_interleave(k, -dim)
    return beta


def _adapool(rank: int) -> Callable[..., Any]:
    def adapool(
        x: Tensor,
        beta: Tensor | None = None,
        kernel_size: Size = 2,
        stride: Size | None = None,
        return_mask: bool = False,
        native: bool = False,
    ) -> Any:
        if beta is None:
            raise ValueError("beta must be a tensor of the output's size or of ones, got None")
        if return_mask:
            _check_mask_geometry(x, rank, kernel_size, stride)
        beta = torch.clamp(beta, 0.0, 1.0)
        pool = getattr(ops, f"adapool{rank}d")
        if not return_mask:
            return pool(x, beta, kernel_size, stride)
        y, masks = pool(x, beta, kernel_size, stride, return_masks=True)
        if not native:
            return y, (masks.edscw, masks.em, beta)
        b = _spread_over_windows(beta, masks.geometry.kernel)
        return y, b * masks.edscw + (1 - b) * masks.em

    return _named(
        adapool,
        f"adapool{rank}d",
        f"""AdaPool in {rank} dimensions, as the authors' function of this name.

    Args:
        x: (N, C, *space) or (C, *space), any float dtype and device.
        beta: tensor of the output's spatial size, or of ones, in x's dtype; clamped to [0, 1].
        kernel_size: window size.
        stride: step between windows; None: the kernel's.
        return_mask: return (y, mask).
        native: the mask is one tensor, β·w^eDSCW + (1−β)·w^eM; else (w^eDSCW, w^eM, β).

    Returns:
        y (…, *out), or (y, mask) with masks (…, *(out·kernel)).

    Raises:
        ValueError: no beta, one that doesn't fit, or a mask wanted for windows that overlap.

    Example:
        >>> y, mask = adapool{rank}d(torch.rand(1, 3{", 4" * rank}), torch.rand({"2, " * rank}),
        ...     return_mask=True)
        >>> adaunpool(y, mask).shape
        torch.Size([1, 3{", 4" * rank}])
    """,
    )


def _single(method: str, rank: int, words: str) -> Callable[..., Any]:
    def pool(
        x: Tensor, kernel_size: Size = 2, stride: Size | None = None, return_mask: bool = False
    ) -> Any:
        if return_mask:
            _check_mask_geometry(x, rank, kernel_size, stride)
        function = getattr(ops, f"{method}{rank}d")
        return function(x, kernel_size, stride, return_masks=return_mask)

    return _named(
        pool,
        f"{method}{rank}d",
        f"""Pooling by {words} in {rank} dimensions, as the authors' function of this name.

    Args:
        x: (N, C, *space) or (C, *space), any float dtype and device.
        kernel_size: window size.
        stride: step between windows; None: the kernel's.
        return_mask: return (y, mask).

    Returns:
        y (…, *out), or (y, mask) with a mask (…, *(out·kernel)).

    Raises:
        ValueError: a geometry that cannot be, or a mask wanted for windows that overlap.

    Example:
        >>> {method}{rank}d(torch.rand(1, 3{", 4" * rank})).shape
        torch.Size([1, 3{", 2" * rank}])
    """,
    )


def _named(function: Callable[..., Any], name: str, text: str) -> Callable[..., Any]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = text
    return function


adapool1d, adapool2d, adapool3d = (_adapool(rank) for rank in (1, 2, 3))
edscwpool1d, edscwpool2d, edscwpool3d = (
    _single("edscwpool", rank, "similarity to the mean") for rank in (1, 2, 3)
)
empool1d, empool2d, empool3d = (
    _single("empool", rank, "softmax of the values") for rank in (1, 2, 3)
)
idwpool1d, idwpool2d, idwpool3d = (
    _single("idwpool", rank, "inverse distance to the mean") for rank in (1, 2, 3)
)


# --- unpooling -------------------------------------------------------------------------------


def adaunpool(x: Tensor, mask: Mask | None = None, interpolate: bool = True) -> Tensor:
    """Enlarge a pooled map by its mask: u(p) = y_R·w_R(p), w = β·w^eDSCW + (1−β)·w^eM.

    Args:
        x: the pooled map (N, C, *out); with ``interpolate=False`` already enlarged to the mask's
            size.
        mask: the triple or the one tensor that pooling returned.
        interpolate: whether x is still to be enlarged.

    Returns:
        (N, C, *(out·kernel)), the mask's size.

    Raises:
        TypeError: mask is neither a triple nor a tensor.
        ValueError: no mask, or sizes that don't fit.

    Example:
        >>> y, mask = empool2d(torch.rand(1, 3, 4, 6), return_mask=True)
        >>> adaunpool(y, mask).shape
        torch.Size([1, 3, 4, 6])
    """
    if mask is None:
        raise ValueError("mask must be what pooling returned, got None")
    if not isinstance(mask, Tensor) and not (isinstance(mask, tuple) and len(mask) == 3):
        raise TypeError(f"mask must be a tensor or a triple, got {type(mask).__name__}")
    size = (mask if isinstance(mask, Tensor) else mask[0]).shape[2:]
    rank = x.dim() - 2
    if rank not in (1, 2, 3) or len(size) != rank:
        raise ValueError(
            f"x must be (N, C, *out) with as many dimensions as the mask, got {tuple(x.shape)} "
            f"and a mask of {tuple(size)}"
        )
    if not interpolate:
        if tuple(x.shape[2:]) != tuple(size):
            raise ValueError(f"x must have the mask's size {tuple(size)}, got {tuple(x.shape)}")
        return x * _weights(mask, size)
    kernel = [n // o for n, o in zip(size, x.shape[2:], strict=True)]
    unpool = getattr(ops, f"adaunpool{rank}d")
    if isinstance(mask, Tensor):
        u: Tensor = unpool(x, mask, kernel_size=kernel)
        return u
    edscw, em, beta = mask
    beta = beta.reshape((1,) * (x.dim() - beta.dim()) + tuple(beta.shape))
    u = unpool(x, PoolMasks(edscw, em, beta, make_geometry(kernel, None, 0, False, size)))
    return u


def _weights(mask: Mask, size: Sequence[int]) -> Tensor:
    """The weights that a mask means."""
    if isinstance(mask, Tensor):
        return mask
    edscw, em, beta = mask
    out = beta.shape[-len(size) :]
    b = _spread_over_windows(beta, [n // o for n, o in zip(size, out, strict=True)])
    return b * edscw + (1 - b) * em
