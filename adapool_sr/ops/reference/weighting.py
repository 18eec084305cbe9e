"""The weights that each method gives to the values of a window, and the way back to the values.

A *weighting* is what tells one pooling from another: ``weights`` gives a window's weights, which
are positive (or 0) and sum to 1, and ``score_grad`` what gradients of these weights are to the
values. :mod:`adapool_sr.ops.reference` makes the operators of it. Values, weights and gradients are
*pieces* (see :mod:`adapool_sr.ops.geometry`): K tensors (N, C, *out). A weighting that is
``shared`` takes the whole channel vector of a position for one value: its weights are (N, 1, *out).

Sums over pieces and channels run in a fixed order, so that results don't depend on threads or
layout. Divisors are made safe before they divide: autograd of ``where`` meets both branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import torch
from torch import Tensor

from adapool_sr.ops.geometry import Windows

__all__ = [
    "DISTANCES",
    "SIMILARITIES",
    "Edscw",
    "Em",
    "Idw",
    "Pieces",
    "VectorEdscw",
    "Weighting",
    "channel_sum",
    "dot",
    "total",
]

Pieces = list[Tensor]

SIMILARITIES = ("dsc", "cosine", "pce")
"""Names of the similarities of vectors: Dice-Sørensen, cosine, Kumar-Hassebrook."""

DISTANCES = ("l1", "l2", "huber", "chebyshev")
"""Names of the distances of :class:`Idw`."""


def total(pieces: Sequence[Tensor]) -> Tensor:
    """The sum over pieces, the first one first."""
    return reduce(torch.add, pieces)


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Σ a_i·b_i over pieces."""
    return total([i * j for i, j in zip(a, b, strict=True)])


def channel_sum(x: Tensor) -> Tensor:
    """The sum over dimension 1, kept: (N, C, …) to (N, 1, …), by halves, whatever the layout.

    ``Tensor.sum`` adds up in an order that depends on the layout and may depend on threads.
    """
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        added = x[:, :half] + x[:, half : 2 * half]
        x = added if x.shape[1] % 2 == 0 else torch.cat([added, x[:, 2 * half :]], 1)
    return x


class Weighting(Protocol):
    """What a method is."""

    @property
    def shared(self) -> bool:
        """Whether one weight serves all channels of a position."""

    def weights(self, xs: Pieces, windows: Windows) -> Pieces:
        """The weights of the values ``xs``; 0 in the padding."""

    def output_grad(self, grad: Tensor, xs: Pieces, windows: Windows) -> Pieces:
        """What the gradient of the output is to the weights, but for a constant of each window."""

    def score_grad(self, ws: Pieces, gs: Pieces, xs: Pieces, windows: Windows) -> Pieces:
        """The gradient of ``xs`` that the gradients ``gs`` of its weights ``ws`` are."""


def _mean(xs: Pieces, windows: Windows) -> Tensor:
    m = total(xs) / windows.count
    # The sum of values near the largest float overflows where their mean does not.
    return torch.where(m.isfinite(), m, total([x / windows.count for x in xs]))


def _normalised(parts: Pieces, windows: Windows) -> Pieces:
    parts = windows.only_valid(parts, 0)
    whole = total(parts)
    return [part / whole for part in parts]


def _softmax_grad(ws: Pieces, gs: Pieces) -> Pieces:
    """ds_i = w_i (G_i − Σ_j w_j G_j)."""
    mean = dot(ws, gs)
    return [w * (g - mean) for w, g in zip(ws, gs, strict=True)]


def _not_zero(x: Tensor) -> Tensor:
    """The tensor with 1 where it is 0: a divisor."""
    return torch.where(x == 0, 1, x)


def _root(x: Tensor) -> Tensor:
    """√x, 0 with a derivative of 0 where x is 0."""
    return torch.where(x == 0, 0, _not_zero(x).sqrt())


# --- eM --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Em:
    """Softmax of the values, shifted by their maximum."""

    shared = False

    def weights(self, xs: Pieces, windows: Windows) -> Pieces:
        """W = softmax of x over the window."""
        top = reduce(torch.maximum, windows.only_valid(xs, -torch.inf))
        return _normalised([(x - top).exp() for x in xs], windows)

    def output_grad(self, grad: Tensor, xs: Pieces, windows: Windows) -> Pieces:
        """g·x_i."""
        return [grad * x for x in xs]

    def score_grad(self, ws: Pieces, gs: Pieces, xs: Pieces, windows: Windows) -> Pieces:
        """The score is the value itself."""
        return _softmax_grad(ws, gs)


# --- eDSCW, a channel for itself -------------------------------------------------------------


