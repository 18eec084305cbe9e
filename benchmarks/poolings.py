"""The networks that ablation.py compares: AdaPoolSR with other poolings in AdaPool's place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapool_sr.models import AdaPoolSR
from adapool_sr.nn.blocks import conv3x3

__all__ = ["VARIANTS", "Variant", "draw", "network_of", "parameters_of"]


@dataclass(frozen=True)
class Variant:
    """One way down and up again.

    Attributes:
        pooling: "adapool", "average", "max", "strided" or "unshuffle".
        skip: whether the encoder's map is added to what comes up.
        beta: as AdaPoolSR takes it.
        masks: False: what AdaPool pooled goes up by repetition, not by AdaPool's weights.
        wide: pool twice as many maps as the blocks at full resolution have channels.
    """

    pooling: str
    skip: bool = False
    beta: str = "channel"
    masks: bool = True
    wide: bool = False


VARIANTS: dict[str, Variant] = {
    "AdaPool + AdaUnpool": Variant("adapool"),
    "average + nearest": Variant("average"),
    "max + max_unpool": Variant("max"),
    "strided convolution + pixel shuffle": Variant("strided"),
    "pixel unshuffle + shuffle": Variant("unshuffle"),
    "AdaPool + AdaUnpool, skip": Variant("adapool", skip=True),
    "average + nearest, skip": Variant("average", skip=True),
    "max + max_unpool, skip": Variant("max", skip=True),
    "strided convolution + pixel shuffle, skip": Variant("strided", skip=True),
    "pixel unshuffle + shuffle, skip": Variant("unshuffle", skip=True),
    "AdaPool + AdaUnpool, scalar β": Variant("adapool", beta="scalar"),
    "AdaPool + AdaUnpool, predicted β": Variant("adapool", beta="map"),
    "AdaPool + nearest (no masks)": Variant("adapool", masks=False),
    "AdaPool + AdaUnpool, twice the maps": Variant("adapool", wide=True),
    "average + nearest, twice the maps": Variant("average", wide=True),
    "strided convolution + pixel shuffle, twice the maps": Variant("strided", wide=True),
}


class Nearest(nn.Module):
    """Repeats a value over its window."""

    def forward(self, y: Tensor, *, like: Tensor, beta: Tensor | None) -> Tensor:
        """Enlarge y (N, C, h, w) to the size of ``like``."""
        up = F.interpolate(y, scale_factor=2.0, mode="nearest")
        return up[..., : like.shape[-2], : like.shape[-1]]


class Pool(nn.Module):
    """A pooling that has no β."""

    beta = torch.tensor(0.5)  # AdaPoolSR asks for one and hands it on

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        """Pool."""
        return self.function(x)


class MaxUnpool(nn.Module):
    """Puts a value where the encoder's maximum stood, times the window's size, zeros elsewhere."""

    def forward(self, y: Tensor, *, like: Tensor, beta: Tensor | None) -> Tensor:
        """Enlarge y (N, C, h, w) to the size of ``like``."""
        _, places = F.max_pool2d(like.float(), 2, ceil_mode=True, return_indices=True)
        up = F.max_unpool2d(4 * y.float(), places, (2, 2), output_size=like.shape[-2:])
        return up.to(y.dtype)


class Shuffle(nn.Module):
    """Pixel shuffle, cut to the encoder's size."""

    def forward(self, y: Tensor, *, like: Tensor, beta: Tensor | None) -> Tensor:
        """Enlarge y (N, 4·C, h, w) to (N, C, …), the size of ``like``."""
        return F.pixel_shuffle(y, 2)[..., : like.shape[-2], : like.shape[-1]]


def _even(x: Tensor) -> Tensor:
    """Repeat the last row and column of odd sizes."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")


def _unshuffle(x: Tensor) -> Tensor:
    return F.pixel_unshuffle(_even(x), 2)


def network_of(variant: Variant, settings: Mapping[str, Any]) -> AdaPoolSR:
    """The network with that pooling in AdaPool's place.

    Where a variant brings weights of its own, the bottom level is made narrower until the whole
    has as many as AdaPool's network.
    """
    settings = {**settings, "skip": variant.skip, "beta": variant.beta}
    network = AdaPoolSR(**settings)
    if variant.wide:
        settings["pooled_widths"] = [2 * width for width in settings["widths"][:-1]]
    elif variant.pooling == "adapool":
        return _replace(network, variant)
    wanted = parameters_of(network)
    *widths, most = settings["widths"]

    def candidate(bottom: int) -> AdaPoolSR:
        return _replace(AdaPoolSR(**{**settings, "widths": [*widths, bottom]}), variant)

    return min(map(candidate, range(2, most + 1)), key=lambda net: abs(parameters_of(net) - wanted))


def parameters_of(network: nn.Module) -> int:
    """How many values its parameters have."""
    return sum(parameter.numel() for parameter in network.parameters())


def _replace(network: AdaPoolSR, variant: Variant) -> AdaPoolSR:
    """Put another pooling into a network, and the convolutions that it needs."""
    upper = network.config["pooled_widths"]
    widths = network.config["widths"]
    for level, (maps, below) in enumerate(zip(upper, [*upper[1:], widths[-1]], strict=True)):
        pool: nn.Module = network.pools[level]
        unpool: nn.Module = network.unpools[level]
        if variant.pooling == "adapool":
            unpool = unpool if variant.masks else Nearest()
        elif variant.pooling == "average":
            pool, unpool = Pool(lambda x: F.avg_pool2d(x, 2, ceil_mode=True)), Nearest()
        elif variant.pooling == "max":
            pool = Pool(lambda x: F.max_pool2d(x, 2, ceil_mode=True))
            unpool = MaxUnpool()
        elif variant.pooling == "strided":
            pool, unpool = Pool(_even), Shuffle()
            network.downs[level] = nn.Conv2d(maps, below, 3, stride=2, padding=1)
        elif variant.pooling == "unshuffle":
            pool, unpool = Pool(_unshuffle), Shuffle()
            network.downs[level] = nn.Conv2d(4 * maps, below, 3, padding=1)
        else:
            raise ValueError(f"pooling: got {variant.pooling!r}")
        if isinstance(unpool, Shuffle):
            # What comes up needs none of the encoder's maps: it is as wide as the blocks that read
            # it, unless those maps are added to it.
            up = maps if network.skip else widths[level]
            network.projections[level] = nn.Conv2d(widths[level + 1], 4 * up, 1)
            network.fuses[level] = conv3x3(up, widths[level])
        network.pools[level] = pool
        network.unpools[level] = unpool
    return network


def draw(network: AdaPoolSR, seed: int) -> None:
    """Draw the weights of every convolution but the last anew, from the seed and its name."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module is not network.tail:
            torch.manual_seed(seed * 1_000_003 + sum(map(ord, name)))
            if network.config["block"] == "residual" or not name.startswith("bodies"):
                module.reset_parameters()
    with torch.no_grad():
        for name, scale in network.scales().items():
            network.get_parameter(name).mul_(scale)
