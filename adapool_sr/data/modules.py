"""The Lightning data module of super-resolution."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler

from adapool_sr.data.degrade import Degradation
from adapool_sr.data.degrade_settings import parse_degradation
from adapool_sr.data.folders import (
    Roots,
    find_images,
    find_lr,
    label_of,
    official_validation,
    refuse_evaluation_pictures,
)
from adapool_sr.data.images import Pair, Source, matches, read_all
from adapool_sr.data.pairs import SampleRule, TrainingBatches, WholePictures, degraded_whole
from adapool_sr.data.store import open_stored, worth_storing
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

    Photos are read once, as 8-bit RGB, and kept in memory or, where they are many, in a store that
    is mapped into it (:mod:`adapool_sr.data.store`). Their low resolution is MATLAB's bicubic
    shrink, or given (``lr_root``), or made anew for each sample (``degradation``). Batches are
    ``{"lr": (B, 3, p/scale, p/scale), "hr": (B, 3, p, p)}``, contiguous uint8, without end: a run
    counts iterations. Sample k is a pure function of (seed, k), whatever the number of workers or
    processes, and a resumed run goes on at ``trainer.global_step``. The validation loader gives
    whole photos, one a batch, with ``name`` (a list of one).

    Args:
        root: folder of high-resolution photos (png, jpg, webp …), sub-folders included; or a list
            of folders. ``NAME=DIR`` takes the official training part of DIV2K, Flickr2K, BSDS500,
            BSDS200 or T91.
        scale: how much larger than the low resolution the high one is; 1 for equal sizes, which a
            degradation then tells apart.
        patch_size: side of a training patch in pixels of the high resolution; a multiple of scale.
            Smaller photos are mirrored out to it.
        batch_size: patches of a batch, in each process.
        workers: processes that cut patches; 0 cuts them in the training process, which takes about
            a millisecond a batch (bicubic) or a sample (second order).
        holdout: shell patterns of file names, such as "budgie_*", that are kept out altogether.
        val: folder of validation photos, or a list of folders; by default the official part of
            named sets, else some of root's photos are taken out of training for it.
        val_every: one of so many of root's photos is for validation, at least one.
        max_val: most photos to validate on.
        weights: pattern of file names (or of whole paths) to a factor by which its pixels are seen
            more often than others'; the first that fits counts, 1 where none does.
        shrinks: factors below 1, such as 0.5: the training photos are also seen shrunk by each,
            which makes soft ones sharp and brings more edges to a patch. Copies smaller than a
            patch are left out.
        augment: flip and turn patches in all eight ways.
        channel_shuffle: chance, 0 to 1, that a patch has its colours changed for one another (one
            of the six orders of its channels, both resolutions alike), which makes more of few
            photos (RGB permutation, Yoo et al. 2020).
        seed: of the samples; by default seed_everything's, or 0 where that wasn't called.
        lr_root: folder of the low resolutions, one for each root, which have the photos' paths and
            stems, perhaps with x2 behind (0001x2.png); ``NAME=DIR`` for the published ones of a
            set. Each is its photo's size by the scale; what is left over is cut off the photo.
        val_lr_root: the same for val.
        degradation: "bicubic", or what makes low resolutions that look like ordinary photos:
            "second_order" or a mapping, ``{kind: second_order, jpeg: {quality: [30, 95]}, …}``,
            of :class:`~adapool_sr.data.degrade_settings.SecondOrder`. Validation photos are
            degraded too, each always alike.
        store: whether photos are mapped from a store in the cache, made on first use; "auto" does
            so where their files make 8 MB or more.
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
        channel_shuffle: float = 0.0,
        seed: int | None = None,
        lr_root: str | list[str] | None = None,
        val_lr_root: str | list[str] | None = None,
        degradation: dict[str, Any] | str = "bicubic",
        store: Literal["auto", "always", "never"] = "auto",
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
        self.channel_shuffle = channel_shuffle
        self.seed = seed
        self.lr_root = lr_root
        self.val_lr_root = val_lr_root
        self.degradation = degradation
        self.store = store
        self._check()
        settings = parse_degradation(degradation)
        self._degradation = None if settings is None else Degradation(settings, scale)
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
        if self.seed is not None and not 0 <= self.seed < 2**64:
            raise ConfigError("data.seed", f"must be 0 to 2**64 - 1, got {self.seed}")
        if not 0 <= self.channel_shuffle <= 1:
            raise ConfigError(
                "data.channel_shuffle", f"must lie between 0 and 1, got {self.channel_shuffle}"
            )
        self._check_lr()
        for shrink in self.shrinks:
            if not 0 < shrink < 1:
                raise ConfigError("data.shrinks", f"must lie between 0 and 1, got {shrink}")
        for pattern, factor in self.weights.items():
            if not 0 < factor < float("inf"):
                remedy = "to leave photos out use data.holdout"
                raise ConfigError(
                    f"data.weights.{pattern}", f"must be above 0, got {factor}", remedy
                )

    def _check_lr(self) -> None:
        """Refuse what contradicts low resolutions that are given."""
        if self.lr_root is None:
            if self.val_lr_root is not None:
                raise ConfigError("data.val_lr_root", "needs data.lr_root", "set both")
            return
        if self.degradation != "bicubic":
            raise ConfigError(
                "data.degradation", "makes LR that data.lr_root gives", "set one of the two"
            )
        if self.shrinks:
            raise ConfigError("data.shrinks", "can't shrink given LR", "leave out data.lr_root")
        if (self.val is None) != (self.val_lr_root is None):
            raise ConfigError("data.val_lr_root", "goes with data.val and data.lr_root", "set all")

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
            UnreadableFileError: a file in it is no picture, or damaged, or an LR of another size.
            ConfigError: the holdout leaves nothing, or pictures would train that only measure.
        """
        if self._train:
            return
        paths, left_out = find_images(self.root, self.holdout)
        val, val_lr_root = self.val, self.val_lr_root
        if val is None and (official := official_validation(self.root)):
            val = [str(root) for root in official]
            val_lr_root = None if self.lr_root is None else val
        # What SSIM's window needs inside the borders, as a multiple of the scale.
        least = -(-(SSIM_WINDOW + 2 * self.scale) // self.scale) * self.scale
        train = paths
        if val is not None:
            chosen = _spread(find_images(val, validation=True)[0], self.max_val)
            validating = self._sources(chosen, least, val, val_lr_root, validation=True)
        else:
            chosen = _spread(paths, max(1, min(self.max_val, len(paths) // self.val_every)))
            validating = self._sources(chosen, least, self.root, self.lr_root)
            taken = set(chosen)
            train = [path for path in paths if path not in taken] or paths
        refuse_evaluation_pictures(train)
        sources = self._sources(train, self.patch_size, self.root, self.lr_root)
        whole = len(sources)
        for shrink in self.shrinks:
            sources += [replace(source, shrink=shrink) for source in sources[:whole]]
        self._val = list(read_all(validating))
        if self._degradation is not None:
            self._val = [degraded_whole(pair, self._degradation) for pair in self._val]
        if self.store == "always" or (self.store == "auto" and worth_storing(sources)):
            loaded, where = open_stored(sources)
        else:
            loaded, where = list(read_all(sources)), ""
        self._train = loaded[:whole] + [pair for pair in loaded[whole:] if not pair.grown]
        self._announce(left_out, train is paths and val is None, where)

    def _sources(
        self,
        paths: Sequence[Path],
        least: int,
        roots: Roots,
        lr_roots: Roots | None,
        validation: bool = False,
    ) -> list[Source]:
        """What to read for each photo of the roots, with its low resolution if that is given."""
        lows: Sequence[Path | None] = [None] * len(paths)
        if lr_roots is not None:
            lows = find_lr(paths, roots, lr_roots, self.scale, validation)
        return [
            Source(path, self.scale, least, 1.0, low, label_of(path, roots))
            for path, low in zip(paths, lows, strict=True)
        ]

    def _announce(self, left_out: int, shared: bool, where: str) -> None:
        pixels = sum(pair.megapixels for pair in self._train)
        grown = sum(pair.grown for pair in self._train)
        words = [f"{len(self.training_names)} photos ({pixels:.1f} MP) to train"]
        words += [f"{len(self._val)} to validate, {left_out} held out"]
        if grown:
            words += [f"{grown} smaller than {self.patch_size} pixels, mirrored out to it"]
        if shared:
            words += ["the only photo serves for both: its PSNR says nothing of other photos"]
        if where:
            words += [where]
        rank_zero_info("data: " + "; ".join(words))

    def _seed(self) -> int:
        if self.seed is not None:
            return self.seed
        return int(os.environ.get("PL_GLOBAL_SEED", "0"))

    def _batches_done(self) -> int:
        if self.trainer is None:
            return 0
        return self.trainer.global_step * self.trainer.accumulate_grad_batches

    def sample_rule(self) -> SampleRule:
        """What gives the samples, once :meth:`setup` has read the photos."""
        patterns = self.weights.items()
        weights = [
            next((factor for pattern, factor in patterns if matches(pair.path, [pattern])), 1.0)
            for pair in self._train
        ]
        patch = self.patch_size // self.scale
        return SampleRule(
            self._train,
            patch,
            self._seed(),
            weights,
            self.augment,
            self._degradation,
            self.channel_shuffle,
        )

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        """Endless batches of patches, from where the run stands."""
        rule = self.sample_rule()
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
            worker_init_fn=_one_thread,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[dict[str, Tensor | list[str]]]:
        """Whole validation photos, one a batch."""
        return DataLoader(WholePictures(self._val), batch_size=None)


def _one_thread(_: int) -> None:
    """Keep OpenCV from starting threads in a worker: they would take the training's cores."""
    import cv2

    cv2.setNumThreads(0)


def _spread(paths: Sequence[Path], count: int) -> list[Path]:
    """At most ``count`` of the files, spread evenly over the list."""
    count = min(count, len(paths))
    return [paths[(2 * k + 1) * len(paths) // (2 * count)] for k in range(count)]
