"""The pooling functions in one, two and three dimensions.

The three functions of a method are one function made three times, for the number of dimensions
differs in shapes alone; their documentation comes from one text likewise.

Source: Stergiou & Poppe, "AdaPool: Exponential Adaptive Pooling for Information-Retaining
Downsampling", IEEE TIP 32, 2023 (arXiv 2111.00772).
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, overload

from torch import Tensor

from adapool_sr.ops._documents import ADA, EDSCW, EM, IDW, documented
from adapool_sr.ops.checks import check_distance, check_granularity, check_similarity
from adapool_sr.ops.functional import PoolMasks, Size, ada_pool, single_pool

__all__ = [
    "adapool1d",
    "adapool2d",
    "adapool3d",
    "edscwpool1d",
    "edscwpool2d",
    "edscwpool3d",
    "empool1d",
    "empool2d",
    "empool3d",
    "idwpool1d",
    "idwpool2d",
    "idwpool3d",
]


class _AdaPool(Protocol):
    @overload
    def __call__(
        self,
        x: Tensor,
        beta: float | Tensor,
        kernel_size: Size = ...,
        stride: Size | None = ...,
        padding: Size = ...,
        ceil_mode: bool = ...,
        *,
        granularity: str = ...,
        similarity: str = ...,
        weight_grad: bool = ...,
        return_masks: Literal[False] = ...,
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        x: Tensor,
        beta: float | Tensor,
        kernel_size: Size = ...,
        stride: Size | None = ...,
        padding: Size = ...,
        ceil_mode: bool = ...,
        *,
        granularity: str = ...,
        similarity: str = ...,
        weight_grad: bool = ...,
        return_masks: Literal[True],
    ) -> tuple[Tensor, PoolMasks]: ...


def _adapool(rank: int) -> _AdaPool:
    @documented(f"adapool{rank}d", rank, ADA)
    def pool(
        x: Tensor,
        beta: float | Tensor,
        kernel_size: Size = 2,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        granularity: str = "channel",
        similarity: str = "dsc",
        weight_grad: bool = True,
        return_masks: bool = False,
    ) -> Any:
        vectors = check_similarity(granularity, similarity)
        window = (kernel_size, stride, padding, ceil_mode)
        return ada_pool(rank, x, beta, window, weight_grad, return_masks, vectors)

    return pool


adapool1d = _adapool(1)
adapool2d = _adapool(2)
adapool3d = _adapool(3)


class _EdscwPool(Protocol):
    @overload
    def __call__(
        self,
        x: Tensor,
        kernel_size: Size = ...,
        stride: Size | None = ...,
        padding: Size = ...,
        ceil_mode: bool = ...,
        *,
        granularity: str = ...,
        similarity: str = ...,
        weight_grad: bool = ...,
        return_masks: Literal[False] = ...,
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        x: Tensor,
        kernel_size: Size = ...,
        stride: Size | None = ...,
        padding: Size = ...,
        ceil_mode: bool = ...,
        *,
        granularity: str = ...,
        similarity: str = ...,
        weight_grad: bool = ...,
        return_masks: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...


def _edscwpool(rank: int) -> _EdscwPool:
    @documented(f"edscwpool{rank}d", rank, EDSCW)
    def pool(
        x: Tensor,
        kernel_size: Size = 2,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        granularity: str = "channel",
        similarity: str = "dsc",
        weight_grad: bool = True,
        return_masks: bool = False,
    ) -> Any:
        vectors = check_similarity(granularity, similarity)
        window = (kernel_size, stride, padding, ceil_mode)
        if vectors:
            return single_pool(
                "edscw", rank, x, window, weight_grad, return_masks, vectors, vector=True
            )
        return single_pool("edscw", rank, x, window, weight_grad, return_masks)

    return pool


edscwpool1d = _edscwpool(1)
edscwpool2d = _edscwpool(2)
edscwpool3d = _edscwpool(3)


class _EmPool(Protocol):
    @overload
    def __call__(
        self,
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
    def __call__(
        self,
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


def _empool(rank: int) -> _EmPool:
    @documented(f"empool{rank}d", rank, EM)
    def pool(
        x: Tensor,
        kernel_size: Size = 2,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        granularity: str = "channel",
        weight_grad: bool = True,
        return_masks: bool = False,
    ) -> Any:
        check_granularity(granularity)
        window = (kernel_size, stride, padding, ceil_mode)
        return single_pool("em", rank, x, window, weight_grad, return_masks)

    return pool


empool1d = _empool(1)
empool2d = _empool(2)
empool3d = _empool(3)


class _IdwPool(Protocol):
    @overload
    def __call__(
        self,
        x: Tensor,
        kernel_size: Size = ...,
        stride: Size | None = ...,
        padding: Size = ...,
        ceil_mode: bool = ...,
        *,
        granularity: str = ...,
        distance: str = ...,
        delta: float = ...,
        zero_distance: str = ...,
        weight_grad: bool = ...,
        return_masks: Literal[False] = ...,
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
        x: Tensor,
        kernel_size: Size = ...,
        stride: Size | None = ...,
        padding: Size = ...,
        ceil_mode: bool = ...,
        *,
        granularity: str = ...,
        distance: str = ...,
        delta: float = ...,
        zero_distance: str = ...,
        weight_grad: bool = ...,
        return_masks: Literal[True],
    ) -> tuple[Tensor, Tensor]: ...


def _idwpool(rank: int) -> _IdwPool:
    @documented(f"idwpool{rank}d", rank, IDW)
    def pool(
        x: Tensor,
        kernel_size: Size = 2,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        granularity: str = "channel",
        distance: str = "l2",
        delta: float = 1.0,
        zero_distance: str = "limit",
        weight_grad: bool = True,
        return_masks: bool = False,
    ) -> Any:
        vector = check_granularity(granularity)
        drop = check_distance(distance, delta, zero_distance)
        window = (kernel_size, stride, padding, ceil_mode)
        rule = (distance, float(delta), drop, vector)
        return single_pool("idw", rank, x, window, weight_grad, return_masks, *rule)

    return pool


idwpool1d = _idwpool(1)
idwpool2d = _idwpool(2)
idwpool3d = _idwpool(3)
