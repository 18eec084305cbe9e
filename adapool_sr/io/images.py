"""Still pictures: files to float tensors, and back with one rounding.

``read`` gives a :class:`Picture`; ``write`` puts one away whole or not at all. In between a
picture is float32 0..1, RGB or one grey channel, with its alpha beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adapool_sr.files.errors import UsageError
from adapool_sr.files.writing import write_whole
from adapool_sr.io.decoding import Decoded, Pixels, decode
from adapool_sr.io.encoding import DEEP, LARGEST_SIDE, OPAQUE, encode
from adapool_sr.io.listing import DEFAULT_MAX_PIXELS, LOSSY, WRITTEN, format_of, list_images
from adapool_sr.io.metadata import Metadata

__all__ = [
    "Picture",
    "check_format",
    "fitted",
    "from_array",
    "list_images",
    "quantise",
    "read",
    "read_rgb8",
    "to_array",
    "to_bytes",
    "write",
]


_NOTHING = Metadata()


@dataclass(frozen=True, eq=False)
class Picture:
    """A still picture.

    Attributes:
        pixels: (3, H, W) RGB or (1, H, W) grey; float32 in 0..1 as read, or uint8 / uint16
            over the whole range once it is quantised.
        alpha: (1, H, W) of the same dtype, 1 (or the largest integer) opaque; or None.
        bit_depth: 8 or 16, of the file it came from and of the file it becomes.
        metadata: EXIF, profile and the rest.
        format: the format of the file it came from, as in "png", "jpeg"; "" if from none.
        lossless: whether that file held exactly these pixels.
        lost: a sentence for each thing of it that could not be read.
    """

    pixels: Tensor
    alpha: Tensor | None = None
    bit_depth: int = 8
    metadata: Metadata = _NOTHING
    format: str = ""
    lossless: bool = True
    lost: tuple[str, ...] = ()

    @property
    def grey(self) -> bool:
        """Whether it has one channel."""
        return self.pixels.shape[0] == 1

    @property
    def width(self) -> int:
        """Pixels in a row."""
        return self.pixels.shape[2]

    @property
    def height(self) -> int:
        """Pixels in a column."""
        return self.pixels.shape[1]


def quantise(x: Tensor, bit_depth: int = 8) -> Tensor:
    """Round 0..1 to integers, half up, after clamping; such integers pass through.

    Args:
        x: tensor of any shape: finite floats, or uint8 or uint16 over the whole range.
        bit_depth: 8 for uint8 in 0..255, 16 for uint16 in 0..65535.
    """
    if not x.is_floating_point():
        if x.dtype == (torch.uint8 if bit_depth == 8 else torch.uint16):
            return x
        x = x.float() / torch.iinfo(x.dtype).max
    top = (1 << bit_depth) - 1
    y = (x.float() * top).add_(0.5).floor_().clamp_(0, top)
    # torch has no float → uint16 kernel everywhere; int32 holds all its values.
    return y.to(torch.uint8) if bit_depth == 8 else y.to(torch.int32).to(torch.uint16)


def from_array(pixels: Pixels) -> Picture:
    """Make a picture of an (H, W, C) array: C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.

    Args:
        pixels: uint8 or uint16 over the whole range, or float in 0..1.

    Raises:
        ValueError: another shape, or an empty one.
        TypeError: another dtype.
    """
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 2, 3, 4) or pixels.size == 0:
        raise ValueError(f"a picture is (H, W, 1..4) and not empty, got shape {pixels.shape}")
    planes = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32, order="C"))
    if pixels.dtype in (np.uint8, np.uint16):
        planes /= float(np.iinfo(pixels.dtype).max)
    elif not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(f"a picture is uint8, uint16 or float, got {pixels.dtype}")
    colours = 1 if pixels.shape[2] <= 2 else 3
    return Picture(
        pixels=planes[:colours],
        alpha=planes[colours:] if planes.shape[0] > colours else None,
        bit_depth=8 if pixels.dtype == np.uint8 else 16,
    )


def to_array(picture: Picture) -> Pixels:
    """The picture quantised to its bit depth: (H, W, C) uint8 or uint16, alpha last."""
    planes = [quantise(picture.pixels, picture.bit_depth)]
    if picture.alpha is not None:
        planes.append(quantise(picture.alpha, picture.bit_depth))
    return np.ascontiguousarray(torch.cat(planes).numpy().transpose(1, 2, 0))


def _picture(decoded: Decoded) -> Picture:
    return replace(
        from_array(decoded.pixels),
        metadata=decoded.metadata,
        format=decoded.format,
        lossless=decoded.lossless,
        lost=decoded.lost,
    )


def read(
    source: Path | str | bytes, max_pixels: int = DEFAULT_MAX_PIXELS, name: str = ""
) -> Picture:
    """Read a picture file, turned upright: PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF or PPM.

    HEIC and JPEG XL need the extras ``heic`` and ``jxl``. Grey stays one channel and 16 bits
    stay 16; a palette becomes RGB, with alpha if it has transparent entries; CMYK becomes sRGB
    through its profile.

    Args:
        source: a path, or a file's whole content.
        max_pixels: a picture whose header states more pixels is refused undecoded.
        name: for messages; by default the path, or "standard input".

    Raises:
        MissingFileError: there is no such file.
        MissingExtraError: its format needs an extra that is not installed.
        UnreadableFileError: it is empty, foreign, truncated, damaged, animated or too large.
    """
    return _picture(decode(source, max_pixels, name))


def read_rgb8(path: Path | str, max_pixels: int = DEFAULT_MAX_PIXELS) -> Tensor:
    """Read a picture file as uint8 (3, H, W) RGB in 0..255, turned upright.

    Grey becomes three equal channels, alpha is dropped, 16 bits are rounded to 8.

    Raises:
        MissingFileError: there is no such file.
        MissingExtraError: its format needs an extra that is not installed.
        UnreadableFileError: it is empty, foreign, truncated, damaged, animated or too large.
    """
    pixels = decode(path, max_pixels).pixels
    pixels = pixels[:, :, :1] if pixels.shape[2] <= 2 else pixels[:, :, :3]
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    planes = torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))
    return planes.expand(3, -1, -1).contiguous()


def check_format(picture: Picture, kind: str, width: int, height: int, name: str) -> None:
    """Refuse, before any work, a result that the format cannot hold.

    Args:
        picture: the input.
        kind: "png", "jpg", "webp", "tiff", "bmp" or "avif".
        width: pixels of the result.
        height: pixels of the result.
        name: the output, for the message.

    Raises:
        UsageError: too large a side, or alpha for a JPEG.
    """
    if max(width, height) > LARGEST_SIDE[kind]:
        raise UsageError(
            name,
            f"{width}x{height} is more than the {LARGEST_SIDE[kind]} a side that {kind} holds",
            "use --format png",
        )
    if kind in OPAQUE and picture.alpha is not None and not _opaque(picture.alpha):
        raise UsageError(
            name, "the input is partly transparent, which a JPEG cannot hold", "use png or webp"
        )


def _opaque(alpha: Tensor) -> bool:
    """Whether an alpha plane, float or integer, hides nothing."""
    top = 1 if alpha.is_floating_point() else torch.iinfo(alpha.dtype).max
    return int(alpha.cpu().numpy().min()) == top


def fitted(picture: Picture, kind: str) -> tuple[Picture, list[str]]:
    """The picture with the bit depth that a format holds, and a sentence if that is less.

    A JPEG loses an alpha plane that hides nothing.
    """
    if kind in OPAQUE and picture.alpha is not None and _opaque(picture.alpha):
        picture = replace(picture, alpha=None)
    if picture.bit_depth == 16 and kind not in DEEP:
        return replace(picture, bit_depth=8), [f"16 bits become 8, all that {kind} holds"]
    return picture, []


def to_bytes(picture: Picture, kind: str, quality: int | None = None) -> tuple[bytes, list[str]]:
    """Encode a picture as the content of a file.

    Args:
        picture: float pixels are quantised here; integers are taken as they are.
        kind: "png", "jpg", "webp", "tiff", "bmp" or "avif".
        quality: 1..100 for JPEG, WebP and AVIF. None: JPEG 95 without chroma subsampling; the
            others lossless if the picture came from a lossless file, else 95.

    Returns:
        The content, and a sentence for each thing that the format could not hold.

    Raises:
        UsageError: a result that the format cannot hold.
        UnwritableFileError: the encoder refused.
    """
    check_format(picture, kind, picture.width, picture.height, kind)
    picture, lost = fitted(picture, kind)
    if kind in LOSSY and quality is None and not picture.lossless:
        quality = 95
    content, more = encode(to_array(picture), picture.metadata, kind, quality=quality)
    return content, lost + more


def write(
    picture: Picture, path: Path | str, kind: str | None = None, quality: int | None = None
) -> list[str]:
    """Write a picture whole or not at all; a file of that name is replaced.

    Args:
        picture: float pixels are quantised here, half up after clamping.
        path: where to; its suffix chooses the format if kind is None.
        kind: "png", "jpg", "webp", "tiff", "bmp" or "avif".
        quality: as for :func:`to_bytes`.

    Returns:
        A sentence for each thing that the format could not hold.

    Raises:
        UsageError: a suffix that is not written, or a result that the format cannot hold.
        UnwritableFileError: the file could not be written.
    """
    path = Path(path)
    kind = kind or format_of(path)
    if kind is None:
        raise UsageError(str(path), f"'{path.suffix}' is not written", f"use {WRITTEN}")
    content, lost = to_bytes(picture, kind, quality)
    write_whole(path, content)
    return lost
