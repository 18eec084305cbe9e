"""The pictures of the slider: before (exact bicubic) and after, of one size.

A browser shows small results whole. Of larger ones it gets a reduced picture, and the true
pixels in pieces, of which it loads those in view.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from adapool_sr.imaging.resize import imresize
from adapool_sr.io.decoding import decode

__all__ = ["PIECE", "WHOLE", "Comparison", "compare"]

#: A result up to this side is shown whole, in its true pixels.
WHOLE = 2048
#: Side of the pieces of a larger one.
PIECE = 1024
_REDUCED = 2560  # side of what stands for a larger one while it is not at 1:1
_LEVEL = 1  # of PNG: these files travel no further than the browser

_Pixels = NDArray[Any]


@dataclass(frozen=True)
class Comparison:
    """Two pictures to lay over each other; files are in one folder.

    Attributes:
        width: pixels of the result in a row.
        height: pixels of the result in a column.
        before: file name of the enlarged input, whole or reduced.
        after: file name of the result, whole or reduced.
        pieces: side of the pieces ``before-ROW-COLUMN.png`` and ``after-ROW-COLUMN.png``
            with the true pixels; 0 where the pictures themselves have them.
    """

    width: int
    height: int
    before: str
    after: str
    pieces: int


def compare(
    source: Path, result: Path, folder: Path, max_pixels: int, check: Callable[[], None]
) -> Comparison:
    """Make the pictures for the slider.

    Args:
        source: the input file.
        result: the result's file.
        folder: where the pictures go.
        max_pixels: guard of the input, as for :func:`adapool_sr.io.read`.
        check: called between the steps; raises where they should end.

    Raises:
        UnreadableFileError: one of the files cannot be read.
    """
    decoded = decode(result, 2**62)
    height, width = decoded.pixels.shape[:2]
    after = _store(_bytes(decoded.pixels), decoded.metadata.icc, folder, "after", check)
    del decoded
    check()
    decoded = decode(source, max_pixels)
    pixels = _bytes(decoded.pixels)
    planes = [imresize(torch.from_numpy(plane), size=(height, width)) for plane in _planes(pixels)]
    check()
    enlarged = torch.stack(planes, dim=2).numpy()
    before = _store(enlarged, decoded.metadata.icc, folder, "before", check)
    pieces = PIECE if max(height, width) > WHOLE else 0
    return Comparison(width, height, before, after, pieces)


def _bytes(pixels: _Pixels) -> _Pixels:
    """(H, W, C) uint8 or uint16 as uint8."""
    if pixels.dtype == np.uint8:
        return pixels
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _planes(pixels: _Pixels) -> list[_Pixels]:
    return [np.array(pixels[:, :, index], order="C") for index in range(pixels.shape[2])]


def _store(pixels: _Pixels, icc: bytes, folder: Path, name: str, check: Callable[[], None]) -> str:
    """Save an (H, W, C) uint8 picture as the slider needs it; give the main file's name."""
    height, width, channels = pixels.shape
    fits = icc[16:20] == (b"GRAY" if channels <= 2 else b"RGB ")
    profile: dict[str, Any] = {"icc_profile": icc} if fits else {}
    if max(height, width) <= WHOLE:
        _image(pixels).save(folder / f"{name}.png", compress_level=_LEVEL, **profile)
        return f"{name}.png"
    for row, top in enumerate(range(0, height, PIECE)):
        check()
        for column, left in enumerate(range(0, width, PIECE)):
            piece = np.ascontiguousarray(pixels[top : top + PIECE, left : left + PIECE])
            path = folder / f"{name}-{row}-{column}.png"
            _image(piece).save(path, compress_level=_LEVEL, **profile)
    image = _image(pixels)
    image.thumbnail((_REDUCED, _REDUCED), Image.Resampling.BOX, reducing_gap=2.0)
    if image.mode in ("L", "RGB"):
        image.save(folder / f"{name}.jpg", quality=92, subsampling="4:4:4", **profile)
        return f"{name}.jpg"
    image.save(folder / f"{name}.png", compress_level=_LEVEL, **profile)
    return f"{name}.png"


def _image(pixels: _Pixels) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
