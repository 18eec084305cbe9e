"""From files of photos to pairs of high and low resolution in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from adapool_sr.files.errors import MissingFileError, UnreadableFileError
from adapool_sr.imaging.metrics import modcrop
from adapool_sr.imaging.resize import imresize
from adapool_sr.io.images import read_rgb8

__all__ = [
    "Pair",
    "Source",
    "as_batch",
    "load_pair",
    "load_pairs",
    "matches",
    "read_all",
    "size_of",
]

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Pair:
    """A photo in both resolutions.

    Attributes:
        path: the file it came from.
        lr: ``(3, h, w)`` uint8 RGB: MATLAB's bicubic shrink of ``hr``, or the given one.
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


@dataclass(frozen=True)
class Source:
    """Where a pair comes from: everything that its pixels depend on.

    Attributes:
        path: the photo's file.
        scale: how much smaller the low resolution is.
        least: pixels that each side of the high resolution must have; smaller photos are
            mirrored out at the bottom and right.
        shrink: factor up to 1 that makes the photo itself smaller first, by the exact bicubic.
        lr_path: the file of the low resolution, where it is given and not made.
        label: name of the set, for errors.
    """

    path: Path
    scale: int
    least: int = 1
    shrink: float = 1.0
    lr_path: Path | None = None
    label: str = ""

    def read(self) -> Pair:
        """Read the photo, crop it to a multiple of the scale and shrink it, or read its LR.

        Raises:
            MissingFileError: a file is not there.
            UnreadableFileError: it is no picture, or damaged; or the LR has not the right size.
        """
        try:
            return self._read()
        except (MissingFileError, UnreadableFileError) as error:
            if not self.label:
                raise
            what = f"{self.label}: {error.what}"
            raise type(error)(what, error.why, error.remedy) from error

    def _read(self) -> Pair:
        hr, scale = read_rgb8(self.path), self.scale
        lr = None if self.lr_path is None else self._read_lr(hr)
        if self.shrink < 1:
            hr = imresize(hr, self.shrink)
        hr = modcrop(hr, scale) if lr is not None else hr
        least = max(self.least, scale)
        if lr is not None:
            least = -(-least // scale) * scale
        hr, grown = _grown(hr, least)
        hr = modcrop(hr, scale).contiguous()
        if lr is None:
            lr = imresize(hr, 1 / scale) if scale > 1 else hr
        else:
            lr, _ = _grown(lr, least // scale)
        return Pair(self.path, lr.numpy(), hr.numpy(), grown)

    def _read_lr(self, hr: Tensor) -> Tensor:
        """The given low resolution: HR's size by the scale, what is left over cut off HR."""
        lr = read_rgb8(self.lr_path or self.path)
        wanted = [int(side) // self.scale for side in hr.shape[1:]]
        if list(lr.shape[1:]) != wanted:
            got, need = (f"{side[1]}x{side[0]}" for side in (lr.shape[1:], wanted))
            whole = f"{hr.shape[2]}x{hr.shape[1]}"
            why = f"is {got}, but {self.path.name} of {whole} asks for {need} at x{self.scale}"
            raise UnreadableFileError(str(self.lr_path), why, "check data.scale and data.lr_root")
        return lr


def _grown(pixels: Tensor, least: int) -> tuple[Tensor, bool]:
    """Mirror a picture out at the bottom and right until both sides have ``least`` pixels."""
    short = max(0, least - pixels.shape[1]), max(0, least - pixels.shape[2])
    if not any(short):
        return pixels, False
    grown = np.pad(pixels.numpy(), ((0, 0), (0, short[0]), (0, short[1])), mode="symmetric")
    return torch.from_numpy(grown), True


def size_of(path: Path) -> tuple[int, int]:
    """(width, height) of a picture's file, from its header alone.

    Raises:
        UnreadableFileError: it is no picture.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError) as error:
        raise UnreadableFileError(str(path), "is no picture that can be read") from error


def load_pair(path: Path, scale: int, least: int = 1, shrink: float = 1.0) -> Pair:
    """Read a photo and shrink it; for arguments and errors see :class:`Source`."""
    return Source(path, scale, least, shrink).read()


def load_pairs(
    paths: Sequence[Path], scale: int, least: int = 1, shrink: float = 1.0
) -> list[Pair]:
    """Read many photos at once, as :func:`load_pair` does, a thread a processor."""
    return list(read_all([Source(path, scale, least, shrink) for path in paths]))


def read_all(sources: Sequence[Source]) -> Generator[Pair, None, None]:
    """Read pairs in their order, a thread a processor, few ahead of what is taken.

    Raises:
        MissingFileError: a file is not there.
        UnreadableFileError: a file is no picture, or damaged, or an LR of another size.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(count or 1, 16)
    waiting: deque[Future[Pair]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for source in sources:
            waiting.append(pool.submit(source.read))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # one bad file, or Ctrl-C: end what is being read, don't read the others first
        pool.shutdown(cancel_futures=True)


def as_batch(pair: Pair) -> dict[str, Tensor | list[str]]:
    """A whole photo as a batch of one: ``lr`` and ``hr`` (1, 3, …) uint8, ``name`` a list."""
    return {
        "lr": torch.from_numpy(pair.lr)[None],
        "hr": torch.from_numpy(pair.hr)[None],
        "name": [pair.name],
    }
