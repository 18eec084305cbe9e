"""Unpooling in plain PyTorch: see :mod:`adapool_sr.ops.reference`."""

from __future__ import annotations

import torch
from torch import Tensor

from adapool_sr.ops.geometry import Windows
from adapool_sr.ops.reference.common import EM, Ints, as_like, beta_grad, edscw_of, up, weights_of
from adapool_sr.ops.reference.weighting import Pieces, channel_sum, dot

__all__ = [
    "ada_unpool",
    "ada_unpool_backward",
    "ada_unpool_like",
    "ada_unpool_like_backward",
]


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


def _for_mask(dw: Pieces, mask: Tensor) -> Pieces:
    """Gradients of weights for a mask that has one channel or as many as they."""
    return [channel_sum(d) for d in dw] if mask.shape[1] == 1 else dw


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

    ``gain`` 0 means "area". ``mask`` may have one channel for all of y's. Without ``mask_em``
    and ``beta`` the one mask is the weights.
    """
    windows = Windows(kernel, stride, padding, ceil_mode, size, up(y))
    ws = windows.split(up(mask))
    if mask_em is not None and beta is not None:
        ws = _mixed(ws, windows.split(up(mask_em)), up(beta))
    return as_like(_spread(up(y), ws, windows, gain), y)


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
    windows = Windows(kernel, stride, padding, ceil_mode, size, up(y))
    dw, cv = _spread_grad(up(grad), up(y), windows, gain)
    ws = windows.split(up(mask))
    if mask_em is None or beta is None:
        grad_y, grad_mask = dot(ws, cv), windows.join(_for_mask(dw, mask))
        return as_like(grad_y, y), as_like(grad_mask, mask), y.new_empty(0), y.new_empty(0)
    b, em = up(beta), windows.split(up(mask_em))
    grad_y = dot(_mixed(ws, em, b), cv)
    grad_beta = dot(dw, [i - j for i, j in zip(ws, em, strict=True)])
    grad_mask = windows.join(_for_mask([b * d for d in dw], mask))
    grad_mask_em = windows.join([(1 - b) * d for d in dw])
    return (
        as_like(grad_y, y),
        as_like(grad_mask, mask),
        as_like(grad_mask_em, mask_em),
        beta_grad(grad_beta, beta),
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
    similarity: str = "",
) -> Tensor:
    """Spread y (N, C, *out) by the weights of the encoder's map x (N, C, *size): (N, C, *size)."""
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], up(x))
    xs = windows.take(up(x))
    edscw = weights_of(edscw_of(similarity), xs, windows, not weight_grad)
    em = weights_of(EM, xs, windows, not weight_grad)
    return as_like(_spread(up(y), _mixed(edscw, em, up(beta)), windows, gain), y)


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
    similarity: str = "",
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of y, x and beta; that of x is 0 where the weights are held constant."""
    b, method = up(beta), edscw_of(similarity)
    windows = Windows(kernel, stride, padding, ceil_mode, x.shape[2:], up(x))
    xs = windows.take(up(x))
    edscw, em = method.weights(xs, windows), EM.weights(xs, windows)
    dw, cv = _spread_grad(up(grad), up(y), windows, gain)
    grad_y = dot(_mixed(edscw, em, b), cv)
    grad_beta = dot(dw, [i - j for i, j in zip(edscw, em, strict=True)])
    if weight_grad:
        by_edscw = [channel_sum(b * d) if method.shared else b * d for d in dw]
        from_edscw = method.score_grad(edscw, by_edscw, xs, windows)
        from_em = EM.score_grad(em, [(1 - b) * d for d in dw], xs, windows)
        grad_x = windows.put([i + j for i, j in zip(from_edscw, from_em, strict=True)])
    else:
        grad_x = torch.zeros_like(up(x))
    return as_like(grad_y, y), as_like(grad_x, x), beta_grad(grad_beta, beta)
