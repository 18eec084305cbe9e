"""Every error names the argument, what came and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from adapool_sr.ops import adapool2d, adaunpool2d, edscwpool2d, empool2d

X = torch.zeros(2, 3, 8, 6)
Y = torch.zeros(2, 3, 4, 3)
MASKS = adapool2d(X, 0.5, return_masks=True)[1]

POOLS: list[Callable[..., Any]] = [
    lambda x, *args, **kwargs: adapool2d(x, 0.5, *args, **kwargs),
    edscwpool2d,
    empool2d,
]

POOL_ERRORS = [
    (
        (X.long(),),
        {},
        TypeError,
        "x must be float16, bfloat16, float32 or float64, got torch.int64",
    ),
    ((X.bool(),), {}, TypeError, "got torch.bool"),
    ((X.to(torch.complex64),), {}, TypeError, "got torch.complex64"),
    (([[1.0]],), {}, TypeError, "x must be a tensor, got list"),
    ((X[0, 0],), {}, ValueError, "x must have 3 dimensions (C, *space) or 4 (N, C, *space)"),
    ((X[None],), {}, ValueError, "got shape (1, 2, 3, 8, 6)"),
    ((X, 0), {}, ValueError, "kernel_size must be at least 1, got 0"),
    ((X, (2, 2, 2)), {}, ValueError, "kernel_size must be one int or 2 ints, got 3"),
    ((X, 2, 0), {}, ValueError, "stride must be at least 1, got 0"),
    ((X, 2, None, 2), {}, ValueError, "padding must be at most half of kernel_size, got padding 2"),
    ((X, 9), {}, ValueError, "kernel_size 9 is larger than the padded input: size (8, 6)"),
    (
        (X,),
        {"granularity": "pixel"},
        ValueError,
        "granularity must be 'channel' or 'vector', got 'pixel'",
    ),
]


@pytest.mark.parametrize("pool", POOLS, ids=["ada", "edscw", "em"])
@pytest.mark.parametrize(("args", "kwargs", "error", "words"), POOL_ERRORS)
def test_pooling_refuses(
    pool: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        pool(*args, **kwargs)


@pytest.mark.parametrize(
    ("beta", "error", "words"),
    [
        (
            torch.zeros(5, 1, 1),
            ValueError,
            "beta must broadcast to the output's shape (2, 3, 4, 3), got shape (5, 1, 1)",
        ),
        (torch.zeros(8, 6), ValueError, "got shape (8, 6)"),
        (torch.zeros(1, 2, 3, 4, 3), ValueError, "got shape (1, 2, 3, 4, 3)"),
        (torch.zeros(()).double(), TypeError, "beta must have the dtype of x, torch.float32"),
        (torch.zeros((), dtype=torch.int64), TypeError, "got torch.int64"),
        (torch.zeros((), device="meta"), ValueError, "beta must be on the device of x, cpu"),
        ("0.5", TypeError, "beta must be a float or a tensor, got str"),
        (True, TypeError, "beta must be a float or a tensor, got bool"),
        (None, TypeError, "beta must be a float or a tensor, got NoneType"),
    ],
)
def test_pooling_refuses_a_beta_that_does_not_fit(
    beta: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        adapool2d(X, beta)


def test_an_unbatched_map_refuses_a_batched_beta() -> None:
    with pytest.raises(ValueError, match=re.escape("output's shape (3, 4, 3)")):
        adapool2d(X[0], torch.zeros(1, 3, 4, 3))


UNPOOL_ERRORS: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ((Y,), {}, ValueError, "needs either masks or like, got neither"),
    ((Y, MASKS), {"like": X}, ValueError, "needs either masks or like, got both"),
    ((Y.long(), MASKS), {}, TypeError, "y must be float16"),
    ((Y[0, 0], MASKS), {}, ValueError, "y must have 3 dimensions"),
    ((Y[0], MASKS), {}, ValueError, "masks.edscw must have the shape (3, 8, 6)"),
    ((Y[..., :2], MASKS), {}, ValueError, "y must have the shape (2, 3, 4, 3) that fits masks"),
    ((Y[:, :2], MASKS), {}, ValueError, "masks.edscw must have the shape (2, 2, 8, 6)"),
    ((Y.double(), MASKS), {}, TypeError, "masks.edscw must have the dtype of y, torch.float64"),
    ((Y.to("meta"), MASKS), {}, ValueError, "masks.edscw must be on the device of y, meta"),
    ((Y, MASKS._replace(em=MASKS.em[:1])), {}, ValueError, "masks.em must have the shape"),
    ((Y, tuple(MASKS[:2])), {}, TypeError, "masks must be PoolMasks or one tensor, got tuple"),
    ((Y, MASKS), {"beta": 0.5}, ValueError, "beta goes with like"),
    ((Y, MASKS), {"kernel_size": 2}, ValueError, "must be left out with PoolMasks"),
    ((Y, MASKS), {"gain": 0}, ValueError, "gain must be a positive finite number or 'area', got 0"),
    ((Y, MASKS), {"gain": -1.0}, ValueError, "got -1.0"),
    ((Y, MASKS), {"gain": float("inf")}, ValueError, "got inf"),
    ((Y, MASKS), {"gain": float("nan")}, ValueError, "got nan"),
    ((Y, MASKS), {"gain": "mean"}, ValueError, "got 'mean'"),
    ((Y, MASKS), {"gain": None}, TypeError, "gain must be a positive finite number"),
    ((Y, MASKS), {"granularity": "pixel"}, ValueError, "granularity must be 'channel' or 'vector'"),
    ((Y,), {"like": X}, ValueError, "beta must be given with like, got None"),
    ((Y,), {"like": X[..., :4], "beta": 0.5}, ValueError, "y must have the shape (2, 3, 4, 2)"),
    ((Y,), {"like": X[:1], "beta": 0.5}, ValueError, "y must have the shape (1, 3, 4, 3)"),
    ((Y,), {"like": X.double(), "beta": 0.5}, TypeError, "like must have the dtype of y"),
    ((Y,), {"like": X.to("meta"), "beta": 0.5}, ValueError, "like must be on the device of y"),
    ((Y,), {"like": X, "beta": torch.zeros(7)}, ValueError, "beta must broadcast"),
    ((Y,), {"like": X, "beta": 0.5, "output_size": (8, 6)}, ValueError, "output_size goes with"),
    ((Y, MASKS.em), {"output_size": (12, 6)}, ValueError, "y must have the shape (2, 3, 6, 3)"),
    ((Y, MASKS.em), {"output_size": (8,)}, ValueError, "output_size must be two ints, got (8,)"),
    ((Y, MASKS.em), {"kernel_size": 3}, ValueError, "masks must have the shape (2, 3, 12, 9)"),
    ((Y, MASKS.em.half()), {}, TypeError, "masks must have the dtype of y, torch.float32"),
    ((Y, MASKS.em), {"stride": 0}, ValueError, "stride must be at least 1"),
]


@pytest.mark.parametrize(("args", "kwargs", "error", "words"), UNPOOL_ERRORS)
def test_unpooling_refuses(
    args: tuple[Any, ...], kwargs: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        adaunpool2d(*args, **kwargs)
