"""The pooling operators in plain PyTorch: what every kernel must compute, for any rank and device.

Source: Stergiou & Poppe, "AdaPool: Exponential Adaptive Pooling for Information-Retaining
Downsampling", IEEE TIP 32, 2023 (arXiv 2111.00772).

Each public function has the name and arguments of its operator in :mod:`adapool_sr.ops.library`.
Windows are handled as K *pieces* of the output's size, one for each position inside the window (see
:mod:`adapool_sr.ops.geometry`); sums run over pieces in a fixed order, so results don't depend on
threads or layout. Half precisions are computed in float32. ``beta`` has as many dimensions as x,
each 1 or the output's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from adapool_sr.ops.geometry import Windows, in_format_of

__all__ = [
    "ada_pool",
    "ada_pool_backward",
    "ada_pool_masks",
    "ada_unpool",
    "ada_unpool_backward",
    "ada_unpool_like",
    "ada_unpool_like_backward",
    "edscw_pool",
    "edscw_pool_backward",
    "edscw_pool_masks",
    "em_pool",
    "em_pool_backward",
    "em_pool_masks",
]

Pieces = list[Tensor]
Ints = Sequence[int]


def _up(x: Tensor) -> Tensor:
    """The tensor in the dtype that is computed in."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _as(result: Tensor, like: Tensor) -> Tensor:
    """The result in the dtype and memory format of ``like``."""
    return in_format_of(like, result.to(like.dtype))


def _sum(pieces: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, pieces)


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return _sum([i * j for i, j in zip(a, b, strict=True)])


# --- weights ---------------------------------------------------------------------------------


def _mean(xs: Pieces, windows: Windows) -> Tensor:
    m = _sum(xs) / windows.count
    # The sum of values near the largest float overflows where their mean does not.
    return torch.where(m.isfinite(), m, _sum([x / windows.count for x in xs]))


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    """D = 2ab/(a² + b²) of a = |x| and b = |m|, 0 where both are 0.

    Taken of the ratio of the smaller to the larger, so that no square overflows or vanishes.
    """
    high = torch.maximum(a, b)
    ratio = torch.minimum(a, b) / torch.where(high == 0, 1, high)
    return 2 * ratio / (1 + ratio * ratio)


def _normalised(exponentials: Pieces, windows: Windows) -> Pieces:
    exponentials = windows.only_valid(exponentials, 0)
    total = _sum(exponentials)
    return [e / total for e in exponentials]


def _edscw_weights(xs: Pieces, m: Tensor, windows: Windows) -> Pieces:
    """Softmax of D over the window; D lies in [0, 1] and needs no shift."""
    b = m.abs()
    return _normalised([_similarity(x.abs(), b).exp() for x in xs], windows)


def _em_weights(xs: Pieces, windows: Windows) -> Pieces:
    """Softmax of x over the window, shifted by the maximum."""
    top = reduce(torch.maximum, windows.only_valid(xs, -torch.inf))
    return _normalised([(x - top).exp() for x in xs], windows)


def _weights(xs: Pieces, windows: Windows, method: str, constant: bool = False) -> Pieces:
    if method == "em":
        ws = _em_weights(xs, windows)
    else:
        ws = _edscw_weights(xs, _mean(xs, windows), windows)
    return [w.detach() for w in ws] if constant else ws


# --- gradients of the weights ----------------------------------------------------------------


def _softmax_grad(ws: Pieces, gs: Pieces) -> Pieces:
    """ds_i = w_i (G_i − Σ_j w_j G_j)."""
    mean = _dot(ws, gs)
    return [w * (g - mean) for w, g in zip(ws, gs, strict=True)]


def _similarity_grad(ds: Pieces, xs: Pieces, windows: Windows) -> Pieces:
    """ds_k·D_x(x_k, m) + (1/K)·Σ_i ds_i·D_m(x_i, m).

    D_x and D_m don't change when x, m and 1/result are scaled alike; the scale is a constant of
    that identity, so it needs no gradient of its own.
    """
    m = _mean(xs, windows)
    m_abs, m_sign = m.abs(), m.sign()
    by_x, by_m = [], []
    for d, x in zip(ds, xs, strict=True):
        x_abs = x.abs()
        scale = torch.maximum(x_abs, m_abs).detach()
        zero = (scale == 0).to(scale.dtype)
        scale = scale + zero
        a, b = x_abs / scale, m_abs / scale
        slope = 2 * (b * b - a * a) / (a * a + b * b + zero).square()
        # Divided last: ds is as small as x where both are tiny.
        by_x.append(d * (x.sign() * b * slope) / scale)
        by_m.append(d * (a * slope) / scale)
    shared = -m_sign * _sum(by_m) / windows.count
    return [g + shared for g in by_x]


