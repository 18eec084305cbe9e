"""From folders of photos to pairs of high and low resolution in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adapool_sr.files.errors import ConfigError, MissingFileError
from adapool_sr.imaging.metrics import modcrop
from adapool_sr.imaging.resize import imresize
from adapool_sr.io.images import read_rgb8
from adapool_sr.io.listing import list_images

__all__ = ["Pair", "as_batch", "find_images", "load_pair", "load_pairs", "matches"]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Pair:
    """A photo in both resolutions.

    Attributes:
        path: the file it came from.
        lr: ``(3, h, w)`` uint8 RGB, MATLAB's bicubic shrink of ``hr``.
        hr: ``(3, scale·h, scale·w)`` uint8 RGB.
        grown: whether the photo was too small and was mirrored out at its edges.
    """

    path: Path
    lr: Pixels
    hr: Pixels
    grown: bool = False

    @property
    def name(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    @property
    def megapixels(self) -> float:
        """Size of the high resolution."""
        return int(self.hr.shape[1]) * int(self.hr.shape[2]) / 1e6


def matches(path: Path, patterns: Sequence[str]) -> bool:
    """Whether a file's name, or its whole path, fits one of the shell patterns."""
    return any(fnmatchcase(path.name, p) or fnmatchcase(path.as_posix(), p) for p in patterns)


def find_images(
    roots: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], holdout: Sequence[str] = ()
) -> tuple[list[Path], int]:
    """List the pictures of one or several folders, sub-folders included, each file once.

    Args:
        roots: a folder or several.
        holdout: shell patterns of file names (or whole paths) to leave out.

    Returns:
        The files, folder after folder in natural order, and how many were left out.

    Raises:
        MissingFileError: a folder does not exist or holds no pictures.
        UsageError: a root is a file.
        ConfigError: no root was given, or the patterns leave nothing.
    """
    folders = [Path(roots)] if isinstance(roots, str | os.PathLike) else [Path(r) for r in roots]
    if not folders:
        raise ConfigError("data.root", "is an empty list", "name at least one folder of photos")
    found: dict[Path, Path] = {}
    for folder in folders:
        inside = list_images(folder)
        if not inside:
            raise MissingFileError(
                str(folder), "holds no pictures", "give a folder of png, jpg, webp … files"
            )
        for path in inside:
            found.setdefault(path.resolve(), path)
    kept = [path for path in found.values() if not matches(path, holdout)]
    if not kept:
        names = ", ".join(map(str, folders))
        raise ConfigError(
            "data.holdout", f"leaves out all {len(found)} pictures of {names}", "name fewer"
        )
    return kept, len(found) - len(kept)


def load_pair(path: Path, scale: int, least: int = 1, shrink: float = 1.0) -> Pair:
    """Read a photo, crop it to a multiple of the scale and shrink it.

    Args:
        path: the picture's file.
        scale: how much smaller the low resolution is.
        least: pixels that each side of the high resolution must have; smaller photos are
            mirrored out at the bottom and right.
        shrink: factor up to 1 that makes the photo itself smaller first, by the exact bicubic.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is no picture, or damaged.
    """
    hr = read_rgb8(path)
    if shrink < 1:
        hr = imresize(hr, shrink)
    least = max(least, scale)
    short = max(0, least - hr.shape[1]), max(0, least - hr.shape[2])
    if any(short):
        grown = np.pad(hr.numpy(), ((0, 0), (0, short[0]), (0, short[1])), mode="symmetric")
        hr = torch.from_numpy(grown)
    hr = modcrop(hr, scale).contiguous()
    return Pair(path, imresize(hr, 1 / scale).numpy(), hr.numpy(), grown=any(short))


def load_pairs(
    paths: Sequence[Path], scale: int, least: int = 1, shrink: float = 1.0
) -> list[Pair]:
    """Read many photos at once, as :func:`load_pair` does, a thread a processor.

    Raises:
        MissingFileError: a file is not there.
        UnreadableFileError: a file is no picture, or damaged.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with ThreadPoolExecutor(min(count or 1, 16)) as pool:
        jobs = [pool.submit(load_pair, path, scale, least, shrink) for path in paths]
        try:
            return [job.result() for job in jobs]
        except BaseException:  # one bad file, or Ctrl-C: don't read the other thousands first
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def as_batch(pair: Pair) -> dict[str, Tensor | list[str]]:
    """A whole photo as a batch of one: ``lr`` and ``hr`` (1, 3, …) uint8, ``name`` a list."""
    return {
        "lr": torch.from_numpy(pair.lr)[None],
        "hr": torch.from_numpy(pair.hr)[None],
        "name": [pair.name],
    }
