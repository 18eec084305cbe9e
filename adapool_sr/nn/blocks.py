"""Building blocks that the networks share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ResidualBlock", "conv3x3"]


def conv3x3(in_channels: int, out_channels: int) -> nn.Conv2d:
    """3x3 convolution with bias that keeps the size (zeros outside the image)."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


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
        change: Tensor = self.conv2(torch.relu(self.conv1(x)))
        return x + change
