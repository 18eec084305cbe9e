"""3x3 convolution with what follows it in one pass: an addition and a ReLU.

In float32 PyTorch's own takes 144 multiplications a pair of channels for sixteen pixels, this one
36 (Winograd's minimal filtering, F(4x4, 3x3); Lavin and Gray, "Fast algorithms for convolutional
neural networks", CVPR 2016); so do both gradients. In bfloat16 it is oneDNN's own convolution,
which takes both along.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adapool_sr.ops import build
from adapool_sr.ops.library import NAMESPACES

__all__ = ["conv3x3_bf16", "fused_conv3x3", "has_conv3x3_bf16"]

_SCHEMAS = (
    "fused_conv3x3(Tensor x, Tensor weight, Tensor? bias, Tensor? add, bool relu) -> Tensor",
    "conv3x3_weight_gradient(Tensor x, Tensor grad) -> (Tensor, Tensor)",
)


def fused_conv3x3(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    add: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Convolve with 3x3 filters, zeros outside the map; then add and take the positive part.

    In float32 on the CPU the rounding is that of the transforms: 1e-5 of the largest value, where
    a direct sum has 1e-6. A NaN or infinity spoils the whole tile of 4x4 pixels that it reaches.

    Autocast leaves it alone.

    Args:
        x: (N, C, H, W), any float type and memory format.
        weight: (K, C, 3, 3), of the same type.
        bias: (K,).
        add: (N, K, H, W), added before the ReLU.
        relu: take the positive part.

    Returns:
        (N, K, H, W), of the same type, channels_last.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> mean = torch.full((1, 1, 3, 3), 1 / 9)
        >>> fused_conv3x3(torch.ones(1, 1, 3, 3), mean)[0, 0, 1]
        tensor([0.6667, 1.0000, 0.6667])
    """
    fits = x.dim() == 4 and weight.dim() == 4 and weight.shape[1:] == (x.shape[1], 3, 3)
    if not fits:
        raise ValueError(
            f"x must be (N, C, H, W) and weight (K, C, 3, 3), got {tuple(x.shape)} and "
            f"{tuple(weight.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must be ({weight.shape[0]},), got {tuple(bias.shape)}")
    expected = (x.shape[0], weight.shape[0], *x.shape[2:])
    if add is not None and tuple(add.shape) != expected:
        raise ValueError(f"add must be {expected}, got {tuple(add.shape)}")
    build.load()
    result: Tensor = torch.ops.adapool.fused_conv3x3(x, weight, bias, add, relu)
    return result


@cache
def has_conv3x3_bf16() -> bool:
    """Whether this torch and this processor have :func:`conv3x3_bf16`."""
    # The operators are those that torch.compile fuses with; no release promises them.
    operators = torch.ops.mkldnn
    names = ("_convolution_pointwise", "_is_mkldnn_bf16_supported")
    if not all(hasattr(operators, name) for name in names):  # a build without oneDNN has none
        return False
    if not hasattr(operators._convolution_pointwise, "binary"):
        return False
    return bool(operators._is_mkldnn_bf16_supported())


def conv3x3_bf16(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    add: Tensor | None = None,
    relu: bool = False,
    padding: int = 1,
) -> Tensor:
    """Convolve in bfloat16 with 3x3 filters; add, take the positive part.

    One of the two takes no pass of its own over the result. If all is channels_last it is rounded
    once, after the addition. A NaN may become 0 in a positive part. On the CPU and without a
    gradient, where :func:`has_conv3x3_bf16`.

    Args:
        x: (N, C, H, W), not empty; made bfloat16.
        weight: (K, C, 3, 3); made bfloat16.
        bias: (K,); made bfloat16.
        add: of the result's shape, bfloat16, added before the ReLU.
        relu: take the positive part.
        padding: rows and columns of zeros around x.

    Returns:
        (N, K, H + 2·padding - 2, W + 2·padding - 2), bfloat16.
    """
    half = torch.bfloat16
    weight, shift = weight.to(half), None if bias is None else bias.to(half)
    geometry = ([padding] * 2, [1, 1], [1, 1], 1)
    run = torch.ops.mkldnn._convolution_pointwise
    result: Tensor
    if add is None:
        result = run(x.to(half), weight, shift, *geometry, "relu" if relu else "none", [], "")
        return result
    result = run.binary(x.to(half), add, weight, shift, *geometry, "add", 1.0, None, [], None)
    # PyTorch refuses the two at once where the layouts differ.
    return result.relu_() if relu else result


