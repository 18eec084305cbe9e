"""Compact definitions of well-known networks, written as their papers and torchvision have them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(after),
    )


class Residual(nn.Module):
    """Two 3x3 convolutions; the input passes a strided 1x1 where sizes differ (He et al. 2016)."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_norm(before, after, 3, stride)
        self.second = conv_norm(after, after, 3)
        same = before == after and stride == 1
        self.downsample = nn.Identity() if same else conv_norm(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(F.relu(self.first(x)))
        return F.relu(y + self.downsample(x))


class GroupedResidual(nn.Module):
    """1x1, grouped 3x3 with the stride, 1x1 (Xie et al. 2017)."""

    def __init__(self, before: int, after: int, stride: int = 1, groups: int = 4) -> None:
        super().__init__()
        self.reduce = conv_norm(before, after // 2, 1)
        self.grouped = conv_norm(after // 2, after // 2, 3, stride, groups)
        self.expand = conv_norm(after // 2, after, 1)
        same = before == after and stride == 1
        self.downsample = nn.Identity() if same else conv_norm(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.expand(F.relu(self.grouped(F.relu(self.reduce(x)))))
        return F.relu(y + self.downsample(x))


class ResNet(nn.Module):
    """Stem, four stages, head; the stages' maps for a detector come from ``stages``."""

    def __init__(self, block: type[nn.Module] = Residual, width: int = 8) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = block(width, width)
        self.layer2 = block(width, 2 * width, 2)
        self.layer3 = block(2 * width, 4 * width, 2)
        self.layer4 = block(4 * width, 8 * width, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8 * width, 10)

    def stages(self, x: Tensor) -> list[Tensor]:
        x = self.maxpool(F.relu(self.bn1(self.conv1(x))))
        maps = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.avgpool(self.stages(x)[-1]).flatten(1))
        return y


class DenseBlock(nn.Module):
    """Each layer sees all before it (Huang et al. 2017)."""

    def __init__(self, before: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(before + i * growth),
                nn.ReLU(),
                nn.Conv2d(before + i * growth, growth, 3, padding=1, bias=False),
            )
            for i in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class DenseNet(nn.Module):
    """Dense blocks with transitions, which pool by the average."""

    def __init__(self, growth: int = 4) -> None:
        super().__init__()
        self.features = nn.Sequential()
        self.features.add_module("conv0", nn.Conv2d(3, 8, 7, 2, 3, bias=False))
        self.features.add_module("pool0", nn.MaxPool2d(3, 2, 1))
        width = 8
        for i in (1, 2):
            self.features.add_module(f"denseblock{i}", DenseBlock(width, growth, 2))
            width += 2 * growth
            transition = nn.Sequential()
            transition.add_module("norm", nn.BatchNorm2d(width))
            transition.add_module("relu", nn.ReLU())
            transition.add_module("conv", nn.Conv2d(width, width // 2, 1, bias=False))
            transition.add_module("pool", nn.AvgPool2d(2, 2))
            self.features.add_module(f"transition{i}", transition)
            width //= 2
        self.classifier = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classifier(F.relu(self.features(x)).mean((2, 3)))
        return y


class Detector(nn.Module):
    """A ResNet with a feature pyramid (Lin et al. 2017) and one convolution a level as its head."""

    def __init__(self, block: type[nn.Module] = Residual, width: int = 8) -> None:
        super().__init__()
        self.body = ResNet(block, width)
        self.lateral = nn.ModuleList(nn.Conv2d(width * 2**i, 8, 1) for i in range(4))
        self.output = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(4))
        self.extra = nn.MaxPool2d(1, 2)  # torchvision's LastLevelMaxPool, as a module
        self.head = nn.Conv2d(8, 5, 3, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = [conv(m) for conv, m in zip(self.lateral, self.body.stages(x), strict=True)]
        for i in (2, 1, 0):
            maps[i] = maps[i] + F.interpolate(maps[i + 1], size=maps[i].shape[2:])
        levels = [conv(m) for conv, m in zip(self.output, maps, strict=True)]
        levels.append(self.extra(levels[-1]))
        return [self.head(level) for level in levels]