def _pool_grad(
    method: str,
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
    gs = [grad * x for x in xs]
    if grad_mask is not None:
        gs = [g + extra for g, extra in zip(gs, grad_mask, strict=True)]
    return [a + b for a, b in zip(direct, _score_grad(method, ws, xs, gs, windows), strict=True)]


def _score_grad(method: str, ws: Pieces, xs: Pieces, gs: Pieces, windows: Windows) -> Pieces:
    """What the gradients ``gs`` of the weights are to x: softmax, then the score."""
    ds = _softmax_grad(ws, gs)
    return ds if method == "em" else _similarity_grad(ds, xs, windows)


def _beta_grad(grad: Tensor, beta: Tensor) -> Tensor:
    """Sum (N, C, *out) over space unless beta varies there: (N, C, 1, …).

    Summed from one layout, dimension by dimension: the order of a sum must not depend on memory
    format or threads.
    """
    rank = grad.dim() - 2
    if any(n > 1 for n in beta.shape[2:]):
        return grad.contiguous()
    grad = grad.contiguous()
    for _ in range(rank):
        grad = grad.sum(-1)
    return grad.reshape(*grad.shape, *(1,) * rank)


# --- pooling ---------------------------------------------------------------------------------


def ada_pool_masks(
    x: Tensor,
    beta: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """β·y^eDSCW + (1−β)·y^eM (N, C, *out) and both masks (N, C, *(out·kernel))."""
    b = _up(beta)
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], _up(x))
    xs = windows.take(_up(x))
    edscw = _weights(xs, windows, "edscw", not weight_grad)
    em = _weights(xs, windows, "em", not weight_grad)
    y = b * _dot(edscw, xs) + (1 - b) * _dot(em, xs)
    return _as(y, x), _as(windows.join(edscw), x), _as(windows.join(em), x)


def ada_pool(
    x: Tensor,
    beta: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
) -> Tensor:
    """β·y^eDSCW + (1−β)·y^eM: (N, C, *out)."""
    b = _up(beta)
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], _up(x))
    xs = windows.take(_up(x))
    edscw = _dot(_weights(xs, windows, "edscw", not weight_grad), xs)
    em = _dot(_weights(xs, windows, "em", not weight_grad), xs)
    return _as(b * edscw + (1 - b) * em, x)


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
) -> tuple[Tensor, Tensor]:
    """Gradients of x and of beta (see :func:`_beta_grad` for the latter's shape)."""
    g, b = _up(grad), _up(beta)
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], _up(x))
    xs = windows.take(_up(x))
    edscw, em = _weights(xs, windows, "edscw"), _weights(xs, windows, "em")
    extra_edscw = None if grad_edscw is None else windows.split(_up(grad_edscw))
    extra_em = None if grad_em is None else windows.split(_up(grad_em))
    from_edscw = _pool_grad("edscw", edscw, xs, b * g, extra_edscw, windows, weight_grad)
    from_em = _pool_grad("em", em, xs, (1 - b) * g, extra_em, windows, weight_grad)
    grad_x = windows.put([i + j for i, j in zip(from_edscw, from_em, strict=True)])
    grad_beta = g * (_dot(edscw, xs) - _dot(em, xs))
    return _as(grad_x, x), _beta_grad(grad_beta, beta)


def _single_pool(
    method: str, x: Tensor, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, wg: bool
) -> tuple[Tensor, Tensor]:
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], _up(x))
    xs = windows.take(_up(x))
    ws = _weights(xs, windows, method, not wg)
    return _as(_dot(ws, xs), x), _as(windows.join(ws), x)


def _single_backward(
    method: str,
    grad: Tensor,
    grad_mask: Tensor | None,
    x: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
) -> Tensor:
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], _up(x))
    xs = windows.take(_up(x))
    ws = _weights(xs, windows, method)
    extra = None if grad_mask is None else windows.split(_up(grad_mask))
    return _as(windows.put(_pool_grad(method, ws, xs, _up(grad), extra, windows, weight_grad)), x)


def edscw_pool(
    x: Tensor, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, weight_grad: bool
) -> Tensor:
    """Σ w^eDSCW·x: (N, C, *out)."""
    return _single_pool("edscw", x, kernel, stride, padding, ceil_mode, weight_grad)[0]


def edscw_pool_masks(
    x: Tensor, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, weight_grad: bool
) -> tuple[Tensor, Tensor]:
    """Σ w^eDSCW·x and the mask."""
    return _single_pool("edscw", x, kernel, stride, padding, ceil_mode, weight_grad)


