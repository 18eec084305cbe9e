"""AdaPoolSR, the super-resolution network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapool_sr.imaging.resize import enlarge, enlarging_taps
from adapool_sr.nn import AdaPool2d, AdaUnpool2d
from adapool_sr.nn.blocks import BLOCKS, ContrastConv2d, conv3x3, convolve
from adapool_sr.ops.enlarge import enlarge_add

__all__ = ["AdaPoolSR"]

HEADS: dict[str, Callable[[int, int], nn.Conv2d]] = {"plain": conv3x3, "contrast": ContrastConv2d}
"""The first convolutions by the name that a configuration uses."""


class AdaPoolSR(nn.Module):
    """Encoder-decoder on the low-resolution image that pools with AdaPool.

    A thin convolution reads the image at full LR resolution. Each level down halves the map with
    :class:`~adapool_sr.nn.AdaPool2d`; the way back is :class:`~adapool_sr.nn.AdaUnpool2d`, which
    spreads a value over its window by the weights the encoder pooled with, recomputed from the
    encoder's map so that none are stored. Blocks below see twice as far and cost a quarter a
    pixel; those at full resolution refine what came up. A pixel shuffle makes the HR residual,
    added to the bicubically enlarged input. AdaPool: Stergiou and Poppe, arXiv 2111.00772.

    Args:
        scale: enlargement, 1 to 8.
        widths: channels of the blocks on the way up at each level, full resolution first, and of
            the bottom; its length less one is the number of poolings.
        blocks: residual blocks at each level, those of the way up; the last entry is the bottom.
        skip: add the encoder's map to what comes up from below. Off, all detail must go through
            the pooled branch and its masks.
        beta: mixture of the two poolings: "scalar", "channel" (one logit a channel) or "map" (one
            a window, predicted from the window's mean by a 1x1 convolution).
        encoder: blocks before each pooling; none by default.
        block: "residual" (EDSR's, an addition each) or "plain" (two convolutions in a row, which
            start as the identity and need no addition).
        head: "plain", or "contrast": the first convolution's filters sum to zero, so that what is
            pooled are edges, not brightness (:class:`~adapool_sr.nn.blocks.ContrastConv2d`).
        sharpness: how much larger than PyTorch's start makes it the map is that AdaPool sees. Its
            weights are exponentials: at 1 they lie within some percent of each other, AdaPool is
            an average and AdaUnpool a repetition. What reads the map starts as much smaller, and
            training with ``expand`` keeps the steps of both in proportion. A power of two is exact.
        pooled_widths: channels of the maps that are pooled, one entry for each pooling; those of
            ``widths`` by default. AdaPool keeps channels apart: more of them here carry more of
            the detail down and up again while the blocks stay as narrow as they are.

    Raises:
        ValueError: for a scale, width, number of blocks, sharpness or kind that is not allowed.

    Example:
        >>> net = AdaPoolSR(scale=2, widths=(8, 12), blocks=(0, 1))
        >>> net(torch.rand(1, 3, 5, 7)).shape
        torch.Size([1, 3, 10, 14])
    """

    def __init__(
        self,
        scale: int = 2,
        widths: Sequence[int] = (24, 40),
        blocks: Sequence[int] = (4, 2),
        skip: bool = True,
        beta: str = "channel",
        encoder: Sequence[int] | None = None,
        block: str = "residual",
        head: str = "plain",
        sharpness: float = 1.0,
        pooled_widths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        _check(scale, widths, blocks, beta, encoder, block, pooled_widths)
        encoder = [0] * (len(widths) - 1) if encoder is None else list(encoder)
        pooled = list(widths[:-1] if pooled_widths is None else pooled_widths)
        if head not in HEADS:
            raise ValueError(f"head: got {head!r}, must be one of {', '.join(map(repr, HEADS))}")
        if not (isinstance(sharpness, int | float) and 0 < sharpness < float("inf")):
            raise ValueError(f"sharpness: got {sharpness!r}, must be positive")
        self.scale = scale
        self.config: dict[str, Any] = {
            "scale": scale,
            "widths": list(widths),
            "blocks": list(blocks),
            "skip": skip,
            "beta": beta,
            "encoder": encoder,
            "block": block,
            "head": head,
            "sharpness": sharpness,
            "pooled_widths": pooled,
        }
        self.skip = skip
        levels = len(widths) - 1
        self.size_multiple = 2**levels
        self.head = HEADS[head](3, pooled[0])
        self.pools = nn.ModuleList()
        self.betas = nn.ModuleList()
        self.downs = nn.ModuleList()
        self.projections = nn.ModuleList()
        self.unpools = nn.ModuleList()
        self.fuses = nn.ModuleList()
        self.bodies = nn.ModuleList()
        below = [*pooled[1:], widths[-1]]
        for level, (width, lower) in enumerate(pairwise(widths)):
            maps = pooled[level]
            self.pools.append(AdaPool2d(2, ceil_mode=True, beta=_start_of_beta(beta, maps)))
            if beta == "map":
                self.betas.append(nn.Conv2d(maps, 1, 1))
            self.downs.append(conv3x3(maps, below[level]))
            self.projections.append(nn.Conv2d(lower, maps, 1))
            self.unpools.append(AdaUnpool2d(2, ceil_mode=True, gain="area"))
            self.fuses.append(conv3x3(maps, width))
        make = BLOCKS[block]
        for width, count in zip(widths, blocks, strict=True):
            self.bodies.append(nn.Sequential(*(make(width) for _ in range(count))))
        self.encoders = nn.ModuleList(
            nn.Sequential(*(make(width) for _ in range(count)))
            for width, count in zip(pooled, encoder, strict=True)
        )
        self.tail = conv3x3(widths[0], 3 * scale**2)
        # A residual that starts at zero: the first step already has bicubic's quality.
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]
        with torch.no_grad():
            for name, factor in self.scales().items():
                self.get_parameter(name).mul_(factor)
        # No buffer: a network that is cast to bfloat16 must still enlarge its input exactly.
        self._taps = enlarging_taps(scale).float()
        self.receptive_radius = _receptive_radius(blocks, encoder)

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge a batch of images.

        Args:
            lr: (N, 3, H, W), RGB in 0..1, float32; any size from 1x1. The network runs in its
                weights' dtype (or autocast's), the residual is added in the dtype of ``lr``.

        Returns:
            (N, 3, scale·H, scale·W) in the dtype of ``lr``, not clamped.
        """
        residual = self._residual(lr.to(self.head.weight.dtype))
        # bfloat16 keeps 8 bits: the enlarged input would lose what the residual adds.
        with torch.autocast(lr.device.type, enabled=False):
            plain = torch.is_grad_enabled() or torch.compiler.is_compiling()
            if lr.device.type == "cpu" and lr.dtype == torch.float32 and not plain:
                return enlarge_add(lr, residual, self._taps)
            shuffled = F.pixel_shuffle(residual, self.scale)
            return enlarge(lr, self.scale) + shuffled.to(lr.dtype)

    def scales(self) -> dict[str, float]:
        """By how much ``sharpness`` makes which parameters larger; those at 1 are left out.

        What makes the maps that are pooled is made larger, what reads them smaller: on the way
        from one convolution to the next only AdaPool's weights change.
        """
        up, down = self.config["sharpness"], 1 / self.config["sharpness"]
        scales = {"head.weight": up}
        biases = ["head"]
        for level, encoder in enumerate(self.encoders):
            last = level == len(self.encoders) - 1
            biases += [
                f"encoders.{level}.{name}"
                for name, module in encoder.named_modules()
                if isinstance(module, nn.Conv2d)
            ]
            if last:
                scales[f"downs.{level}.weight"] = down
            else:  # its own map is pooled again
                biases.append(f"downs.{level}")
            if self.config["beta"] == "map":
                scales[f"betas.{level}.weight"] = down
            if self.skip:  # both terms of a sum must be of one size
                scales[f"projections.{level}.weight"] = up
                biases.append(f"projections.{level}")
                scales[f"fuses.{level}.weight"] = down
        scales.update({f"{name}.bias": up for name in biases})
        return {name: scale for name, scale in scales.items() if scale != 1}

    def _beta(self, level: int, x: Tensor) -> Tensor:
        """β of a level's pooling: a parameter, or (N, 1, h, w) predicted from the windows' means.

        The means are linear, so that the convolution may stand after them and cost a quarter.
        """
        own = self.pools[level].beta
        if isinstance(own, Tensor):
            return own
        means = F.avg_pool2d(x, 2, ceil_mode=True)
        predict = cast(nn.Conv2d, self.betas[level])
        if torch.compiler.is_exporting():  # of a convolution into one channel torch.export says
            weight, bias = predict.weight, cast(Tensor, predict.bias)  # that it has no 1x1 result
            logit = (means * weight.view(1, -1, 1, 1)).sum(1, keepdim=True) + bias
        else:
            logit = predict(means)
        return torch.sigmoid(logit)

    def _residual(self, x: Tensor) -> Tensor:
        """Features (N, 3·scale², H, W) from which the shuffle makes the HR residual."""
        if isinstance(self.head, ContrastConv2d):
            x = self.head(x, relu=True)
        else:
            x = self.head(x).relu_()  # in place: it doesn't need its output for its gradient
        maps = []
        betas = []
        for level, (pool, down) in enumerate(zip(self.pools, self.downs, strict=True)):
            x = self.encoders[level](x)
            beta = self._beta(level, x)
            maps.append(x)
            betas.append(beta)
            pooled = pool(x) if pool.beta is not None else pool(x, beta)  # one of the two has it
            x = convolve(down, pooled, relu=True)
        x = self.bodies[-1](x)
        for level in reversed(range(len(maps))):
            encoded = maps[level]
            up = self.unpools[level](self.projections[level](x), like=encoded, beta=betas[level])
            x = convolve(self.fuses[level], encoded + up if self.skip else up, relu=True)
            x = self.bodies[level](x)
        return convolve(self.tail, x)


def _start_of_beta(kind: str, channels: int) -> float | Tensor | None:
    if kind == "map":
        return None
    return torch.full((channels, 1, 1), 0.5) if kind == "channel" else 0.5


def _check(
    scale: int,
    widths: Sequence[int],
    blocks: Sequence[int],
    beta: str,
    encoder: Sequence[int] | None,
    block: str,
    pooled: Sequence[int] | None,
) -> None:
    if not (_are_counts([scale], 1) and scale <= 8):
        raise ValueError(f"scale: got {scale!r}, must be 1 to 8")
    if not _are_counts(widths, 1) or len(widths) < 2:
        raise ValueError(f"widths: got {_shown(widths)}, must be two or more positive channels")
    levels = len(widths)
    if not _are_counts(blocks, 0) or len(blocks) != levels:
        raise ValueError(
            f"blocks: got {_shown(blocks)}, must be {levels} counts, one for each of widths"
        )
    if beta not in ("scalar", "channel", "map"):
        raise ValueError(f"beta: got {beta!r}, must be 'scalar', 'channel' or 'map'")
    if encoder is not None and (not _are_counts(encoder, 0) or len(encoder) != levels - 1):
        raise ValueError(
            f"encoder: got {_shown(encoder)}, must be {levels - 1} counts, one for each pooling"
        )
    if block not in BLOCKS:
        raise ValueError(f"block: got {block!r}, must be one of {', '.join(map(repr, BLOCKS))}")
    if pooled is not None and (not _are_counts(pooled, 1) or len(pooled) != levels - 1):
        raise ValueError(
            f"pooled_widths: got {_shown(pooled)}, must be {levels - 1} positive channels, one "
            "for each pooling"
        )


def _are_counts(values: Any, least: int) -> bool:
    """Whether ``values`` is a sequence of integers of at least ``least``, as YAML may not be."""
    return isinstance(values, Sequence) and all(
        isinstance(value, int) and value >= least for value in values
    )


def _shown(values: Any) -> str:
    return str(tuple(values)) if isinstance(values, list) else repr(values)


def _receptive_radius(blocks: Sequence[int], encoder: Sequence[int]) -> int:
    """Furthest input pixel (rows or columns) that can change an output pixel, in LR pixels.

    Walks from an output pixel back to the input with the interval of positions that matter, for
    each of the positions a pixel can have in the coarsest window, and takes the furthest end.
    """
    levels = len(blocks) - 1

    def encoder_input(first: int, last: int, level: int) -> tuple[int, int]:
        """Input interval of positions ``first..last`` of the map that a level pools or ends in."""
        for each in range(level, -1, -1):
            reach = 2 * encoder[each] if each < levels else 0
            first, last = first - reach, last + reach
            if each:
                first, last = 2 * (first - 1), 2 * (last + 1) + 1  # 3x3 convolution, 2x2 window
        return first - 1, last + 1  # the head

    def decoder_input(first: int, last: int, level: int) -> tuple[int, int]:
        """Input interval of positions ``first..last`` that leave a level's body on the way up."""
        reach = 2 * blocks[level]
        first, last = first - reach, last + reach
        if level == levels:
            return encoder_input(first, last, level)
        first, last = first - 1, last + 1  # fuse
        below = (first // 2, last // 2)  # the windows that hold these positions
        pooled = decoder_input(*below, level + 1)
        masks = encoder_input(2 * below[0], 2 * below[1] + 1, level)
        return min(pooled[0], masks[0]), max(pooled[1], masks[1])

    radius = 2  # the bicubic enlargement
    for position in range(2**levels):
        first, last = decoder_input(position - 1, position + 1, 0)  # the tail
        radius = max(radius, position - first, last - position)
    return radius
