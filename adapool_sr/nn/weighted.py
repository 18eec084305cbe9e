"""The pooling methods without β as modules; the arithmetic is that of :mod:`adapool_sr.ops`."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from adapool_sr.nn.window import PoolingWindow
from adapool_sr.ops.functional import Size

__all__ = [
    "EDSCWPool1d",
    "EDSCWPool2d",
    "EDSCWPool3d",
    "EMPool1d",
    "EMPool2d",
    "EMPool3d",
    "IDWPool1d",
    "IDWPool2d",
    "IDWPool3d",
]


class _SinglePool(PoolingWindow):
    method: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ("granularity", "weight_grad", "return_masks")

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Pool x (N, C, *space) or (C, *space) to (…, *out), or (y, mask)."""
        options = {name: getattr(self, name) for name in self.options}
        result: Tensor | tuple[Tensor, Tensor] = self._function(self.method)(
            x, *self._window, **options
        )
        return result


class _EDSCWPool(_SinglePool):
    method = "edscwpool"
    options = (*_SinglePool.options, "similarity")

    def __init__(
        self,
        kernel_size: Size = 2,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        granularity: str = "channel",
        similarity: str = "dsc",
        weight_grad: bool = True,
        return_masks: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.granularity = granularity
        self.similarity = similarity
        self.weight_grad = weight_grad
        self.return_masks = return_masks


class EDSCWPool2d(_EDSCWPool):
    """Similarity-weighted pooling: see :func:`adapool_sr.ops.edscwpool2d`.

    Args:
        kernel_size: window size, one int or (kH, kW).
        stride: step between windows; None: the kernel's.
        padding: positions beside the image that windows may cover, at most half the kernel.
        ceil_mode: let a last window stick out.
        granularity: "channel", or "vector" to weigh whole channel vectors.
        similarity: of vectors: "dsc", "cosine" or "pce".
        weight_grad: exact derivative, or the paper's proportional rule.
        return_masks: return (y, mask).
    """

    rank = 2


class EDSCWPool1d(_EDSCWPool):
    """Similarity-weighted pooling of (N, C, L): arguments of :class:`EDSCWPool2d`."""

    rank = 1


class EDSCWPool3d(_EDSCWPool):
    """Similarity-weighted pooling of (N, C, D, H, W): arguments of :class:`EDSCWPool2d`."""

    rank = 3


class _EMPool(_SinglePool):
    method = "empool"

    def __init__(
        self,
        kernel_size: Size = 2,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        granularity: str = "channel",
        weight_grad: bool = True,
        return_masks: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.granularity = granularity
        self.weight_grad = weight_grad
        self.return_masks = return_masks


class EMPool2d(_EMPool):
    """Exponential-maximum pooling (SoftPool): see :func:`adapool_sr.ops.empool2d`.

    Args:
        kernel_size: window size, one int or (kH, kW).
        stride: step between windows; None: the kernel's.
        padding: positions beside the image that windows may cover, at most half the kernel.
        ceil_mode: let a last window stick out.
        granularity: "channel" or "vector", which are the same here.
        weight_grad: exact derivative, or the paper's proportional rule.
        return_masks: return (y, mask).
    """

    rank = 2


class EMPool1d(_EMPool):
    """Exponential-maximum pooling of (N, C, L): arguments of :class:`EMPool2d`."""

    rank = 1


class EMPool3d(_EMPool):
    """Exponential-maximum pooling of (N, C, D, H, W): arguments of :class:`EMPool2d`."""

    rank = 3


class _IDWPool(_SinglePool):
    method = "idwpool"
    options = (*_SinglePool.options, "distance", "delta", "zero_distance")

    def __init__(
        self,
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
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.granularity = granularity
        self.distance = distance
        self.delta = delta
        self.zero_distance = zero_distance
        self.weight_grad = weight_grad
        self.return_masks = return_masks


class IDWPool2d(_IDWPool):
    """Inverse-distance pooling: see :func:`adapool_sr.ops.idwpool2d`.

    Args:
        kernel_size: window size, one int or (kH, kW).
        stride: step between windows; None: the kernel's.
        padding: positions beside the image that windows may cover, at most half the kernel.
        ceil_mode: let a last window stick out.
        granularity: "channel", or "vector" to weigh whole channel vectors.
        distance: "l1", "l2", "huber" or "chebyshev".
        delta: where "huber" turns from square to linear.
        zero_distance: "limit" or "drop".
        weight_grad: exact derivative, or the paper's proportional rule.
        return_masks: return (y, mask).
    """

    rank = 2


class IDWPool1d(_IDWPool):
    """Inverse-distance pooling of (N, C, L): arguments of :class:`IDWPool2d`."""

    rank = 1


class IDWPool3d(_IDWPool):
    """Inverse-distance pooling of (N, C, D, H, W): arguments of :class:`IDWPool2d`."""

    rank = 3
