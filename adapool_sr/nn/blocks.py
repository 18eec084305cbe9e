"""Building blocks that the networks share."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from adapool_sr.ops.convolve import conv3x3_bf16, fused_conv3x3, has_conv3x3_bf16

__all__ = ["BLOCKS", "ContrastConv2d", "PlainBlock", "ResidualBlock", "conv3x3", "convolve"]

START_NOISE = 0.5  # of PyTorch's own random start, beside the identity


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """3x3 convolution with bias that keeps the size (zeros outside the image)."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def convolve(
    conv: nn.Module, x: Tensor, *, add: Tensor | None = None, relu: bool = False
) -> Tensor:
    """Run a convolution of :func:`conv3x3`, an addition and a ReLU.

    In one pass, and with fewer multiplications, where all of it is float32 on the CPU
    (:func:`adapool_sr.ops.convolve.fused_conv3x3`); in one pass too in bfloat16 where nobody wants
    a gradient. Another module in the convolution's place is called as it is.

    Args:
        conv: from (N, C, H, W) to (N, K, H, W).
        x: (N, C, H, W).
        add: (N, K, H, W), added before the ReLU.
        relu: take the positive part.

    Returns:
        (N, K, H, W), in the dtype of ``conv``'s result.
    """
    if _is_plain(conv, x):
        weight, bias = cast(Tensor, conv.weight), cast(Tensor | None, conv.bias)
        dtype = _computed_dtype(x)
        if dtype == torch.float32:
            return fused_conv3x3(x, weight, bias, add=add, relu=relu)
        follows = relu if add is None else add.dtype == torch.bfloat16
        if follows and _takes_along(x):
            return conv3x3_bf16(x, weight, bias, add=add, relu=relu)
    # In place: no convolution needs its own output for its gradient.
    y: Tensor = conv(x)
    if add is not None:
        y.add_(add)
    return y.relu_() if relu else y


def _is_own(x: Tensor) -> bool:
    """Whether other operators than PyTorch's may run: not if it compiles or transforms them."""
    return (
        x.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


def _takes_along(x: Tensor) -> bool:
    """Whether a convolution of x may take along what follows it, in bfloat16."""
    if torch.is_grad_enabled() or not x.numel() or _computed_dtype(x) != torch.bfloat16:
        return False
    return has_conv3x3_bf16()


def _is_plain(conv: nn.Module, x: Tensor) -> bool:
    return (
        _is_own(x)
        and isinstance(conv, nn.Conv2d)
        and type(conv).forward is nn.Conv2d.forward
        and conv.kernel_size == (3, 3)
        and conv.padding == (1, 1)
        and conv.stride == conv.dilation == (1, 1)
        and conv.groups == 1
        and conv.padding_mode == "zeros"
    )


def _computed_dtype(x: Tensor) -> torch.dtype:
    """In what a convolution of x is computed, autocast heeded."""
    if torch.is_autocast_enabled("cpu") and x.dtype != torch.float64:
        return torch.get_autocast_dtype("cpu")
    return x.dtype


class ContrastConv2d(nn.Conv2d):
    """3x3 convolution that sees contrast, not brightness; it keeps the size.

    From each filter its mean over the nine taps is taken, for each input channel, so that a flat
    area gives the bias alone; outside the image its border goes on, which is no edge. Weights of
    any mean may be loaded.

    Args:
        in_channels: of the input (N, in_channels, H, W).
        out_channels: of the output (N, out_channels, H, W), in the weights' dtype.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3)

    def forward(self, input: Tensor, relu: bool = False) -> Tensor:
        """Convolve, and take the positive part if asked to."""
        # In float32: what bfloat16 rounds of a mean would be brightness again.
        weight = self.weight if self.weight.dtype == torch.float64 else self.weight.float()
        weight = (weight - weight.mean((2, 3), keepdim=True)).to(self.weight.dtype)
        padded = F.pad(input, (1, 1, 1, 1), mode="replicate")
        if relu and _is_own(padded) and _takes_along(padded):
            return conv3x3_bf16(padded, weight, self.bias, relu=True, padding=0)
        y = F.conv2d(padded, weight, self.bias)
        return y.relu_() if relu else y


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a ReLU between and the input added, without normalisation.

    The block of EDSR (Lim et al., CVPRW 2017, figure 2c). Input and output (N, width, H, W).

    Args:
        width: channels in, between and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(width, width)
        self.conv2 = conv3x3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + conv2(relu(conv1(x))), same shape and dtype as x."""
        return convolve(self.conv2, convolve(self.conv1, x, relu=True), add=x)


class PlainBlock(nn.Module):
    """Two 3x3 convolutions, each with a ReLU, that start near the identity.

    What a residual block computes can be learnt by it too, and running it takes no addition; the
    start (Zagoruyko and Komodakis 2017, DiracNets) makes a chain of them train. Input and output
    (N, width, H, W); the input is one that passed a ReLU.

    Args:
        width: channels in, between and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(width, width)
        self.conv2 = conv3x3(width, width)
        for conv in (self.conv1, self.conv2):
            with torch.no_grad():
                conv.weight.mul_(START_NOISE)
                conv.weight[range(width), range(width), 1, 1] += 1.0
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return relu(conv2(relu(conv1(x)))), same shape and dtype as x."""
        return convolve(self.conv2, convolve(self.conv1, x, relu=True), relu=True)


BLOCKS: dict[str, type[nn.Module]] = {"residual": ResidualBlock, "plain": PlainBlock}
"""The blocks by the name that a configuration uses."""
