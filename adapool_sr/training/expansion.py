"""Convolutions that train wide and run narrow.

A 3x3 convolution into ``factor`` times the channels followed by a 1x1 convolution back is linear,
so it equals one 3x3 convolution; trained in the wide form, small networks are said to end better
(Bhardwaj et al. 2022, SESR, section 3; Zhang et al. 2021, ECBSR). The product is formed on the
weights, once a step, not on the maps, so that a step costs what a plain one does.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from adapool_sr.models import AdaPoolSR

__all__ = ["Expansion", "Scaled", "expand", "plain_state"]


class Expansion(nn.Module):
    """The parametrization: weight ↦ weight + narrow · wide.

    Starts at the weight itself: ``narrow`` is zero.

    Args:
        in_channels: of the convolution.
        out_channels: of the convolution.
        factor: the wide form has ``factor · out_channels`` channels.
        side: of the kernel.
        scale: the weight trained is that of the network divided by this.
    """

    def __init__(
        self, in_channels: int, out_channels: int, factor: int, side: int = 3, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.scale = scale
        wide = factor * out_channels
        self.wide = nn.Parameter(torch.empty(wide, in_channels * side * side))
        self.narrow = nn.Parameter(torch.zeros(out_channels, wide))
        nn.init.normal_(self.wide, std=(in_channels * side * side) ** -0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in, side, side) → the same shape, float32 whatever autocast says."""
        with torch.autocast(weight.device.type, enabled=False):
            return self.scale * (weight + (self.narrow @ self.wide).view_as(weight))

    def right_inverse(self, weight: Tensor) -> Tensor:
        """What to begin with for a weight."""
        return weight / self.scale


class Scaled(nn.Module):
    """The parametrization: tensor ↦ scale · tensor, so that a step changes it in proportion."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, tensor: Tensor) -> Tensor:
        """Any shape → the same."""
        return self.scale * tensor

    def right_inverse(self, tensor: Tensor) -> Tensor:
        """What to begin with for a tensor."""
        return tensor / self.scale


def expand(network: nn.Module, factor: int) -> int:
    """Give every 3x3 convolution of a network its wide form; its function stays as it is.

    Parameters that the network's ``scales()`` names, if it has any, train at the size they would
    have without.

    Args:
        network: changed in place; saved weights are then those of :func:`plain_state`.
        factor: how much wider, at least 1.

    Returns:
        How many convolutions were changed.
    """
    scales: dict[str, float] = network.scales() if isinstance(network, AdaPoolSR) else {}
    count = 0
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            scale = scales.pop(f"{name}.weight", 1.0)
            added = Expansion(module.in_channels, module.out_channels, factor, scale=scale)
            parametrize.register_parametrization(module, "weight", added)
            count += 1
    for path, scale in scales.items():
        place, _, name = path.rpartition(".")
        parametrize.register_parametrization(network.get_submodule(place), name, Scaled(scale))
    return count


@torch.no_grad()
def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """The ``state_dict`` of a network as if it had never been expanded.

    Products are formed anew; all other tensors are the network's own, detached.
    """
    state: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        if ".parametrizations." not in name:
            state[name] = tensor.detach()
        elif name.endswith(".original"):
            place, _, tensor_name = name.removesuffix(".original").partition(".parametrizations.")
            made = cast(Tensor, getattr(network.get_submodule(place), tensor_name))
            state[f"{place}.{tensor_name}"] = made.detach()
    return state
