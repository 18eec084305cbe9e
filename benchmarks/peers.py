"""Networks of known published quality as plain convolutions, for timing only: no weights.

Shapes as in the papers: FSRCNN (Dong et al. 2016, d = 56, s = 12, m = 4) and VDSR (Kim et al. 2016)
on luma, EDSR-baseline (Lim et al. 2017) and SPAN (Wan et al. 2023, 48 channels, its blocks in the
form that runs: one convolution each) on RGB. VDSR enlarges first and so works at the output's size.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FSRCNN", "PEERS", "SPAN", "SPAN_ON_SET5", "VDSR", "EDSRBaseline"]


def _conv(inputs: int, outputs: int, side: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, padding=side // 2)


class Peer(nn.Module):
    """A network of somebody else's.

    Args:
        scale: enlargement.

    Attributes:
        channels: of input and output: 1 (luma) or 3.
    """

    channels = 3

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale


class FSRCNN(Peer):
    """12,809 parameters at x2; luma in, luma out."""

    channels = 1

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        layers: list[nn.Module] = [_conv(1, 56, 5), nn.PReLU(56), _conv(56, 12, 1), nn.PReLU(12)]
        for _ in range(4):
            layers += [_conv(12, 12), nn.PReLU(12)]
        layers += [_conv(12, 56, 1), nn.PReLU(56)]
        layers += [nn.ConvTranspose2d(56, 1, 9, scale, 4, output_padding=scale - 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge (N, 1, H, W)."""
        return cast(Tensor, self.layers(x))


class VDSR(Peer):
    """665 K parameters; luma in, luma out."""

    channels = 1

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        layers: list[nn.Module] = [_conv(1, 64), nn.ReLU(inplace=True)]
        for _ in range(18):
            layers += [_conv(64, 64), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, _conv(64, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge (N, 1, H, W)."""
        large = F.interpolate(x, scale_factor=float(self.scale), mode="bicubic")
        return large + cast(Tensor, self.layers(large))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(_conv(width, width), nn.ReLU(True), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + cast(Tensor, self.layers(x))


class EDSRBaseline(Peer):
    """1.37 M parameters at x2; RGB."""

    def __init__(self, scale: int) -> None:
        super().__init__(scale)
        self.head = _conv(3, 64)
        self.body = nn.Sequential(*(_Residual(64) for _ in range(16)), _conv(64, 64))
        tail: list[nn.Module] = []
        for factor in (2, 2) if scale == 4 else (scale,):
            tail += [_conv(64, 64 * factor**2), nn.PixelShuffle(factor)]
        self.tail = nn.Sequential(*tail, _conv(64, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge (N, 3, H, W)."""
        x = self.head(x)
        return cast(Tensor, self.tail(x + self.body(x)))


class _SPAB(nn.Module):
    """SPAN's block: three convolutions and an attention without parameters."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3 = (_conv(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = F.silu(self.conv1(x))
        third = self.conv3(F.silu(self.conv2(first)))
        return (third + x) * (torch.sigmoid(third) - 0.5), first


class SPAN(Peer):
    """481 K parameters at x2 as trained, 411 K as run; RGB."""

    def __init__(self, scale: int, width: int = 48) -> None:
        super().__init__(scale)
        self.head = _conv(3, width)
        self.blocks = nn.ModuleList(_SPAB(width) for _ in range(6))
        self.after = _conv(width, width)
        self.merge = _conv(4 * width, width, 1)
        self.tail = _conv(width, 3 * scale**2)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge (N, 3, H, W)."""
        head = self.head(x)
        y, inner = head, head
        outputs = []
        for block in self.blocks:
            y, inner = block(y)
            outputs.append(y)
        merged = self.merge(torch.cat([head, self.after(y), outputs[0], inner], 1))
        return cast(Tensor, self.shuffle(self.tail(merged)))


#: Name to network; their published quality is in adapool_sr/evaluation/published.json, but:
PEERS: dict[str, type[Peer]] = {
    "FSRCNN": FSRCNN,
    "VDSR": VDSR,
    "EDSR-baseline": EDSRBaseline,
    "SPAN-48": SPAN,
}

#: Y-PSNR on Set5 at x2 of SPAN's published weights: 38.08 in its paper, 38.073 by our scorer.
SPAN_ON_SET5 = 38.08