@dataclass(frozen=True)
class Edscw:
    """Softmax of D(x_i, m) = 2·|x_i·m| / (x_i² + m²), 0 where both are 0."""

    shared = False

    def weights(self, xs: Pieces, windows: Windows) -> Pieces:
        """W = softmax of D over the window; D lies in [0, 1] and needs no shift."""
        b = _mean(xs, windows).abs()
        return _normalised([self._similarity(x.abs(), b).exp() for x in xs], windows)

    def output_grad(self, grad: Tensor, xs: Pieces, windows: Windows) -> Pieces:
        """g·x_i."""
        return [grad * x for x in xs]

    @staticmethod
    def _similarity(a: Tensor, b: Tensor) -> Tensor:
        """D of a = |x| and b = |m|.

        Taken of the ratio of the smaller to the larger, so that no square overflows or vanishes.
        """
        high = torch.maximum(a, b)
        ratio = torch.minimum(a, b) / torch.where(high == 0, 1, high)
        return 2 * ratio / (1 + ratio * ratio)

    def score_grad(self, ws: Pieces, gs: Pieces, xs: Pieces, windows: Windows) -> Pieces:
        """ds_k·D_x(x_k, m) + (1/K)·Σ_i ds_i·D_m(x_i, m).

        D_x and D_m don't change when x, m and 1/result are scaled alike; the scale is a constant of
        that identity, so it needs no gradient of its own.
        """
        m = _mean(xs, windows)
        m_abs, m_sign = m.abs(), m.sign()
        by_x, by_m = [], []
        for d, x in zip(_softmax_grad(ws, gs), xs, strict=True):
            x_abs = x.abs()
            scale = torch.maximum(x_abs, m_abs).detach()
            zero = (scale == 0).to(scale.dtype)
            scale = scale + zero
            a, b = x_abs / scale, m_abs / scale
            slope = 2 * (b * b - a * a) / (a * a + b * b + zero).square()
            # Divided last: ds is as small as x where both are tiny.
            by_x.append(d * (x.sign() * b * slope) / scale)
            by_m.append(d * (a * slope) / scale)
        shared = -m_sign * total(by_m) / windows.count
        return [g + shared for g in by_x]


# --- eDSCW of whole channel vectors ----------------------------------------------------------


def _largest(x: Tensor) -> Tensor:
    """The largest |x| over the channels, (N, 1, *out): a constant that scales, 1 where it is 0."""
    return _not_zero(x.detach().abs().amax(1, keepdim=True))


