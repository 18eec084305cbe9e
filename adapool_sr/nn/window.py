"""What the pooling modules share."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from adapool_sr import ops
from adapool_sr.ops.functional import Size

__all__ = ["PoolingWindow"]


class PoolingWindow(nn.Module):
    """Base of all pooling modules: holds the window's arguments.

    Args:
        kernel_size: window size, one int or one a dimension.
        stride: step between windows; None: the kernel's.
        padding: positions beside the map that windows may cover.
        ceil_mode: let a last window stick out.
    """

    rank: ClassVar[int]

    def __init__(
        self, kernel_size: Size, stride: Size | None, padding: Size, ceil_mode: bool
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode

    def _function(self, method: str) -> Any:
        """The function of the method for this module's number of dimensions."""
        return getattr(ops, f"{method}{self.rank}d")

    @property
    def _window(self) -> tuple[Size, Size, Size, bool]:
        return self.kernel_size, self.stride, self.padding, self.ceil_mode

    def extra_repr(self) -> str:
        """What ``print`` shows of the arguments."""
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"ceil_mode={self.ceil_mode}"
        )
