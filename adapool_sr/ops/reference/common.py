"""What the reference's pooling and unpooling share: dtypes, formats, the gradient of beta."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from adapool_sr.ops.geometry import Windows, in_format_of
from adapool_sr.ops.reference.weighting import Edscw, Em, Pieces, VectorEdscw, Weighting

__all__ = ["EM", "Ints", "as_like", "beta_grad", "edscw_of", "up", "weights_of"]

Ints = Sequence[int]

EM = Em()


def edscw_of(similarity: str) -> Weighting:
    """The weighting of eDSCW: of channels for themselves where ``similarity`` is ""."""
    return VectorEdscw(similarity) if similarity else Edscw()


def up(x: Tensor) -> Tensor:
    """The tensor in the dtype that is computed in."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def as_like(result: Tensor, like: Tensor) -> Tensor:
    """The result in the dtype and memory format of ``like``."""
    result = result.to(like.dtype)
    # The mask of shared weights: with one channel both formats are the same memory.
    return result.contiguous() if result.shape[1] == 1 else in_format_of(like, result)


def weights_of(method: Weighting, xs: Pieces, windows: Windows, constant: bool) -> Pieces:
    """The weights of the values ``xs``, without a gradient if they are ``constant``."""
    ws = method.weights(xs, windows)
    return [w.detach() for w in ws] if constant else ws


def beta_grad(grad: Tensor, beta: Tensor) -> Tensor:
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
