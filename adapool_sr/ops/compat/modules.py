"""The authors' modules: see :mod:`adapool_sr.ops.compat`."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from adapool_sr.ops.compat import functions
from adapool_sr.ops.compat.functions import Mask
from adapool_sr.ops.functional import Size

__all__ = [
    "AdaPool1d",
    "AdaPool2d",
    "AdaPool3d",
    "AdaUnpool1d",
    "AdaUnpool2d",
    "AdaUnpool3d",
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


class _AdaPool(nn.Module):
    rank: ClassVar[int]
    beta: Tensor

    def __init__(
        self,
        kernel_size: Size = 2,
        beta: Tensor | tuple[int, ...] | int | None = None,
        stride: Size | None = None,
        beta_trainable: bool = True,
        return_mask: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
        native: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.return_mask = return_mask
        self.native = native
        if isinstance(beta, int) and self.rank == 1:
            beta = (beta,)
        if isinstance(beta, tuple):
            start = torch.rand(beta, device=device, dtype=dtype)
        elif isinstance(beta, Tensor):
            start = beta.detach().to(device=device, dtype=dtype).clone().clamp_(0.0, 1.0)
        else:
            raise TypeError(f"beta must be a tensor or the output's size, got {beta!r}")
        if beta_trainable:
            self.register_parameter("beta", nn.Parameter(start))
        else:
            self.register_buffer("beta", start)

    def forward(self, x: Tensor) -> Any:
        """Pool x (N, C, *space) or (C, *space): y, or (y, mask)."""
        # Of the data: a step may have left [0, 1], and a graph that is still to be differentiated
        # must not take the values, which don't change in between, for changed.
        self.beta.data.clamp_(0.0, 1.0)
        pool = getattr(functions, f"adapool{self.rank}d")
        beta = self.beta.to(x.dtype)
        return pool(x, beta, self.kernel_size, self.stride, self.return_mask, self.native)


class AdaPool1d(_AdaPool):
    """The authors' module: AdaPool with a β of the output's size (or an int of it)."""

    rank = 1


class AdaPool2d(_AdaPool):
    """The authors' module: AdaPool with a β of the output's size.

    Args:
        kernel_size: window size.
        beta: the start value, or (oH, oW) for random ones; a parameter ``beta`` that each call
            keeps in [0, 1].
        stride: step between windows; None: the kernel's.
        beta_trainable: False makes it a buffer.
        return_mask: return (y, mask) for :func:`adaunpool`.
        device: of beta.
        dtype: of beta; it is cast to the input's.
        native: whether the mask is one tensor instead of a triple.

    Raises:
        TypeError: beta is neither a tensor nor a size.

    Example:
        >>> AdaPool2d(beta=(2, 3))(torch.rand(1, 8, 4, 6)).shape
        torch.Size([1, 8, 2, 3])
    """

    rank = 2


class AdaPool3d(_AdaPool):
    """The authors' module: as :class:`AdaPool2d`, of (N, C, D, H, W)."""

    rank = 3


class _Single(nn.Module):
    function: ClassVar[str]

    def __init__(
        self, kernel_size: Size = 2, stride: Size | None = None, return_mask: bool = False
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.return_mask = return_mask

    def forward(self, x: Tensor) -> Any:
        """Pool x (N, C, *space) or (C, *space): y, or (y, mask)."""
        return getattr(functions, self.function)(x, self.kernel_size, self.stride, self.return_mask)


class EDSCWPool1d(_Single):
    """The authors' module over :func:`edscwpool1d`."""

    function = "edscwpool1d"


class EDSCWPool2d(_Single):
    """The authors' module over :func:`edscwpool2d`."""

    function = "edscwpool2d"


class EDSCWPool3d(_Single):
    """The authors' module over :func:`edscwpool3d`."""

    function = "edscwpool3d"


class EMPool1d(_Single):
    """The authors' module over :func:`empool1d`."""

    function = "empool1d"


class EMPool2d(_Single):
    """The authors' module over :func:`empool2d`."""

    function = "empool2d"


class EMPool3d(_Single):
    """The authors' module over :func:`empool3d`."""

    function = "empool3d"


class IDWPool1d(_Single):
    """The authors' module over :func:`idwpool1d`."""

    function = "idwpool1d"


class IDWPool2d(_Single):
    """The authors' module over :func:`idwpool2d`."""

    function = "idwpool2d"


class IDWPool3d(_Single):
    """The authors' module over :func:`idwpool3d`."""

    function = "idwpool3d"


class _AdaUnpool(nn.Module):
    def __init__(self, mask: Mask | None = None) -> None:
        super().__init__()
        self.mask = mask

    def forward(self, x: Tensor, mask: Mask | None = None) -> Tensor:
        """Enlarge x (N, C, *out) by the mask of this call, else by that of construction."""
        return functions.adaunpool(x, self.mask if mask is None else mask)


class AdaUnpool1d(_AdaUnpool):
    """The authors' module over :func:`adaunpool`, for (N, C, L)."""


class AdaUnpool2d(_AdaUnpool):
    """The authors' module over :func:`adaunpool`, for (N, C, H, W).

    Args:
        mask: what pooling returned; may come with each call instead.
    """


class AdaUnpool3d(_AdaUnpool):
    """The authors' module over :func:`adaunpool`, for (N, C, D, H, W)."""
