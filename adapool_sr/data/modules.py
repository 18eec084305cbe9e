"""The Lightning data module of super-resolution."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from adapool_sr.data.images import Pair, find_images, load_pairs, matches
from adapool_sr.data.pairs import SampleRule, TrainingBatches, WholePictures
from adapool_sr.files.errors import ConfigError
from adapool_sr.imaging.metrics import SSIM_WINDOW

__all__ = ["SRDataModule"]


class _BatchNumbers(DistributedSampler[int]):
    """Counts batches for ever, from where the run stands whenever it is asked anew.

    It calls itself a DistributedSampler only because Lightning replaces any other sampler when
    several processes train; the batches themselves know their process.
    """

    def __init__(self, start: Callable[[], int]) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start())

    def __len__(self) -> int:
        raise TypeError("a run has no end of its own: give trainer.max_steps")


class SRDataModule(L.LightningDataModule):
    """Pairs of low and high resolution from folders of photos.

    Photos are read once and kept in memory as 8-bit RGB; their low resolution is MATLAB's bicubic
    shrink. Batches are ``{"lr": (B, 3, p/scale, p/scale), "hr": (B, 3, p, p)}``, contiguous uint8,
    without end: a run counts iterations. Sample k is a pure function of (seed, k), whatever the
    number of workers or processes, and a resumed run goes on at ``trainer.global_step``. The
    validation loader gives whole photos, one a batch, with ``name`` (a list of one).

    Args:
        root: folder of high-resolution photos (png, jpg, webp …), sub-folders included; or a list
            of folders.
        scale: how much larger than the low resolution the high one is.
        patch_size: side of a training patch in pixels of the high resolution; a multiple of scale.
            Smaller photos are mirrored out to it.
        batch_size: patches of a batch, in each process.
        workers: processes that cut patches; 0 cuts them in the training process, which takes about
            a millisecond a batch.
        holdout: shell patterns of file names, such as "budgie_*", that are kept out altogether.
        val: folder of validation photos, or a list of folders; by default some of root's photos
            are taken out of training for it.
        val_every: one of so many of root's photos is for validation, at least one.
        max_val: most photos to validate on.
        weights: pattern of file names (or of whole paths) to a factor by which its pixels are seen
            more often than others'; the first that fits counts, 1 where none does.
        shrinks: factors below 1, such as 0.5: the training photos are also seen shrunk by each,
            which makes soft ones sharp and brings more edges to a patch. Copies smaller than a
            patch are left out.
        augment: flip and turn patches in all eight ways.
        seed: of the samples; by default seed_everything's, or 0 where that wasn't called.
    """

    def __init__(
        self,
        root: str | list[str],
        scale: int = 2,
        patch_size: int = 96,
        batch_size: int = 16,
        workers: int = 0,
        holdout: list[str] | None = None,
        val: str | list[str] | None = None,
        val_every: int = 50,
        max_val: int = 20,
        weights: dict[str, float] | None = None,
        shrinks: list[float] | None = None,
        augment: bool = True,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.root = root
        self.scale = scale
        self.patch_size = patch_size
        self.batch_size = batch_size
        self.workers = workers
        self.holdout = list(holdout or ())
        self.val = val
        self.val_every = val_every
        self.max_val = max_val
        self.weights = dict(weights or {})
        self.shrinks = list(shrinks or ())
        self.augment = augment
        self.seed = seed
        self._check()
        self._train: list[Pair] = []
        self._val: list[Pair] = []

    def _check(self) -> None:
        """Refuse impossible values, by the names that a configuration has for them."""
        for name in ("scale", "batch_size", "val_every", "max_val"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"data.{name}", f"must be at least 1, got {value}")
        if self.workers < 0:
            raise ConfigError("data.workers", f"must be 0 or more, got {self.workers}")
        if self.patch_size < 1 or self.patch_size % self.scale:
            why = f"must be a multiple of the scale {self.scale}, got {self.patch_size}"
            remedy = f"use {max(1, self.patch_size // self.scale) * self.scale}"
            raise ConfigError("data.patch_size", why, remedy)
        for shrink in self.shrinks:
            if not 0 < shrink < 1:
                raise ConfigError("data.shrinks", f"must lie between 0 and 1, got {shrink}")
        for pattern, factor in self.weights.items():
            if not 0 < factor < float("inf"):
                remedy = "to leave photos out use data.holdout"
                raise ConfigError(
                    f"data.weights.{pattern}", f"must be above 0, got {factor}", remedy
                )

    @property
    def training_names(self) -> list[str]:
        """File names of the photos that train, once :meth:`setup` has read them."""
        return [path.name for path in dict.fromkeys(pair.path for pair in self._train)]

    @property
    def validation_names(self) -> list[str]:
        """File names of the photos that validate, once :meth:`setup` has read them."""
        return [pair.path.name for pair in self._val]

    def setup(self, stage: str | None = None) -> None:
        """Read all photos, once.

        Raises:
            MissingFileError: a folder does not exist or is empty.
            UnreadableFileError: a file in it is no picture, or damaged.
            ConfigError: the holdout leaves nothing.
        """
        if self._train:
            return
        paths, left_out = find_images(self.root, self.holdout)
        if self.val is not None:
            chosen = _spread(find_images(self.val)[0], self.max_val)
            train = paths
        else:
            chosen = _spread(paths, max(1, min(self.max_val, len(paths) // self.val_every)))
            taken = set(chosen)
            train = [path for path in paths if path not in taken] or paths
        # What SSIM's window needs inside the borders, as a multiple of the scale.
        least = -(-(SSIM_WINDOW + 2 * self.scale) // self.scale) * self.scale
        self._val = load_pairs(chosen, self.scale, least)
        self._train = load_pairs(train, self.scale, self.patch_size)
        for shrink in self.shrinks:
            copies = load_pairs(train, self.scale, self.patch_size, shrink)
            self._train += [pair for pair in copies if not pair.grown]
        self._announce(left_out, shared=train is paths and self.val is None)

    def _announce(self, left_out: int, shared: bool) -> None:
        pixels = sum(pair.megapixels for pair in self._train)
        grown = sum(pair.grown for pair in self._train)
        words = [f"{len(self.training_names)} photos ({pixels:.1f} MP) to train"]
        words += [f"{len(self._val)} to validate, {left_out} held out"]
        if grown:
            words += [f"{grown} smaller than {self.patch_size} pixels, mirrored out to it"]
        if shared:
            words += ["the only photo serves for both: its PSNR says nothing of other photos"]
        rank_zero_info("data: " + "; ".join(words))

    def _seed(self) -> int:
        if self.seed is not None:
            return self.seed
        return int(os.environ.get("PL_GLOBAL_SEED", "0"))

    def _batches_done(self) -> int:
        if self.trainer is None:
            return 0
        return self.trainer.global_step * self.trainer.accumulate_grad_batches

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Endless batches of patches, from where the run stands."""
        patterns = self.weights.items()
        weights = [
            next((factor for pattern, factor in patterns if matches(pair.path, [pattern])), 1.0)
            for pair in self._train
        ]
        patch = self.patch_size // self.scale
        rule = SampleRule(self._train, patch, self._seed(), weights, self.augment)
        rank, world = 0, 1
        if self.trainer is not None:
            rank, world = self.trainer.global_rank, self.trainer.world_size
        # Neither of Lightning's warnings holds: cutting a batch is cheaper than moving it between
        # processes, and a run resumed within an epoch goes on with the right samples.
        for untrue in (".*does not have many workers.*", ".*your dataloader is not resumable.*"):
            warnings.filterwarnings("ignore", untrue)
        return DataLoader(
            TrainingBatches(rule, self.batch_size, rank, world),
            batch_size=None,
            sampler=_BatchNumbers(self._batches_done),
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[dict[str, Tensor | list[str]]]:
        """Whole validation photos, one a batch."""
        return DataLoader(WholePictures(self._val), batch_size=None)


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """At most ``count`` of the files, spread evenly over the list."""
    count = min(count, len(paths))
    return [paths[(2 * k + 1) * len(paths) // (2 * count)] for k in range(count)]
