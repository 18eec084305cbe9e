"""AdaPool and AdaUnpool as modules; the arithmetic is that of :mod:`adapool_sr.ops`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from adapool_sr.nn.window import PoolingWindow
from adapool_sr.ops import PoolMasks
from adapool_sr.ops.checks import Gain
from adapool_sr.ops.functional import Size

__all__ = [
    "AdaPool1d",
    "AdaPool2d",
    "AdaPool3d",
    "AdaUnpool1d",
    "AdaUnpool2d",
    "AdaUnpool3d",
]


# --- AdaPool ---------------------------------------------------------------------------------


class _AdaPool(PoolingWindow):
    logit: nn.Parameter | None
    fixed_beta: Tensor | None

    def __init__(
        self,
        kernel_size: Size = 2,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        beta: float | Tensor | None = 0.5,
        learnable: bool = True,
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
        start = None if beta is None else _start_value(beta, learnable)
        parameter = nn.Parameter(torch.logit(start)) if start is not None and learnable else None
        self.register_parameter("logit", parameter)
        self.register_buffer("fixed_beta", None if learnable else start)

    @property
    def beta(self) -> Tensor | None:
        """The β in use, in [0, 1], with a gradient if learnable; None where each call brings it."""
        return self.fixed_beta if self.logit is None else torch.sigmoid(self.logit)

    def forward(self, x: Tensor, beta: Tensor | None = None) -> Tensor | tuple[Tensor, PoolMasks]:
        """Pool x (N, C, *space) or (C, *space).

        Args:
            x: any float dtype; β is cast to it.
            beta: β for this call, where the module was made with ``beta=None``.

        Returns:
            y (N, C, *out), or (y, PoolMasks) if ``return_masks``.

        Raises:
            ValueError: β is given twice or not at all, or what the function refuses.
        """
        own = self.beta
        if own is not None and beta is not None:
            raise ValueError("beta must come with the module or with the call, got both")
        b = own if beta is None else beta
        if b is None:
            raise ValueError("beta must come with the module or with the call, got neither")
        result: Tensor | tuple[Tensor, PoolMasks] = self._function("adapool")(
            x,
            b.to(x.dtype),
            *self._window,
            granularity=self.granularity,
            similarity=self.similarity,
            weight_grad=self.weight_grad,
            return_masks=self.return_masks,
        )
        return result

    def extra_repr(self) -> str:
        """What ``print`` shows of the arguments."""
        own = self.beta
        shape = "per call" if own is None else f"{tuple(own.shape)}"
        return f"{super().extra_repr()}, beta={shape}, learnable={self.logit is not None}"


class AdaPool2d(_AdaPool):
    """AdaPool with a β of its own: see :func:`adapool_sr.ops.adapool2d`.

    Args:
        kernel_size: window size, one int or (kH, kW).
        stride: step between windows; None: the kernel's.
        padding: positions beside the image that windows may cover, at most half the kernel.
        ceil_mode: let a last window stick out, so that every size works where stride = kernel.
        beta: the start value: a float, or a tensor that broadcasts to the output, e.g. (C, 1, 1)
            for one per channel or (oH, oW) bound to one size; strictly between 0 and 1 if
            ``learnable``. None: β comes with each call, e.g. predicted from the features by a 1x1
            convolution.
        learnable: True keeps β's logit as a parameter, so that β stays in (0, 1) and never dies;
            False keeps β itself as a buffer.
        granularity: "channel", or "vector" to weigh whole channel vectors.
        similarity: of vectors: "dsc", "cosine" or "pce".
        weight_grad: exact derivative, or the paper's proportional rule.
        return_masks: return (y, PoolMasks) for :class:`AdaUnpool2d`.

    Raises:
        TypeError: beta is neither float, float tensor nor None.
        ValueError: beta outside [0, 1], or at 0 or 1 though learnable.

    Example:
        >>> pool = AdaPool2d(ceil_mode=True, return_masks=True)
        >>> y, masks = pool(torch.rand(1, 8, 5, 7))
        >>> AdaUnpool2d()(y, masks).shape
        torch.Size([1, 8, 5, 7])
    """

    rank = 2


class AdaPool1d(_AdaPool):
    """AdaPool of (N, C, L): arguments of :class:`AdaPool2d`, see :func:`adapool_sr.ops.adapool1d`.

    Example:
        >>> AdaPool1d(3, 2, 1)(torch.rand(1, 8, 9)).shape
        torch.Size([1, 8, 5])
    """

    rank = 1


class AdaPool3d(_AdaPool):
    """AdaPool of (N, C, D, H, W): arguments of :class:`AdaPool2d`.

    See :func:`adapool_sr.ops.adapool3d`.

    Example:
        >>> AdaPool3d((1, 2, 2), granularity="vector")(torch.rand(1, 8, 3, 4, 6)).shape
        torch.Size([1, 8, 3, 2, 3])
    """

    rank = 3


def _start_value(beta: float | Tensor, learnable: bool) -> Tensor:
    """Beta as a checked tensor of its own."""
    if isinstance(beta, bool) or not isinstance(beta, (int, float, Tensor)):
        raise TypeError(f"beta must be a float, a float tensor or None, got {beta!r}")
    if isinstance(beta, Tensor) and not beta.is_floating_point():
        raise TypeError(f"beta must be a float tensor, got {beta.dtype}")
    start = beta.detach().clone() if isinstance(beta, Tensor) else torch.tensor(float(beta))
    inside = (start > 0) & (start < 1) if learnable else (start >= 0) & (start <= 1)
    if not bool(inside.all()):
        allowed = "strictly between 0 and 1 if learnable" if learnable else "from 0 to 1"
        raise ValueError(f"beta must lie {allowed}, got {beta!r}")
    return start


# --- AdaUnpool -------------------------------------------------------------------------------


class _AdaUnpool(PoolingWindow):
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
        gain: Gain = "area",
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.granularity = granularity
        self.similarity = similarity
        self.weight_grad = weight_grad
        self.gain: Gain = gain

    def forward(
        self,
        y: Tensor,
        masks: PoolMasks | Tensor | None = None,
        *,
        like: Tensor | None = None,
        beta: float | Tensor | None = None,
        output_size: Sequence[int] | None = None,
    ) -> Tensor:
        """Spread y (N, C, *out) over its windows: (N, C, *space).

        Args:
            y: any float dtype.
            masks: what the pooling returned: PoolMasks, or one plain mask.
            like: instead of masks, the map that was pooled; with ``beta``.
            beta: the β of that pooling; a tensor is cast to y's dtype.
            output_size: spatial size of the result; only with one plain mask.

        Raises:
            ValueError: as the function.
        """
        unpool = self._function("adaunpool")
        if isinstance(masks, PoolMasks) and like is None:
            u: Tensor = unpool(y, masks, beta=beta, output_size=output_size, gain=self.gain)
            return u
        u = unpool(
            y,
            masks,
            like=like,
            beta=beta.to(y.dtype) if isinstance(beta, Tensor) else beta,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
            output_size=output_size,
            granularity=self.granularity,
            similarity=self.similarity,
            weight_grad=self.weight_grad,
            gain=self.gain,
        )
        return u

    def extra_repr(self) -> str:
        """What ``print`` shows of the arguments."""
        return f"{super().extra_repr()}, gain={self.gain!r}"


class AdaUnpool2d(_AdaUnpool):
    """The way back up by the encoder's weights: see :func:`adapool_sr.ops.adaunpool2d`.

    Args:
        kernel_size: window size, for ``like`` and plain masks; PoolMasks know theirs.
        stride: step between windows; None: the kernel's.
        padding: as in the pooling.
        ceil_mode: as in the pooling.
        granularity: as in the pooling, for ``like``.
        similarity: likewise.
        weight_grad: False holds the weights that ``like`` gives constant.
        gain: "area" keeps flat maps flat in any geometry; 1.0 is the paper's rule, which keeps a
            window's sum.

    Example:
        >>> x = torch.rand(1, 8, 5, 7)
        >>> AdaUnpool2d(ceil_mode=True)(torch.rand(1, 8, 3, 4), like=x, beta=0.5).shape
        torch.Size([1, 8, 5, 7])
    """

    rank = 2


class AdaUnpool1d(_AdaUnpool):
    """AdaUnpool to (N, C, L): arguments of :class:`AdaUnpool2d`.

    Example:
        >>> y, masks = AdaPool1d(return_masks=True)(torch.rand(1, 8, 6))
        >>> AdaUnpool1d()(y, masks).shape
        torch.Size([1, 8, 6])
    """

    rank = 1


class AdaUnpool3d(_AdaUnpool):
    """AdaUnpool to (N, C, D, H, W): arguments of :class:`AdaUnpool2d`.

    Example:
        >>> y, masks = AdaPool3d(return_masks=True)(torch.rand(1, 8, 2, 4, 6))
        >>> AdaUnpool3d()(y, masks).shape
        torch.Size([1, 8, 2, 4, 6])
    """

    rank = 3
