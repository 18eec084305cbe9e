"""The sample rule: sample k of a run is a pure function of (seed, k).

So any number of workers and processes sees the same samples, and a run is resumed by counting.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from adapool_sr.data.degrade import Degradation, Recipe
from adapool_sr.data.images import Pair, as_batch

__all__ = ["Choice", "SampleRule", "TrainingBatches", "WholePictures", "degraded_whole"]

_MIXED = 1  # word of Philox' counter: 0 chooses the sample, 1 degrades it, 2 degrades whole photos
_WHOLE = 2

_AS_THEY_ARE = (0, 1, 2)
_ORDERS = tuple(itertools.permutations(_AS_THEY_ARE))


@dataclass(frozen=True)
class Choice:
    """What sample k is.

    Attributes:
        photo: which pair.
        top: first row of the crop, in LR pixels.
        left: first column of the crop, in LR pixels.
        turn: bit 0 mirrors left and right, bit 1 top and bottom, bit 2 swaps the axes: together
            all eight flips and quarter turns.
        order: which of the photo's channels become red, green and blue.
    """

    photo: int
    top: int
    left: int
    turn: int
    order: tuple[int, ...] = _AS_THEY_ARE


class SampleRule:
    """Chooses and cuts training samples.

    Args:
        pairs: the photos, each at least one patch large.
        patch: side of the LR patch in pixels.
        seed: of the run, 0 … 2**64 − 1.
        weights: chance of each photo relative to the others, per pixel; equal by default.
        augment: whether samples are flipped and turned.
        degradation: makes the LR patch from the HR photo around it; by default it is cut from the
            pair's own low resolution.
        channel_shuffle: chance that a sample's channels are put into one of their six orders.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        patch: int,
        seed: int,
        weights: Sequence[float] | None = None,
        augment: bool = True,
        degradation: Degradation | None = None,
        channel_shuffle: float = 0.0,
    ) -> None:
        self.pairs = list(pairs)
        self.patch = patch
        self.seed = seed
        self.augment = augment
        self.degradation = degradation
        self.channel_shuffle = channel_shuffle
        self.scale = pairs[0].hr.shape[1] // pairs[0].lr.shape[1]
        area = np.array([pair.megapixels for pair in pairs])
        share = area if weights is None else area * np.asarray(weights, dtype=np.float64)
        self._limits = np.cumsum(share / share.sum())

    def choose(self, k: int) -> Choice:
        """Decide sample ``k`` (0 … 2**64 − 1) from the seed and k alone."""
        # A counter-based generator: k is the second word of Philox' counter, so that no two
        # samples share a number, and nothing is kept between samples.
        generator = np.random.Philox(key=self.seed, counter=[0, k, 0, 0])
        which, top, left, turn, shuffle, order = generator.random_raw(6).tolist()
        chance = _unit(which)
        photo = int(np.searchsorted(self._limits, chance, side="right"))
        photo = min(photo, len(self.pairs) - 1)  # the last limit may round to below 1
        height, width = self.pairs[photo].lr.shape[1:]
        return Choice(
            photo,
            top % (height - self.patch + 1),
            left % (width - self.patch + 1),
            turn % 8 if self.augment else 0,
            _ORDERS[order % len(_ORDERS)]
            if _unit(shuffle) < self.channel_shuffle
            else _AS_THEY_ARE,
        )

    def batch(self, first: int, count: int) -> dict[str, Tensor]:
        """Cut the samples ``first … first + count − 1``.

        Returns:
            ``lr`` (count, 3, patch, patch) and ``hr`` (count, 3, scale·patch, scale·patch),
            contiguous uint8 RGB.
        """
        side = self.patch * self.scale
        lr = np.empty((count, 3, self.patch, self.patch), np.uint8)
        hr = np.empty((count, 3, side, side), np.uint8)
        for slot in range(count):
            choice = self.choose(first + slot)
            pair = self.pairs[choice.photo]
            crop, _ = self._low(first + slot, choice)
            lr[slot] = _turned(crop, choice.turn)
            whole = _reordered(_cut(pair.hr, choice, side, self.scale), choice.order)
            hr[slot] = _turned(whole, choice.turn)
        return {"lr": torch.from_numpy(lr), "hr": torch.from_numpy(hr)}

    def recipe(self, k: int) -> Recipe:
        """What sample ``k`` undergoes between its high and its low resolution."""
        return self._low(k, self.choose(k))[1]

    def _low(self, k: int, choice: Choice) -> tuple[npt.NDArray[np.uint8], Recipe]:
        """The LR patch of sample ``k``, not yet turned, and how it was made."""
        pair, patch = self.pairs[choice.photo], self.patch
        plain = _reordered(_cut(pair.lr, choice, patch, 1), choice.order)
        if self.degradation is None:
            return plain, Recipe(())
        random = np.random.Generator(np.random.Philox(key=self.seed, counter=[0, k, _MIXED, 0]))
        # The photo around the patch takes part, as far as there is some.
        margin, scale = self.degradation.margin, self.scale
        height, width = pair.lr.shape[1:]
        top, left = max(0, choice.top - margin), max(0, choice.left - margin)
        bottom = min(height, choice.top + patch + margin)
        right = min(width, choice.left + patch + margin)
        recipe = self.degradation.draw(random, bottom - top, right - left)
        if not recipe.steps:
            return plain, recipe
        around = pair.hr[:, top * scale : bottom * scale, left * scale : right * scale]
        mixed = self.degradation.follow(recipe, _reordered(around, choice.order), random)
        down, across = choice.top - top, choice.left - left
        return mixed[:, down : down + patch, across : across + patch], recipe


def _unit(raw: int) -> float:
    """A raw number of the generator as one of [0, 1)."""
    return (raw >> 11) * 2.0**-53


def _reordered(pixels: npt.NDArray[np.uint8], order: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    return pixels if order == _AS_THEY_ARE else pixels[list(order)]


def _cut(
    pixels: npt.NDArray[np.uint8], choice: Choice, size: int, factor: int
) -> npt.NDArray[np.uint8]:
    top, left = choice.top * factor, choice.left * factor
    return pixels[:, top : top + size, left : left + size]


def degraded_whole(pair: Pair, degradation: Degradation) -> Pair:
    """The photo with a degraded low resolution, which depends on the file's name alone."""
    number = zlib.crc32(pair.path.name.encode())
    random = np.random.Generator(np.random.Philox(key=0, counter=[0, number, _WHOLE, 0]))
    recipe = degradation.draw(random, *pair.lr.shape[1:])
    if not recipe.steps:
        return pair
    return replace(pair, lr=degradation.follow(recipe, pair.hr, random))


def _turned(pixels: npt.NDArray[np.uint8], turn: int) -> npt.NDArray[np.uint8]:
    if turn & 1:
        pixels = pixels[:, :, ::-1]
    if turn & 2:
        pixels = pixels[:, ::-1]
    return pixels.transpose(0, 2, 1) if turn & 4 else pixels


class TrainingBatches(Dataset[dict[str, Tensor]]):
    """Batch i of one process of a run, for every i: it has no end.

    Args:
        rule: makes the samples.
        batch_size: samples of a batch of one process.
        rank: number of this process.
        world_size: how many processes share the run.
    """

    def __init__(
        self, rule: SampleRule, batch_size: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.rule = rule
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        first = (index * self.world_size + self.rank) * self.batch_size
        return self.rule.batch(first, self.batch_size)


class WholePictures(Dataset[dict[str, Tensor | list[str]]]):
    """Whole photos, each a batch of one with its name."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = list(pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor | list[str]]:
        return as_batch(self.pairs[index])
