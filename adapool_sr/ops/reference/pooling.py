"""Pooling in plain PyTorch: see :mod:`adapool_sr.ops.reference`."""

from __future__ import annotations

from torch import Tensor

from adapool_sr.ops.geometry import Windows
from adapool_sr.ops.reference.common import EM, Ints, as_like, beta_grad, edscw_of, up, weights_of
from adapool_sr.ops.reference.weighting import Idw, Pieces, Weighting, dot

__all__ = [
    "ada_pool",
    "ada_pool_backward",
    "ada_pool_masks",
    "edscw_pool",
    "edscw_pool_backward",
    "edscw_pool_masks",
    "em_pool",
    "em_pool_backward",
    "em_pool_masks",
    "idw_pool",
    "idw_pool_backward",
    "idw_pool_masks",
]

# --- gradients -------------------------------------------------------------------------------


def _pool_grad(
    method: Weighting,
    ws: Pieces,
    xs: Pieces,
    grad: Tensor,
    grad_mask: Pieces | None,
    windows: Windows,
    weight_grad: bool,
) -> Pieces:
    """The gradient of x, in pieces, from that of the output and of the mask."""
    direct = [grad * w for w in ws]
    if not weight_grad:
        return direct
    gs = method.output_grad(grad, xs, windows)
    if grad_mask is not None:
        gs = [g + extra for g, extra in zip(gs, grad_mask, strict=True)]
    through = method.score_grad(ws, gs, xs, windows)
    return [a + b for a, b in zip(direct, through, strict=True)]


# --- pooling ---------------------------------------------------------------------------------


def ada_pool_masks(
    x: Tensor,
    beta: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
    similarity: str = "",
) -> tuple[Tensor, Tensor, Tensor]:
    """β·y^eDSCW + (1−β)·y^eM (N, C, *out) and both masks (N, C, *(out·kernel)).

    The mask of eDSCW is (N, 1, …) where there is a similarity.
    """
    b = up(beta)
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], up(x))
    xs = windows.take(up(x))
    edscw = weights_of(edscw_of(similarity), xs, windows, not weight_grad)
    em = weights_of(EM, xs, windows, not weight_grad)
    y = b * dot(edscw, xs) + (1 - b) * dot(em, xs)
    return as_like(y, x), as_like(windows.join(edscw), x), as_like(windows.join(em), x)


def ada_pool(
    x: Tensor,
    beta: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
    similarity: str = "",
) -> Tensor:
    """β·y^eDSCW + (1−β)·y^eM: (N, C, *out)."""
    b = up(beta)
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], up(x))
    xs = windows.take(up(x))
    edscw = dot(weights_of(edscw_of(similarity), xs, windows, not weight_grad), xs)
    em = dot(weights_of(EM, xs, windows, not weight_grad), xs)
    return as_like(b * edscw + (1 - b) * em, x)


def ada_pool_backward(
    grad: Tensor,
    grad_edscw: Tensor | None,
    grad_em: Tensor | None,
    x: Tensor,
    beta: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
    similarity: str = "",
) -> tuple[Tensor, Tensor]:
    """Gradients of x and of beta (see :func:`beta_grad` for the latter's shape)."""
    g, b, method = up(grad), up(beta), edscw_of(similarity)
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], up(x))
    xs = windows.take(up(x))
    edscw, em = method.weights(xs, windows), EM.weights(xs, windows)
    extra_edscw = None if grad_edscw is None else windows.split(up(grad_edscw))
    extra_em = None if grad_em is None else windows.split(up(grad_em))
    from_edscw = _pool_grad(method, edscw, xs, b * g, extra_edscw, windows, weight_grad)
    from_em = _pool_grad(EM, em, xs, (1 - b) * g, extra_em, windows, weight_grad)
    grad_x = windows.put([i + j for i, j in zip(from_edscw, from_em, strict=True)])
    grad_beta = g * (dot(edscw, xs) - dot(em, xs))
    return as_like(grad_x, x), beta_grad(grad_beta, beta)


def _single_pool(
    method: Weighting,
    x: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
) -> tuple[Tensor, Tensor]:
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], up(x))
    xs = windows.take(up(x))
    ws = weights_of(method, xs, windows, not weight_grad)
    return as_like(dot(ws, xs), x), as_like(windows.join(ws), x)


def _single_backward(
    method: Weighting,
    grad: Tensor,
    grad_mask: Tensor | None,
    x: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
) -> Tensor:
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], up(x))
    xs = windows.take(up(x))
    ws = method.weights(xs, windows)
    extra = None if grad_mask is None else windows.split(up(grad_mask))
    return as_like(
        windows.put(_pool_grad(method, ws, xs, up(grad), extra, windows, weight_grad)), x
    )


def edscw_pool(
    x: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
    similarity: str = "",
) -> Tensor:
    """Σ w^eDSCW·x: (N, C, *out)."""
    window = (kernel, stride, padding, ceil_mode, weight_grad)
    return _single_pool(edscw_of(similarity), x, *window)[0]


def edscw_pool_masks(
    x: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
    similarity: str = "",
) -> tuple[Tensor, Tensor]:
    """Σ w^eDSCW·x and the mask."""
    window = (kernel, stride, padding, ceil_mode, weight_grad)
    return _single_pool(edscw_of(similarity), x, *window)


def edscw_pool_backward(
    grad: Tensor,
    grad_mask: Tensor | None,
    x: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
    similarity: str = "",
) -> Tensor:
    """Gradient of x."""
    window = (kernel, stride, padding, ceil_mode, weight_grad)
    return _single_backward(edscw_of(similarity), grad, grad_mask, x, *window)


def em_pool(
    x: Tensor, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, weight_grad: bool
) -> Tensor:
    """Σ w^eM·x: (N, C, *out)."""
    return _single_pool(EM, x, kernel, stride, padding, ceil_mode, weight_grad)[0]


def em_pool_masks(
    x: Tensor, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, weight_grad: bool
) -> tuple[Tensor, Tensor]:
    """Σ w^eM·x and the mask."""
    return _single_pool(EM, x, kernel, stride, padding, ceil_mode, weight_grad)


def em_pool_backward(
    grad: Tensor,
    grad_mask: Tensor | None,
    x: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
) -> Tensor:
    """Gradient of x."""
    window = (kernel, stride, padding, ceil_mode, weight_grad)
    return _single_backward(EM, grad, grad_mask, x, *window)


def idw_pool(
    x: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
    distance: str,
    delta: float,
    drop: bool,
    vector: bool,
) -> Tensor:
    """Σ w^IDW·x: (N, C, *out)."""
    window = (kernel, stride, padding, ceil_mode, weight_grad)
    return _single_pool(Idw(distance, delta, drop, vector), x, *window)[0]


def idw_pool_masks(
    x: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
    distance: str,
    delta: float,
    drop: bool,
    vector: bool,
) -> tuple[Tensor, Tensor]:
    """Σ w^IDW·x and the mask, (N, 1, …) if ``vector``."""
    window = (kernel, stride, padding, ceil_mode, weight_grad)
    return _single_pool(Idw(distance, delta, drop, vector), x, *window)


def idw_pool_backward(
    grad: Tensor,
    grad_mask: Tensor | None,
    x: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
    distance: str,
    delta: float,
    drop: bool,
    vector: bool,
) -> Tensor:
    """Gradient of x."""
    window = (kernel, stride, padding, ceil_mode, weight_grad)
    return _single_backward(Idw(distance, delta, drop, vector), grad, grad_mask, x, *window)
