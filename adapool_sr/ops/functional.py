"""Pooling and unpooling functions: checks, shapes and beta; the arithmetic is the operators'.

Source: Stergiou & Poppe, "AdaPool: Exponential Adaptive Pooling for Information-Retaining
Downsampling", IEEE TIP 32, 2023 (arXiv 2111.00772).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, overload

import torch
from torch import Tensor

from adapool_sr.ops import build, library, reference
from adapool_sr.ops.checks import (
    Gain,
    check_gain,
    check_granularity,
    check_map,
    check_mask,
    check_same,
    check_y,
    make_beta,
)
from adapool_sr.ops.geometry import Geometry, make_geometry, output_size

__all__ = ["PoolMasks", "adapool2d", "adaunpool2d", "edscwpool2d", "empool2d"]

Size = int | Sequence[int]

# The namespace that is called; tests set the other one of library.NAMESPACES.
_namespace = library.NAMESPACES[0]


class PoolMasks(NamedTuple):
    """What AdaPool keeps of its windows, for :func:`adaunpool2d`.

    Attributes:
        edscw: weights of the eDSCW part, (N, C, oH·kH, oW·kW) or (C, oH·kH, oW·kW): entry
            (a·kH + i, b·kW + j) belongs to input row a·sH − pH + i and column b·sW − pW + j;
            0 in the padding, else positive, each window's sum 1.
        em: weights of the eM part, likewise.
        beta: the β that mixed them, as many dimensions as the input, each 1 or the output's.
        geometry: the windows and the input's size.
    """

    edscw: Tensor
    em: Tensor
    beta: Tensor
    geometry: Geometry


def _load_native() -> bool:
    """Load the native kernels once; a compiled graph does it while it is traced."""
    return build.load().kernel == "native"


# What torch.compiler.assume_constant_result does, without dynamo, whose import takes a second.
_load_native._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _ops() -> Any:
    """Where the operators are found: all three places have the same names and arguments."""
    if not torch.compiler.is_dynamo_compiling() and (
        torch._C._are_functorch_transforms_active() or torch.onnx.is_in_onnx_export()
    ):
        # Operators with registered autograd don't go through torch.func, nor into an ONNX file.
        return reference
    _load_native()
    return getattr(torch.ops, _namespace)


def _ops_of(geometry: Geometry) -> Any:
    """As :func:`_ops`, for operators with an argument ``int[] size``: a symbol would not fit it."""
    symbolic = any(isinstance(n, torch.SymInt) for n in geometry.size)
    return reference if symbolic else _ops()


def _batched(x: Tensor, rank: int) -> Tensor:
    return x if x.dim() == rank + 2 else x.unsqueeze(0)


# --- pooling ---------------------------------------------------------------------------------


def _single(
    method: str,
    x: Tensor,
    rank: int,
    window: tuple[Size, Size | None, Size, bool],
    granularity: str,
    weight_grad: bool,
    return_masks: bool,
) -> Any:
    check_map("x", x, rank)
    check_granularity(granularity)
    kernel, stride, padding, ceil, _ = make_geometry(*window, tuple(x.shape[-rank:]))
    xb = _batched(x, rank)
    name = f"{method}_pool_masks" if return_masks else f"{method}_pool"
    result = getattr(_ops(), name)(xb, kernel, stride, padding, ceil, weight_grad)
    if x.dim() == rank + 2:
        return result
    return tuple(t.squeeze(0) for t in result) if return_masks else result.squeeze(0)


@overload
def edscwpool2d(
    x: Tensor,
    kernel_size: Size = ...,
    stride: Size | None = ...,
    padding: Size = ...,
    ceil_mode: bool = ...,
    *,
    granularity: str = ...,
    weight_grad: bool = ...,
    return_masks: Literal[False] = ...,
) -> Tensor: ...


@overload
def edscwpool2d(
    x: Tensor,
    kernel_size: Size = ...,
    stride: Size | None = ...,
    padding: Size = ...,
    ceil_mode: bool = ...,
    *,
    granularity: str = ...,
    weight_grad: bool = ...,
    return_masks: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def edscwpool2d(
    x: Tensor,
    kernel_size: Size = 2,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    *,
    granularity: str = "channel",
    weight_grad: bool = True,
    return_masks: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Pool by the exponential Dice-Sørensen similarity of each value to its window's mean.

    w = softmax over the window of 2·|x·m| / (x² + m²), y = Σ w·x (Stergiou & Poppe 2023, eDSCW).

    Args:
        x: (N, C, H, W) or (C, H, W), float16, bfloat16, float32 or float64, any strides and range.
        kernel_size: window size, one int or (kH, kW).
        stride: step between windows; None: the kernel's.
        padding: positions beside the image that windows may cover, at most half the kernel; they
            take no part in anything.
        ceil_mode: let a last window stick out, as in ``F.avg_pool2d``.
        granularity: "channel": every channel has its own weights.
        weight_grad: True for the exact derivative, False for the paper's proportional rule, which
            holds the weights constant.
        return_masks: also return the weights, window by window: (N, C, oH·kH, oW·kW).

    Returns:
        y (N, C, oH, oW), or (y, mask); dtype, device and memory format of x.

    Raises:
        TypeError: x is no float tensor, or an argument is of the wrong kind.
        ValueError: wrong rank, or a geometry that cannot be.

    Example:
        >>> edscwpool2d(torch.ones(1, 3, 4, 4)).shape
        torch.Size([1, 3, 2, 2])
    """
    window = (kernel_size, stride, padding, ceil_mode)
    result: Tensor | tuple[Tensor, Tensor] = _single(
        "edscw", x, 2, window, granularity, weight_grad, return_masks
    )
    return result