@dataclass(frozen=True)
class VectorEdscw:
    """Softmax of the similarity of each position's channel vector to the mean vector.

    With p = a·b and q = ‖a‖² + ‖b‖²: dsc 2·|p|/q, cosine p/(‖a‖·‖b‖), pce p/(q − p); 0 where the
    divisor is 0. None exceeds 1 in absolute value: no shift is needed. Vectors are divided by their
    largest entries first, which changes no similarity and keeps squares in range.

    Attributes:
        similarity: one of :data:`SIMILARITIES`.
    """

    similarity: str
    shared = True

    def weights(self, xs: Pieces, windows: Windows) -> Pieces:
        """W = softmax of the similarity over the window, (N, 1, *out)."""
        m = _mean(xs, windows)
        return _normalised([self._similarity(x, m).exp() for x in xs], windows)

    def output_grad(self, grad: Tensor, xs: Pieces, windows: Windows) -> Pieces:
        """Σ over channels of g·x_i."""
        return [channel_sum(grad * x) for x in xs]

    def _similarity(self, a: Tensor, b: Tensor) -> Tensor:
        if self.similarity == "cosine":
            a, b = a / _largest(a), b / _largest(b)
            lengths = _root(channel_sum(a * a)) * _root(channel_sum(b * b))
            return channel_sum(a * b) / _not_zero(lengths)
        scale = torch.maximum(_largest(a), _largest(b))
        a, b = a / scale, b / scale
        p, q = channel_sum(a * b), channel_sum(a * a + b * b)
        return 2 * p.abs() / _not_zero(q) if self.similarity == "dsc" else p / _not_zero(q - p)

    def score_grad(self, ws: Pieces, gs: Pieces, xs: Pieces, windows: Windows) -> Pieces:
        """ds_k·∂s/∂a(x_k, m) + (1/K)·Σ_i ds_i·∂s/∂a(m, x_i): every similarity is symmetric."""
        m = _mean(xs, windows)
        by_x, by_m = [], []
        for d, x in zip(_softmax_grad(ws, gs), xs, strict=True):
            by_x.append(self._by_first(d, x, m))
            by_m.append(self._by_first(d, m, x))
        shared = total(by_m) / windows.count
        return [g + shared for g in by_x]

    def _by_first(self, d: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """d·∂s/∂a, divided by the scale last: d is as small as the vectors where they are tiny."""
        if self.similarity == "cosine":
            scale = _largest(a)
            a, b = a / scale, b / _largest(b)
            a_length, b_length = _root(channel_sum(a * a)), _root(channel_sum(b * b))
            zero = a_length * b_length == 0
            a, b = a / _not_zero(a_length), b / _not_zero(b_length)
            slope = (b - channel_sum(a * b) * a) / _not_zero(a_length)
            return torch.where(zero, 0, d * slope / scale)
        scale = torch.maximum(_largest(a), _largest(b))
        a, b = a / scale, b / scale
        p, q = channel_sum(a * b), channel_sum(a * a + b * b)
        if self.similarity == "dsc":
            slope = 2 * (p.sign() * q * b - 2 * p.abs() * a) / _not_zero(q).square()
        else:
            slope = (q * b - 2 * p * a) / _not_zero(q - p).square()
        return d * slope / scale


# --- IDW -------------------------------------------------------------------------------------


def _zeros(ds: Pieces, windows: Windows) -> Pieces:
    """Where a distance inside the image is 0."""
    zeros = [d == 0 for d in ds]
    if windows.valid is None:
        return zeros
    # Not only_valid: onnxruntime has no Where of bools.
    return [z & valid for z, valid in zip(zeros, windows.valid, strict=True)]


@dataclass(frozen=True)
class Idw:
    """Inverse distances to the mean: w_i = (1/d_i) / Σ_j (1/d_j), as d_min/d_i, normalised.

    Where some d_i is 0 the weights are constants for the gradient; see ``drop``.

    Attributes:
        distance: one of :data:`DISTANCES`; of single values all but huber are |x − m|.
        delta: where huber, δ²(√(1+(d/δ)²) − 1) of the l2 distance d, turns from square to linear.
        drop: whether positions of distance 0 weigh 0 and the others share by 1/d (the paper's
            rule), all alike where all are 0; else (the formula's limit) they share the weight.
        vector: whether distances are those of whole channel vectors.
    """

    distance: str
    delta: float
    drop: bool
    vector: bool

    @property
    def shared(self) -> bool:
        """As ``vector``."""
        return self.vector

    def weights(self, xs: Pieces, windows: Windows) -> Pieces:
        """w_i = d_min/d_i over their sum."""
        m = _mean(xs, windows)
        ds = [self._distance(x - m)[0] for x in xs]
        zeros = _zeros(ds, windows)
        some = reduce(torch.logical_or, zeros)
        far = [torch.where(d == 0, torch.inf, d) for d in ds]
        # A constant: it cancels in w.
        nearest = reduce(torch.minimum, windows.only_valid(far, torch.inf)).detach()
        everywhere = nearest == torch.inf
        nearest = torch.where(everywhere, 1, nearest)
        ratios = [self._ratio(nearest, _not_zero(d)) for d in ds]
        if self.drop:
            parts = [
                torch.where(zero, everywhere.to(ratio.dtype), ratio)
                for zero, ratio in zip(zeros, ratios, strict=True)
            ]
        else:
            parts = [
                torch.where(some, zero.to(ratio.dtype), ratio)
                for zero, ratio in zip(zeros, ratios, strict=True)
            ]
        ws = _normalised(parts, windows)
        return [torch.where(some, w.detach(), w) for w in ws]

    def output_grad(self, grad: Tensor, xs: Pieces, windows: Windows) -> Pieces:
        """g·(x_i − m), summed over channels if vectors are weighed.

        Of the difference, which is what a small d_i divides: the rounding of g·x_i would drown it.
        """
        m = _mean(xs, windows)
        gs = [grad * (x - m) for x in xs]
        return [channel_sum(g) for g in gs] if self.vector else gs

    def _distance(self, difference: Tensor) -> tuple[Tensor, Tensor]:
        """The distance (for huber: l2) and its derivative by the difference; 0 where that is 0."""
        if not self.vector:
            return difference.abs(), difference.sign()
        size = difference.abs()
        if self.distance == "l1":
            return channel_sum(size), difference.sign()
        if self.distance == "chebyshev":
            d = size.amax(1, keepdim=True)
            hit = (size == d).to(size.dtype)
            return d, difference.sign() * hit / _not_zero(channel_sum(hit))
        scale = _largest(difference)
        scaled = difference / scale
        length = _root(channel_sum(scaled * scaled))
        return scale * length, scaled / _not_zero(length)

    def _ratio(self, nearest: Tensor, d: Tensor) -> Tensor:
        """nearest/d; for huber h(nearest)/h(d), h(d) = δ·d² / (√(δ²+d²) + δ), without squares."""
        ratio = nearest / d
        if self.distance != "huber":
            return ratio
        longer, long = (self._hypotenuse(t) + self.delta for t in (d, nearest))
        return ratio * (ratio / _not_zero(long / longer))  # long/longer lies from ratio to 1

    def _hypotenuse(self, d: Tensor) -> Tensor:
        """√(δ²+d²)."""
        return torch.hypot(torch.full_like(d, self.delta), d)

    def score_grad(self, ws: Pieces, gs: Pieces, xs: Pieces, windows: Windows) -> Pieces:
        """Softmax's rule with the score −log d: −ds_k/d_k·∂d_k/∂x_k, less the mean of all."""
        m = _mean(xs, windows)
        found = [self._distance(x - m) for x in xs]
        some = reduce(torch.logical_or, _zeros([d for d, _ in found], windows))
        by_x = []
        for g, (d, direction) in zip(_softmax_grad(ws, gs), found, strict=True):
            if self.distance == "huber":
                g = g * (1 + self.delta / self._hypotenuse(d))
            by_x.append(torch.where(some, 0, -g * direction / _not_zero(d)))
        shared = total(by_x) / windows.count
        return [g - shared for g in by_x]
