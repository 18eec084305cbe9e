"""What the functions of :mod:`adapool_sr.ops.functional` check before an operator runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from adapool_sr.ops.geometry import Geometry, output_size
from adapool_sr.ops.reference.weighting import DISTANCES, SIMILARITIES

__all__ = [
    "Gain",
    "check_distance",
    "check_gain",
    "check_granularity",
    "check_map",
    "check_mask",
    "check_same",
    "check_similarity",
    "check_y",
    "make_beta",
]

Gain = float | Literal["area"]

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_map(name: str, x: Tensor, rank: int) -> None:
    """Check that ``x`` is a float tensor (C, *space) or (N, C, *space), space of ``rank``."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.dtype not in _DTYPES:
        raise TypeError(
            f"{name} must be float16, bfloat16, float32 or float64, got {x.dtype}; convert it first"
        )
    if x.dim() not in (rank + 1, rank + 2):
        raise ValueError(
            f"{name} must have {rank + 1} dimensions (C, *space) or {rank + 2} (N, C, *space), "
            f"got shape {tuple(x.shape)}"
        )


def check_same(name: str, tensor: Tensor, of: str, x: Tensor) -> None:
    """Check that ``tensor`` has the dtype and device of ``x``."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if tensor.dtype != x.dtype:
        raise TypeError(f"{name} must have the dtype of {of}, {x.dtype}, got {tensor.dtype}")
    if tensor.device != x.device:
        raise ValueError(f"{name} must be on the device of {of}, {x.device}, got {tensor.device}")


def _one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        words = ", ".join(map(repr, allowed[:-1])) + f" or {allowed[-1]!r}"
        raise ValueError(f"{name} must be {words}, got {value!r}")


def check_granularity(granularity: str) -> bool:
    """Whether whole channel vectors are weighed."""
    _one_of("granularity", granularity, ("channel", "vector"))
    return granularity == "vector"


def check_similarity(granularity: str, similarity: str) -> str:
    """The operators' similarity: "" where every channel has its own weights."""
    if granularity == "channel" and similarity == "dsc":  # nearly always
        return ""
    vector = check_granularity(granularity)
    _one_of("similarity", similarity, SIMILARITIES)
    if not vector:
        raise ValueError(
            f"similarity must be 'dsc' unless granularity is 'vector', got {similarity!r}"
        )
    return similarity


def check_distance(distance: str, delta: float, zero_distance: str) -> bool:
    """Whether positions of distance 0 are dropped."""
    _one_of("distance", distance, DISTANCES)
    _one_of("zero_distance", zero_distance, ("limit", "drop"))
    if isinstance(delta, bool) or not isinstance(delta, (int, float)):
        raise TypeError(f"delta must be a positive finite number, got {delta!r}")
    if not (math.isfinite(delta) and delta > 0):
        raise ValueError(f"delta must be a positive finite number, got {delta!r}")
    return zero_distance == "drop"


def check_gain(gain: Gain) -> float:
    """The operators' gain: 0 for "area"."""
    if isinstance(gain, str):
        if gain != "area":
            raise ValueError(f"gain must be a positive finite number or 'area', got {gain!r}")
        return 0.0
    if isinstance(gain, bool) or not isinstance(gain, (int, float)):
        raise TypeError(f"gain must be a positive finite number or 'area', got {gain!r}")
    if not (math.isfinite(gain) and gain > 0):
        raise ValueError(f"gain must be a positive finite number or 'area', got {gain!r}")
    return float(gain)


def _is_one(size: int) -> bool:
    """Whether a size is 1.

    One that torch.export leaves open is not: the program would refuse what it was asked for.
    """
    return type(size) is int and size == 1


def make_beta(beta: float | Tensor, x: Tensor, geometry: Geometry, of: str = "x") -> Tensor:
    """Beta as a tensor with the dimensions of ``x``, each 1 or the output's."""
    if isinstance(beta, (int, float)) and not isinstance(beta, bool):
        return torch.full((1,) * x.dim(), float(beta), dtype=x.dtype, device=x.device)
    if not isinstance(beta, Tensor):
        raise TypeError(f"beta must be a float or a tensor, got {type(beta).__name__}")
    check_same("beta", beta, of, x)
    if beta.dim() == 0:
        return beta.view((1,) * x.dim())
    rank = len(geometry.size)
    shape = (1,) * (x.dim() - beta.dim()) + tuple(beta.shape)
    # The output's size takes longer to find than all else, and one beta a channel needs none.
    out = (1,) * rank if all(map(_is_one, shape[-rank:])) else output_size(geometry)
    fits = len(shape) == x.dim() and all(
        _is_one(b) or b == t or b == 1 for b, t in zip(shape, (*x.shape[:-rank], *out), strict=True)
    )
    if not fits:
        raise ValueError(
            "beta must broadcast to the output's shape "
            f"{(*x.shape[:-rank], *output_size(geometry))}, got shape {tuple(beta.shape)}"
        )
    return beta if beta.dim() == x.dim() else beta.reshape(shape)


def check_y(y: Tensor, x_shape: Sequence[int], geometry: Geometry, of: str) -> None:
    """Check that y is what pooling a map of ``x_shape`` gives."""
    expected = (*x_shape[: -len(geometry.size)], *output_size(geometry))
    if tuple(y.shape) != expected:
        raise ValueError(f"y must have the shape {expected} that fits {of}, got {tuple(y.shape)}")


def check_mask(
    name: str, mask: Tensor, y: Tensor, geometry: Geometry, *, shared: bool = False
) -> None:
    """Check that ``mask`` belongs to ``y``: dtype, device and the layout window by window.

    A mask of weights that all channels share (``shared``) may have one channel.
    """
    check_same(name, mask, "y", y)
    rank = len(geometry.size)
    space = [o * k for o, k in zip(output_size(geometry), geometry.kernel, strict=True)]
    *batch, channels = y.shape[:-rank]
    expected = (*batch, channels, *space)
    if tuple(mask.shape) == expected or (shared and tuple(mask.shape) == (*batch, 1, *space)):
        return
    raise ValueError(
        f"{name} must have the shape {expected} that fits y {tuple(y.shape)} and kernel "
        f"{geometry.kernel}, got {tuple(mask.shape)}"
    )
