"""The low-resolution input that a model is measured on, made from the original."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adapool_sr.files.errors import UsageError
from adapool_sr.imaging.resize import imresize
from adapool_sr.io.encoding import image_of
from adapool_sr.io.images import Picture, read

__all__ = ["CLEAN", "Degradation", "make_input"]


@dataclass(frozen=True)
class Degradation:
    """What happens to a picture after it was made small: noise first, then JPEG.

    Attributes:
        jpeg: the quality it is saved with as JPEG, 1 to 100, 4:2:0 as Pillow's default; None for
            no JPEG.
        noise: standard deviation of Gaussian noise of every value, of 255; 0 for none.

    Raises:
        UsageError: a value that can't be.
    """

    jpeg: int | None = None
    noise: float = 0.0

    def __post_init__(self) -> None:
        if self.jpeg is not None and not 1 <= self.jpeg <= 100:
            raise UsageError("jpeg", f"must be 1 to 100, got {self.jpeg}")
        if not 0 <= self.noise <= 255:
            raise UsageError("noise", f"must be 0 to 255, got {self.noise:g}")

    @property
    def words(self) -> str:
        """For a table's foot; "" where nothing happens."""
        parts = []
        if self.noise:
            parts.append(f"Gaussian noise of sigma {self.noise:g} of 255")
        if self.jpeg is not None:
            parts.append(f"JPEG quality {self.jpeg}, 4:2:0")
        return ", then ".join(parts)


CLEAN = Degradation()


def make_input(hr: Tensor, scale: int, degradation: Degradation = CLEAN, name: str = "") -> Picture:
    """Shrink an original by MATLAB's bicubic and degrade it.

    Args:
        hr: (3, H, W) or (1, H, W) uint8, its sides multiples of the scale.
        scale: a whole number; 1 keeps the size.
        degradation: what happens then.
        name: of the picture: its noise depends on nothing else.

    Returns:
        The picture as ``upscale`` reads it from its file: float32 in 0..1.
    """
    lr = imresize(hr, 1 / scale) if scale > 1 else hr
    if degradation.noise:
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        noise = torch.from_numpy(generator.standard_normal(tuple(lr.shape)))
        lr = (lr + degradation.noise * noise).add_(0.5).floor_().clamp_(0, 255).to(torch.uint8)
    if degradation.jpeg is None:
        return Picture(lr.to(torch.float32) / 255)
    stream = io.BytesIO()
    array = np.ascontiguousarray(lr.numpy().transpose(1, 2, 0))
    image_of(array).save(stream, "JPEG", quality=degradation.jpeg)
    return read(stream.getvalue())