def _reference(
    x: Tensor, weight: Tensor, bias: Tensor | None, add: Tensor | None, relu: bool
) -> Tensor:
    y = F.conv2d(x, weight, bias, padding=1)
    if add is not None:
        y += add
    y = y.relu_() if relu else y
    return y.contiguous(memory_format=torch.channels_last)


def _fake(x: Tensor, weight: Tensor, bias: Tensor | None, add: Tensor | None, relu: bool) -> Tensor:
    shape = (x.shape[0], weight.shape[0], *x.shape[2:])
    return x.new_empty(shape).contiguous(memory_format=torch.channels_last)


def _gradient_reference(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    weight = x.new_empty((grad.shape[1], x.shape[1], 3, 3))
    return _gradients(x, weight, grad, [False, True, True])[1:]


def _gradient_fake(x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty((grad.shape[1], x.shape[1], 3, 3)), x.new_empty(grad.shape[1])


def _gradients(
    x: Tensor, weight: Tensor, grad: Tensor, wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    """PyTorch's own gradients of x, weight and bias, which can be differentiated again."""
    one, none = [1, 1], [0, 0]
    found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad, x, weight, [weight.shape[0]], one, one, one, False, none, 1, wanted
    )
    return found


# --- autograd --------------------------------------------------------------------------------


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, _, relu = inputs
    ctx.save_for_backward(x, weight, output if relu else None)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight, output = ctx.saved_tensors
    if output is not None:
        grad = torch.ops.aten.threshold_backward(grad, output, 0)
    needs_x, needs_weight, needs_bias, needs_add, _ = ctx.needs_input_grad
    add = grad if needs_add else None
    if torch.is_grad_enabled() or grad.dtype != torch.float32 or grad.device.type != "cpu":
        found = _gradients(x, weight, grad, [needs_x, needs_weight, needs_bias])
        return *found, add, None
    of_x = of_weight = of_bias = None
    if needs_x:
        turned = weight.transpose(0, 1).flip(2, 3)
        of_x = torch.ops.adapool.fused_conv3x3(grad, turned, None, None, False)
    if needs_weight or needs_bias:
        of_weight, of_bias = torch.ops.adapool.conv3x3_weight_gradient(x, grad)
    return of_x, of_weight if needs_weight else None, of_bias if needs_bias else None, add, None


def _register(namespace: str) -> torch.library.Library:
    library = torch.library.Library(namespace, "FRAGMENT")  # type: ignore[no-untyped-call]
    pairs: tuple[tuple[Callable[..., Any], Callable[..., Any]], ...] = (
        (_reference, _fake),
        (_gradient_reference, _gradient_fake),
    )
    for schema, (reference, fake) in zip(_SCHEMAS, pairs, strict=True):
        library.define(schema)  # type: ignore[no-untyped-call]
        name = schema.partition("(")[0]
        library.impl(name, reference, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
        for device in ("CPU", "CUDA"):
            library.impl(name, torch.library.fallthrough_kernel, f"Autocast{device}")  # type: ignore[no-untyped-call]
        torch.library.register_fake(f"{namespace}::{name}", fake, lib=library)
    name = f"{namespace}::fused_conv3x3"
    torch.library.register_autograd(name, _backward, setup_context=_save, lib=library)
    return library


_LIBRARIES = [_register(namespace) for namespace in NAMESPACES]
