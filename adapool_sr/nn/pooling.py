"""Pooling and unpooling as modules; the arithmetic is that of :mod:`adapool_sr.ops`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adapool_sr.ops import PoolMasks, adapool2d, adaunpool2d, edscwpool2d, empool2d
from adapool_sr.ops.checks import Gain
from adapool_sr.ops.functional import Size

__all__ = ["AdaPool2d", "AdaUnpool2d", "EDSCWPool2d", "EMPool2d"]


class _Window(nn.Module):
    """Holds the arguments that all pooling modules share."""

    def __init__(
        self, kernel_size: Size, stride: Size | None, padding: Size, ceil_mode: bool
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode

    def extra_repr(self) -> str:
        """What ``print`` shows of the arguments."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"ceil_mode={self.ceil_mode}"
        )


class AdaPool2d(_Window):
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
        weight_grad: bool = True,
        return_masks: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
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
        """Pool x (N, C, H, W) or (C, H, W).

        Args:
            x: any float dtype; β is cast to it.
            beta: β for this call, where the module was made with ``beta=None``.

        Returns:
            y (N, C, oH, oW), or (y, PoolMasks) if ``return_masks``.

        Raises:
            ValueError: β is given twice or not at all, or what :func:`adapool2d` refuses.
        """
        own = self.beta
        if own is not None and beta is not None:
            raise ValueError("beta must come with the module or with the call, got both")
        b = own if beta is None else beta
        if b is None:
            raise ValueError("beta must come with the module or with the call, got neither")
        window = (self.kernel_size, self.stride, self.padding, self.ceil_mode)
        b = b.to(x.dtype)
        if self.return_masks:
            return adapool2d(x, b, *window, weight_grad=self.weight_grad, return_masks=True)
        return adapool2d(x, b, *window, weight_grad=self.weight_grad)

    def extra_repr(self) -> str:
        """What ``print`` shows of the arguments."""
        own = self.beta
        shape = "per call" if own is None else f"{tuple(own.shape)}"
        return f"{super().extra_repr()}, beta={shape}, learnable={self.logit is not None}"


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


class AdaUnpool2d(_Window):
    """The way back up by the encoder's weights: see :func:`adapool_sr.ops.adaunpool2d`.

    Args:
        kernel_size: window size, for ``like`` and plain masks; PoolMasks know theirs.
        stride: step between windows; None: the kernel's.
        padding: as in the pooling.
        ceil_mode: as in the pooling.
        weight_grad: False holds the weights that ``like`` gives constant.
        gain: "area" keeps flat maps flat in any geometry; 1.0 is the paper's rule, which keeps a
            window's sum.
    """

    def __init__(
        self,
        kernel_size: Size = 2,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        weight_grad: bool = True,
        gain: Gain = "area",
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.weight_grad = weight_grad
        self.gain: Gain = gain

    def forward(
        self,
        y: Tensor,
        masks: PoolMasks | Tensor | None = None,
        *,
        like: Tensor | None = None,
        beta: float | Tensor | None = None,
        output_size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Spread y (N, C, oH, oW) over its windows: (N, C, H, W).

        Args:
            y: any float dtype.
            masks: what the pooling returned: PoolMasks, or one plain mask.
            like: instead of masks, the map that was pooled; with ``beta``.
            beta: the β of that pooling; a tensor is cast to y's dtype.
            output_size: (H, W) of the result; only with one plain mask.

        Raises:
            ValueError: as :func:`adaunpool2d`.
        """
        if isinstance(masks, PoolMasks) and like is None:
            return adaunpool2d(y, masks, beta=beta, output_size=output_size, gain=self.gain)
        return adaunpool2d(
            y,
            masks,
            like=like,
            beta=beta.to(y.dtype) if isinstance(beta, Tensor) else beta,
            kernel_size=self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
            output_size=output_size,
            weight_grad=self.weight_grad,
            gain=self.gain,
        )

    def extra_repr(self) -> str:
        """What ``print`` shows of the arguments."""
        return f"{super().extra_repr()}, gain={self.gain!r}"


class _SinglePool2d(_Window):
    """The modules of the two methods without β."""

    def __init__(
        self,
        kernel_size: Size = 2,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        *,
        weight_grad: bool = True,
        return_masks: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.weight_grad = weight_grad
        self.return_masks = return_masks


class EDSCWPool2d(_SinglePool2d):
    """Similarity-weighted pooling: see :func:`adapool_sr.ops.edscwpool2d`.

    Args:
        kernel_size: window size, one int or (kH, kW).
        stride: step between windows; None: the kernel's.
        padding: positions beside the image that windows may cover, at most half the kernel.
        ceil_mode: let a last window stick out.
        weight_grad: exact derivative, or the paper's proportional rule.
        return_masks: return (y, mask).
    """

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Pool x (N, C, H, W) or (C, H, W) to (…, oH, oW)."""
        window = (self.kernel_size, self.stride, self.padding, self.ceil_mode)
        if self.return_masks:
            return edscwpool2d(x, *window, weight_grad=self.weight_grad, return_masks=True)
        return edscwpool2d(x, *window, weight_grad=self.weight_grad)


class EMPool2d(_SinglePool2d):
    """Exponential-maximum pooling (SoftPool): see :func:`adapool_sr.ops.empool2d`.

    Args:
        kernel_size: window size, one int or (kH, kW).
        stride: step between windows; None: the kernel's.
        padding: positions beside the image that windows may cover, at most half the kernel.
        ceil_mode: let a last window stick out.
        weight_grad: exact derivative, or the paper's proportional rule.
        return_masks: return (y, mask).
    """

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Pool x (N, C, H, W) or (C, H, W) to (…, oH, oW)."""
        window = (self.kernel_size, self.stride, self.padding, self.ceil_mode)
        if self.return_masks:
            return empool2d(x, *window, weight_grad=self.weight_grad, return_masks=True)
        return empool2d(x, *window, weight_grad=self.weight_grad)
