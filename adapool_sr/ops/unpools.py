"""The unpooling functions in one, two and three dimensions; see :mod:`adapool_sr.ops.pools`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from adapool_sr.ops._documents import UNPOOL, documented
from adapool_sr.ops.checks import Gain, check_similarity
from adapool_sr.ops.functional import PoolMasks, Size, ada_unpool

__all__ = ["adaunpool1d", "adaunpool2d", "adaunpool3d"]


class _AdaUnpool(Protocol):
    def __call__(
        self,
        y: Tensor,
        masks: PoolMasks | Tensor | None = ...,
        *,
        like: Tensor | None = ...,
        beta: float | Tensor | None = ...,
        kernel_size: Size | None = ...,
        stride: Size | None = ...,
        padding: Size = ...,
        ceil_mode: bool = ...,
        output_size: Sequence[int] | None = ...,
        granularity: str = ...,
        similarity: str = ...,
        weight_grad: bool = ...,
        gain: Gain = ...,
    ) -> Tensor: ...


def _adaunpool(rank: int) -> _AdaUnpool:
    @documented(f"adaunpool{rank}d", rank, UNPOOL)
    def unpool(
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
        similarity: str = "dsc",
        weight_grad: bool = True,
        gain: Gain = 1.0,
    ) -> Tensor:
        return ada_unpool(
            rank,
            y,
            masks,
            like,
            beta,
            kernel_size,
            stride,
            padding,
            ceil_mode,
            output_size,
            check_similarity(granularity, similarity),
            weight_grad,
            gain,
        )

    return unpool


adaunpool1d = _adaunpool(1)
adaunpool2d = _adaunpool(2)
adaunpool3d = _adaunpool(3)