def edscw_pool_backward(
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
    return _single_backward(
        "edscw", grad, grad_mask, x, kernel, stride, padding, ceil_mode, weight_grad
    )


def em_pool(
    x: Tensor, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, weight_grad: bool
) -> Tensor:
    """Σ w^eM·x: (N, C, *out)."""
    return _single_pool("em", x, kernel, stride, padding, ceil_mode, weight_grad)[0]


def em_pool_masks(
    x: Tensor, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, weight_grad: bool
) -> tuple[Tensor, Tensor]:
    """Σ w^eM·x and the mask."""
    return _single_pool("em", x, kernel, stride, padding, ceil_mode, weight_grad)


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
    return _single_backward(
        "em", grad, grad_mask, x, kernel, stride, padding, ceil_mode, weight_grad
    )


# --- unpooling -------------------------------------------------------------------------------


def _spread(y: Tensor, ws: Pieces, windows: Windows, gain: float) -> Tensor:
    """u(p) = Σ_{R∋p} c_R(p)·y_R·w_R(p) with c = gain, or K_R/n_p where gain is 0 ("area")."""
    c = y * windows.count if gain == 0 else y * gain
    u = windows.put([c * w for w in ws])
    return u / windows.cover if gain == 0 else u


def _spread_grad(grad: Tensor, y: Tensor, windows: Windows, gain: float) -> tuple[Pieces, Pieces]:
    """Gradients of the weights, dw_R(p) = c·y_R·v(p), and c·v(p) itself; both in pieces."""
    factor = windows.count if gain == 0 else gain
    vs = windows.take(grad / windows.cover if gain == 0 else grad)
    cvs = [v * factor for v in vs]
    return [v * y for v in cvs], cvs


def _mixed(edscw: Pieces, em: Pieces, beta: Tensor) -> Pieces:
    return [beta * a + (1 - beta) * b for a, b in zip(edscw, em, strict=True)]


def ada_unpool(
    y: Tensor,
    mask: Tensor,
    mask_em: Tensor | None,
    beta: Tensor | None,
    size: Ints,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    gain: float,
) -> Tensor:
    """Spread y (N, C, *out) over its windows by kept masks: (N, C, *size).

    ``gain`` 0 means "area". Without ``mask_em`` and ``beta`` the one mask is the weights.
    """
    windows = Windows(kernel, stride, padding, ceil_mode, size, _up(y))
    ws = windows.split(_up(mask))
    if mask_em is not None and beta is not None:
        ws = _mixed(ws, windows.split(_up(mask_em)), _up(beta))
    return _as(_spread(_up(y), ws, windows, gain), y)


def ada_unpool_backward(
    grad: Tensor,
    y: Tensor,
    mask: Tensor,
    mask_em: Tensor | None,
    beta: Tensor | None,
    size: Ints,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    gain: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of y, mask, mask_em and beta; empty tensors where the latter two are absent."""
    windows = Windows(kernel, stride, padding, ceil_mode, size, _up(y))
    dw, cv = _spread_grad(_up(grad), _up(y), windows, gain)
    ws = windows.split(_up(mask))
    if mask_em is None or beta is None:
        grad_y, grad_mask = _dot(ws, cv), windows.join(dw)
        return _as(grad_y, y), _as(grad_mask, mask), y.new_empty(0), y.new_empty(0)
    b, em = _up(beta), windows.split(_up(mask_em))
    grad_y = _dot(_mixed(ws, em, b), cv)
    grad_beta = _dot(dw, [i - j for i, j in zip(ws, em, strict=True)])
    grad_mask = windows.join([b * d for d in dw])
    grad_mask_em = windows.join([(1 - b) * d for d in dw])
    return (
        _as(grad_y, y),
        _as(grad_mask, mask),
        _as(grad_mask_em, mask_em),
        _beta_grad(grad_beta, beta),
    )


def ada_unpool_like(
    y: Tensor,
    x: Tensor,
    beta: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
    gain: float,
) -> Tensor:
    """Spread y (N, C, *out) by the weights of the encoder's map x (N, C, *size): (N, C, *size)."""
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], _up(x))
    xs = windows.take(_up(x))
    edscw = _weights(xs, windows, "edscw", not weight_grad)
    em = _weights(xs, windows, "em", not weight_grad)
    return _as(_spread(_up(y), _mixed(edscw, em, _up(beta)), windows, gain), y)


def ada_unpool_like_backward(
    grad: Tensor,
    y: Tensor,
    x: Tensor,
    beta: Tensor,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    weight_grad: bool,
    gain: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of y, x and beta; that of x is 0 where the weights are held constant."""
    b = _up(beta)
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], _up(x))
    xs = windows.take(_up(x))
    edscw, em = _weights(xs, windows, "edscw"), _weights(xs, windows, "em")
    dw, cv = _spread_grad(_up(grad), _up(y), windows, gain)
    grad_y = _dot(_mixed(edscw, em, b), cv)
    grad_beta = _dot(dw, [i - j for i, j in zip(edscw, em, strict=True)])
    if weight_grad:
        from_edscw = _score_grad("edscw", edscw, xs, [b * d for d in dw], windows)
        from_em = _score_grad("em", em, xs, [(1 - b) * d for d in dw], windows)
        grad_x = windows.put([i + j for i, j in zip(from_edscw, from_em, strict=True)])
    else:
        grad_x = torch.zeros_like(_up(x))
    return _as(grad_y, y), _as(grad_x, x), _beta_grad(grad_beta, beta)
