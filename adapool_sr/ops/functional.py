"""Pooling and unpooling of any rank: checks, shapes and beta; the arithmetic is the operators'.

:mod:`adapool_sr.ops.pools` and :mod:`adapool_sr.ops.unpools` give this its public names.

Source: Stergiou & Poppe, "AdaPool: Exponential Adaptive Pooling for Information-Retaining
Downsampling", IEEE TIP 32, 2023 (arXiv 2111.00772).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from adapool_sr.ops import build, build_cuda, library, reference
from adapool_sr.ops.checks import (
    Gain,
    check_gain,
    check_map,
    check_mask,
    check_same,
    check_y,
    make_beta,
)
from adapool_sr.ops.geometry import Geometry, make_geometry

__all__ = ["PoolMasks", "Size", "Window", "ada_pool", "ada_unpool", "single_pool"]

Size = int | Sequence[int]
Window = tuple[Size, Size | None, Size, bool]
"""kernel_size, stride, padding and ceil_mode, as a caller writes them."""

# The namespace that is called; tests set the other one of library.NAMESPACES.
_namespace = library.NAMESPACES[0]


class PoolMasks(NamedTuple):
    """What AdaPool keeps of its windows, for ``adaunpool1d``, ``adaunpool2d``, ``adaunpool3d``.

    Attributes:
        edscw: weights of the eDSCW part, in 2-d (N, C, oH·kH, oW·kW) or (C, oH·kH, oW·kW): entry
            (a·kH + i, b·kW + j) belongs to input row a·sH − pH + i and column b·sW − pW + j;
            0 in the padding, else positive, each window's sum 1. One channel at granularity
            "vector".
        em: weights of the eM part, likewise, but always for every channel.
        beta: the β that mixed them, as many dimensions as the input, each 1 or the output's.
        geometry: the windows and the input's size.
    """

    edscw: Tensor
    em: Tensor
    beta: Tensor
    geometry: Geometry


def _load_native(cuda: bool = False) -> bool:
    """Load the native kernels once; a compiled graph does it while it is traced."""
    return (build_cuda.load() if cuda else build.load()).kernel == "native"


# What torch.compiler.assume_constant_result does, without dynamo, whose import takes a second.
_load_native._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _is_traced() -> bool:
    """Whether there is a graph to be had of what runs; asked first, for it takes no time."""
    return torch._C._get_tracing_state() is not None or torch.compiler.is_compiling()


def _call(name: str, vector: bool, inputs: tuple[Any, ...], size: Sequence[int] = ()) -> Any:
    """Run an operator, or its overload for vectors; ``size`` is that of an argument ``int[] size``.

    Where the dispatcher has no way, the reference runs: it has the same names and arguments.
    """
    # Operators with registered autograd don't go through torch.func, nor into an ONNX file, nor
    # forward-mode derivatives through any; a symbol does not fit an argument of ints.
    if not torch.compiler.is_dynamo_compiling() and (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or (_is_traced() and torch.onnx.is_in_onnx_export())
    ):
        return getattr(reference, name)(*inputs)
    if size and any(isinstance(n, torch.SymInt) for n in size):
        return getattr(reference, name)(*inputs)
    _load_native(inputs[0].is_cuda)
    return library.call(_namespace, name, vector, inputs)


def _batched(x: Tensor, rank: int) -> Tensor:
    return x if x.dim() == rank + 2 else x.unsqueeze(0)


# --- pooling ---------------------------------------------------------------------------------


def single_pool(
    method: str,
    rank: int,
    x: Tensor,
    window: Window,
    weight_grad: bool,
    return_masks: bool,
    *arguments: Any,
    vector: bool = False,
) -> Any:
    """Pool by one method; y (…, *out), or (y, mask).

    Args:
        method: "edscw", "em" or "idw".
        rank: of the space.
        x: (N, C, *space) or (C, *space).
        window: as the caller wrote it.
        weight_grad: exact or proportional gradient.
        return_masks: return the mask too.
        arguments: more of the operator's.
        vector: take the operator's overload for vectors.

    Raises:
        TypeError: x is no float tensor, or the window of a wrong kind.
        ValueError: wrong rank, or a geometry that cannot be.
    """
    check_map("x", x, rank)
    kernel, stride, padding, ceil, _ = make_geometry(*window, tuple(x.shape[-rank:]))
    name = f"{method}_pool_masks" if return_masks else f"{method}_pool"
    window_ = (kernel, stride, padding, ceil, weight_grad)
    result = _call(name, vector, (_batched(x, rank), *window_, *arguments))
    if x.dim() == rank + 2:
        return result
    return tuple(t.squeeze(0) for t in result) if return_masks else result.squeeze(0)


def ada_pool(
    rank: int,
    x: Tensor,
    beta: float | Tensor,
    window: Window,
    weight_grad: bool,
    return_masks: bool,
    similarity: str,
) -> Tensor | tuple[Tensor, PoolMasks]:
    """AdaPool; y (…, *out), or (y, PoolMasks).

    Args:
        rank: of the space.
        x: (N, C, *space) or (C, *space).
        beta: a float, or a tensor that broadcasts to the output.
        window: as the caller wrote it.
        weight_grad: exact or proportional gradient.
        return_masks: return the masks too.
        similarity: of vectors; "" where every channel has its own weights.

    Raises:
        TypeError: as :func:`single_pool`, or a beta of another kind or dtype.
        ValueError: as :func:`single_pool`, or a beta that doesn't fit.
    """
    check_map("x", x, rank)
    geometry = make_geometry(*window, tuple(x.shape[-rank:]))
    b = make_beta(beta, x, geometry)
    arguments = (*geometry[:4], weight_grad, *([similarity] if similarity else []))
    xb, bb = _batched(x, rank), _batched(b, rank)
    if not return_masks:
        y: Tensor = _call("ada_pool", bool(similarity), (xb, bb, *arguments))
        return y if x.dim() == rank + 2 else y.squeeze(0)
    y, edscw, em = _call("ada_pool_masks", bool(similarity), (xb, bb, *arguments))
    if x.dim() == rank + 1:
        y, edscw, em = y.squeeze(0), edscw.squeeze(0), em.squeeze(0)
    return y, PoolMasks(edscw, em, b, geometry)


# --- unpooling -------------------------------------------------------------------------------


def _single_mask_geometry(
    y: Tensor, rank: int, window: Window, output_size_: Sequence[int] | None
) -> Geometry:
    """The geometry of one plain mask; without an output size, that which all windows just fill."""
    if output_size_ is None:
        # Any valid size serves to check the window's arguments.
        kernel, stride, padding, *_ = make_geometry(*window, (1 << 30,) * rank)
        size = [
            (o - 1) * s + k - 2 * p
            for o, k, s, p in zip(y.shape[-rank:], kernel, stride, padding, strict=True)
        ]
    else:
        size = list(output_size_)
        if len(size) != rank or not all(isinstance(n, int | torch.SymInt) for n in size):
            number = {1: "one int", 2: "two ints", 3: "three ints"}[rank]
            raise ValueError(f"output_size must be {number}, got {output_size_!r}")
    return make_geometry(*window, size)


def ada_unpool(
    rank: int,
    y: Tensor,
    masks: PoolMasks | Tensor | None,
    like: Tensor | None,
    beta: float | Tensor | None,
    kernel_size: Size | None,
    stride: Size | None,
    padding: Size,
    ceil_mode: bool,
    output_size: Sequence[int] | None,
    similarity: str,
    weight_grad: bool,
    gain: Gain,
) -> Tensor:
    """AdaUnpool in its three ways: (…, *size).

    Args:
        rank: of the space.
        y: (N, C, *out) or (C, *out).
        masks: PoolMasks or one plain mask.
        like: the map that was pooled, instead.
        beta: with ``like``.
        kernel_size: the window, not with PoolMasks; None: 2.
        stride: likewise.
        padding: likewise.
        ceil_mode: likewise.
        output_size: of the result, with one plain mask.
        similarity: of vectors, with ``like``; "" where every channel has its own weights.
        weight_grad: whether ``like`` gets a gradient.
        gain: a factor or "area".

    Raises:
        TypeError: no float tensors, different dtypes, or arguments of the wrong kind.
        ValueError: shapes that don't fit, or arguments that don't go together.
    """
    check_map("y", y, rank)
    factor = check_gain(gain)
    if (masks is None) == (like is None):
        raise ValueError(
            f"adaunpool{rank}d needs either masks or like, got "
            + ("neither" if masks is None else "both")
        )
    window = (2 if kernel_size is None else kernel_size, stride, padding, ceil_mode)
    if like is not None:
        if output_size is not None:
            raise ValueError("output_size goes with one plain mask; like has its own size")
        return _unpool_like(rank, y, like, beta, window, weight_grad, factor, similarity)
    if beta is not None:
        raise ValueError("beta goes with like; PoolMasks carry their own, one plain mask has none")
    if isinstance(masks, PoolMasks):
        if (kernel_size, stride, padding, ceil_mode, output_size) != (None, None, 0, False, None):
            raise ValueError(
                "kernel_size, stride, padding, ceil_mode and output_size must be left out with "
                f"PoolMasks, which carry {masks.geometry}"
            )
        return _unpool_masks(rank, y, masks, factor)
    geometry = _single_mask_geometry(y, rank, window, output_size)
    return _unpool_one_mask(y, masks, geometry, factor)


def _unpool_like(
    rank: int,
    y: Tensor,
    like: Tensor,
    beta: float | Tensor | None,
    window: Window,
    weight_grad: bool,
    gain: float,
    similarity: str,
) -> Tensor:
    check_map("like", like, rank)
    check_same("like", like, "y", y)
    if beta is None:
        raise ValueError("beta must be given with like, got None")
    geometry = make_geometry(*window, tuple(like.shape[-rank:]))
    check_y(y, like.shape, geometry, f"like {tuple(like.shape)}")
    b = make_beta(beta, like, geometry, of="like")
    maps = (_batched(y, rank), _batched(like, rank), _batched(b, rank))
    more = [similarity] if similarity else []
    inputs = (*maps, *geometry[:4], weight_grad, gain, *more)
    u: Tensor = _call("ada_unpool_like", bool(similarity), inputs)
    return u if y.dim() == rank + 2 else u.squeeze(0)


def _unpool_masks(rank: int, y: Tensor, masks: PoolMasks, gain: float) -> Tensor:
    geometry = masks.geometry
    if len(geometry.size) != rank:
        raise ValueError(
            f"masks of a pooling over {len(geometry.size)} dimensions need "
            f"adaunpool{len(geometry.size)}d, got adaunpool{rank}d"
        )
    check_y(y, (*y.shape[:-rank], *geometry.size), geometry, f"masks of {geometry}")
    check_mask("masks.edscw", masks.edscw, y, geometry, shared=True)
    check_mask("masks.em", masks.em, y, geometry)
    b = make_beta(masks.beta, y, geometry, of="y")
    maps = (y, masks.edscw, masks.em, b)
    inputs = (*(_batched(t, rank) for t in maps), geometry.size, *geometry[:4], gain)
    u: Tensor = _call("ada_unpool", False, inputs, geometry.size)
    return u if y.dim() == rank + 2 else u.squeeze(0)


def _unpool_one_mask(y: Tensor, mask: Any, geometry: Geometry, gain: float) -> Tensor:
    if not isinstance(mask, Tensor):
        raise TypeError(f"masks must be PoolMasks or one tensor, got {type(mask).__name__}")
    rank = len(geometry.size)
    check_y(y, (*y.shape[:-rank], *geometry.size), geometry, f"output_size {geometry.size}")
    check_mask("masks", mask, y, geometry, shared=True)
    yb, maskb = _batched(y, rank), _batched(mask, rank)
    inputs = (yb, maskb, None, None, geometry.size, *geometry[:4], gain)
    u: Tensor = _call("ada_unpool", False, inputs, geometry.size)
    return u if y.dim() == rank + 2 else u.squeeze(0)