@overload
def empool2d(
    x: Tensor,
    kernel_size: Size = ...,
    stride: Size | None = ...,
    padding: Size = ...,
    ceil_mode: bool = ...,
    *,
    granularity: str = ...,
    weight_grad: bool = ...,
    return_masks: Literal[False] = ...,
) -> Tensor: ...


@overload
def empool2d(
    x: Tensor,
    kernel_size: Size = ...,
    stride: Size | None = ...,
    padding: Size = ...,
    ceil_mode: bool = ...,
    *,
    granularity: str = ...,
    weight_grad: bool = ...,
    return_masks: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def empool2d(
    x: Tensor,
    kernel_size: Size = 2,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    *,
    granularity: str = "channel",
    weight_grad: bool = True,
    return_masks: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Pool by the softmax of the values themselves (exponential maximum, SoftPool).

    w = softmax over the window of x, y = Σ w·x (Stergiou & Poppe 2023, eM).

    Args:
        x: as in :func:`edscwpool2d`, like all other arguments.
        kernel_size: window size.
        stride: step between windows.
        padding: positions beside the image.
        ceil_mode: let a last window stick out.
        granularity: "channel"; eM is per channel in any case.
        weight_grad: exact or proportional gradient.
        return_masks: also return the weights.

    Returns:
        y (N, C, oH, oW), or (y, mask); dtype, device and memory format of x.

    Raises:
        TypeError: as in :func:`edscwpool2d`.
        ValueError: as in :func:`edscwpool2d`.

    Example:
        >>> empool2d(torch.zeros(3, 4, 4), kernel_size=3, stride=2, padding=1).shape
        torch.Size([3, 2, 2])
    """
    window = (kernel_size, stride, padding, ceil_mode)
    result: Tensor | tuple[Tensor, Tensor] = _single(
        "em", x, 2, window, granularity, weight_grad, return_masks
    )
    return result


@overload
def adapool2d(
    x: Tensor,
    beta: float | Tensor,
    kernel_size: Size = ...,
    stride: Size | None = ...,
    padding: Size = ...,
    ceil_mode: bool = ...,
    *,
    granularity: str = ...,
    weight_grad: bool = ...,
    return_masks: Literal[False] = ...,
) -> Tensor: ...


@overload
def adapool2d(
    x: Tensor,
    beta: float | Tensor,
    kernel_size: Size = ...,
    stride: Size | None = ...,
    padding: Size = ...,
    ceil_mode: bool = ...,
    *,
    granularity: str = ...,
    weight_grad: bool = ...,
    return_masks: Literal[True],
) -> tuple[Tensor, PoolMasks]: ...


def adapool2d(
    x: Tensor,
    beta: float | Tensor,
    kernel_size: Size = 2,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    *,
    granularity: str = "channel",
    weight_grad: bool = True,
    return_masks: bool = False,
) -> Tensor | tuple[Tensor, PoolMasks]:
    """Adaptive exponential pooling: β·eDSCW + (1−β)·eM (Stergiou & Poppe 2023, AdaPool).

    Args:
        x: (N, C, H, W) or (C, H, W), float16, bfloat16, float32 or float64, any strides and range.
        beta: a float, or a tensor of x's dtype and device that broadcasts to the output: (),
            (C, 1, 1), (oH, oW), (C, oH, oW), (N, 1, oH, oW), …; used as given, 1 is eDSCW, 0 is eM.
        kernel_size: window size, one int or (kH, kW).
        stride: step between windows; None: the kernel's.
        padding: positions beside the image that windows may cover, at most half the kernel; they
            take no part in anything.
        ceil_mode: let a last window stick out, as in ``F.avg_pool2d``.
        granularity: "channel": every channel has its own weights.
        weight_grad: True for the exact derivative, False for the paper's proportional rule, which
            holds the weights constant.
        return_masks: also return the weights and beta, for :func:`adaunpool2d`.

    Returns:
        y (N, C, oH, oW), or (y, PoolMasks); dtype, device and memory format of x.

    Raises:
        TypeError: x is no float tensor, or beta of another dtype or kind.
        ValueError: wrong rank, a geometry that cannot be, beta that doesn't broadcast or is on
            another device.

    Example:
        >>> y, masks = adapool2d(torch.rand(1, 3, 5, 5), 0.5, ceil_mode=True, return_masks=True)
        >>> adaunpool2d(y, masks, gain="area").shape
        torch.Size([1, 3, 5, 5])
    """
    check_map("x", x, 2)
    check_granularity(granularity)
    geometry = make_geometry(kernel_size, stride, padding, ceil_mode, tuple(x.shape[-2:]))
    b = make_beta(beta, x, output_size(geometry))
    ops, window = _ops(), (*geometry[:4], weight_grad)
    xb, bb = _batched(x, 2), _batched(b, 2)
    if not return_masks:
        y: Tensor = ops.ada_pool(xb, bb, *window)
        return y if x.dim() == 4 else y.squeeze(0)
    y, edscw, em = ops.ada_pool_masks(xb, bb, *window)
    if x.dim() == 3:
        y, edscw, em = y.squeeze(0), edscw.squeeze(0), em.squeeze(0)
    return y, PoolMasks(edscw, em, b, geometry)


# --- unpooling -------------------------------------------------------------------------------


def _single_mask_geometry(
    y: Tensor, window: tuple[Size, Size | None, Size, bool], output_size_: Sequence[int] | None
) -> Geometry:
    """The geometry of one plain mask; without an output size, that which all windows just fill."""
    if output_size_ is None:
        # Any valid size serves to check the window's arguments.
        kernel, stride, padding, *_ = make_geometry(*window, (1 << 30, 1 << 30))
        size = [
            (o - 1) * s + k - 2 * p
            for o, k, s, p in zip(y.shape[-2:], kernel, stride, padding, strict=True)
        ]
    else:
        size = list(output_size_)
        if len(size) != 2 or not all(isinstance(n, int | torch.SymInt) for n in size):
            raise ValueError(f"output_size must be two ints, got {output_size_!r}")
    return make_geometry(*window, size)


def adaunpool2d(
    y: Tensor,
    masks: PoolMasks | Tensor | None = None,
    *,
    like: Tensor | None = None,
    beta: float | Tensor | None = None,
    kernel_size: Size | None = None,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    output_size: Sequence[int] | None = None,
    granularity: str = "channel",
    weight_grad: bool = True,
    gain: Gain = 1.0,
) -> Tensor:
    """Spread pooled values over their windows by the encoder's weights (AdaUnpool).

    u(p) = gain·Σ over windows R that contain p of y_R·(β_R·w^eDSCW_R(p) + (1−β_R)·w^eM_R(p)); 0
    where no window lies. Three ways to give the weights:

    - ``masks`` from ``adapool2d(…, return_masks=True)``: they know their geometry and beta;
    - ``masks``, one plain tensor of :func:`edscwpool2d` or :func:`empool2d`, with the window's
      arguments and ``output_size`` (None: the size that the windows just fill);
    - ``like``, the map that was pooled, with ``beta`` and the window's arguments: the weights are
      recomputed and nothing need be kept.

    Args:
        y: (N, C, oH, oW) or (C, oH, oW), float16, bfloat16, float32 or float64, any range.
        masks: PoolMasks, or one mask (N, C, oH·kH, oW·kW) of y's dtype and device.
        like: (N, C, H, W) or (C, H, W), dtype and device of y.
        beta: as in :func:`adapool2d`; only with ``like``.
        kernel_size: window size, 2 where left out; not with PoolMasks.
        stride: step between windows; None: the kernel's.
        padding: as in the pooling.
        ceil_mode: as in the pooling.
        output_size: (H, W) of the result; only with one plain mask.
        granularity: "channel".
        weight_grad: False holds the weights that ``like`` gives constant.
        gain: 1 keeps a window's sum (the paper's rule), K its mean; "area" weighs by the windows'
            and the overlaps' sizes, so that flat maps stay flat in any geometry.

    Returns:
        (N, C, H, W) or (C, H, W); dtype, device and memory format of y.

    Raises:
        TypeError: no float tensors, different dtypes, or arguments of the wrong kind.
        ValueError: shapes that don't fit, different devices, a gain that is not positive and
            finite, or arguments that don't go together.
    """
    check_map("y", y, 2)
    check_granularity(granularity)
    factor = check_gain(gain)
    if (masks is None) == (like is None):
        raise ValueError(
            "adaunpool2d needs either masks or like, got "
            + ("neither" if masks is None else "both")
        )
    window = (2 if kernel_size is None else kernel_size, stride, padding, ceil_mode)
    if like is not None:
        if output_size is not None:
            raise ValueError("output_size goes with one plain mask; like has its own size")
        return _unpool_like(y, like, beta, window, weight_grad, factor)
    if beta is not None:
        raise ValueError("beta goes with like; PoolMasks carry their own, one plain mask has none")
    if isinstance(masks, PoolMasks):
        if (kernel_size, stride, padding, ceil_mode, output_size) != (None, None, 0, False, None):
            raise ValueError(
                "kernel_size, stride, padding, ceil_mode and output_size must be left out with "
                f"PoolMasks, which carry {masks.geometry}"
            )
        return _unpool_masks(y, masks, factor)
    geometry = _single_mask_geometry(y, window, output_size)
    return _unpool_one_mask(y, masks, geometry, factor)


def _unpool_like(
    y: Tensor,
    like: Tensor,
    beta: float | Tensor | None,
    window: tuple[Size, Size | None, Size, bool],
    weight_grad: bool,
    gain: float,
) -> Tensor:
    check_map("like", like, 2)
    check_same("like", like, "y", y)
    if beta is None:
        raise ValueError("beta must be given with like, got None")
    geometry = make_geometry(*window, tuple(like.shape[-2:]))
    check_y(y, like.shape, geometry, f"like {tuple(like.shape)}")
    b = make_beta(beta, like, y.shape[-2:], of="like")
    u: Tensor = _ops().ada_unpool_like(
        _batched(y, 2), _batched(like, 2), _batched(b, 2), *geometry[:4], weight_grad, gain
    )
    return u if y.dim() == 4 else u.squeeze(0)


def _unpool_masks(y: Tensor, masks: PoolMasks, gain: float) -> Tensor:
    geometry = masks.geometry
    check_y(y, (*y.shape[:-2], *geometry.size), geometry, f"masks of {geometry}")
    check_mask("masks.edscw", masks.edscw, y, geometry)
    check_mask("masks.em", masks.em, y, geometry)
    b = make_beta(masks.beta, y, y.shape[-2:], of="y")
    u: Tensor = _ops_of(geometry).ada_unpool(
        _batched(y, 2),
        _batched(masks.edscw, 2),
        _batched(masks.em, 2),
        _batched(b, 2),
        geometry.size,
        *geometry[:4],
        gain,
    )
    return u if y.dim() == 4 else u.squeeze(0)


def _unpool_one_mask(y: Tensor, mask: Any, geometry: Geometry, gain: float) -> Tensor:
    if not isinstance(mask, Tensor):
        raise TypeError(f"masks must be PoolMasks or one tensor, got {type(mask).__name__}")
    check_y(y, (*y.shape[:-2], *geometry.size), geometry, f"output_size {geometry.size}")
    check_mask("masks", mask, y, geometry)
    u: Tensor = _ops_of(geometry).ada_unpool(
        _batched(y, 2), _batched(mask, 2), None, None, geometry.size, *geometry[:4], gain
    )
    return u if y.dim() == 4 else u.squeeze(0)
