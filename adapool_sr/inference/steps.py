"""What is done to each picture before and after the network, alone, in a folder or in a book."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from adapool_sr import __version__
from adapool_sr.files.errors import UnwritableFileError
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.images import Picture, check_format, fitted, read, to_bytes
from adapool_sr.io.listing import DEFAULT_MAX_PIXELS
from adapool_sr.io.metadata import Metadata, stripped
from adapool_sr.io.xmp import Made, stamp_xmp

__all__ = ["Options", "encode_result", "read_input"]

_LARGEST_JPEG_XMP = 65533 - 29  # bytes of a JPEG's segment, less its heading


@dataclass(frozen=True)
class Options:
    """How a run reads and writes.

    Attributes:
        quality: for JPEG, WebP and AVIF, 1 to 100; None as
            :func:`adapool_sr.io.images.to_bytes` has it.
        max_pixels: a larger input is refused undecoded.
        jobs: readers, and as many writers; each holds one picture in memory.
        strip: leave metadata out; else they are kept, and XMP says what enlarged the picture.
    """

    quality: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    jobs: int = 1
    strip: bool = False


def read_input(
    source: Path | bytes,
    name: str,
    kind: str,
    upscaler: Upscaler,
    options: Options,
    *,
    output: str,
) -> tuple[Picture, list[str]]:
    """Read a picture, made ready to become a result of a format.

    Args:
        source: a file or its content.
        name: of the input, for messages.
        kind: the result's format.
        upscaler: what will enlarge it.
        options: how to read.
        output: of the result, for messages.

    Returns:
        The picture, and a sentence for each thing that will not be kept.

    Raises:
        AdaPoolError: it can't be read, or its result can't be held by memory or format.
    """
    picture = read(source, options.max_pixels, name)
    height, width = upscaler.size_of(picture.height, picture.width)
    upscaler.check_size(picture.height, picture.width, name)
    check_format(picture, kind, width, height, output)
    lost = list(picture.lost)
    metadata = picture.metadata
    words: list[str] = []
    if options.strip:
        metadata, words = stripped(metadata)
    elif upscaler.spec is not None and kind != "bmp":
        made = Made(
            f"adapool-sr {__version__}",
            upscaler.spec.name,
            upscaler.spec.sha256,
            upscaler.scale,
        )
        metadata, words = _stamped(metadata, made, kind)
    picture, shallow = fitted(replace(picture, metadata=metadata), kind)
    return picture, lost + words + shallow


def _stamped(metadata: Metadata, made: Made, kind: str) -> tuple[Metadata, list[str]]:
    xmp = stamp_xmp(metadata.xmp, made)
    if xmp is None or (kind == "jpg" and len(metadata.xmp) <= _LARGEST_JPEG_XMP < len(xmp)):
        return metadata, ["its XMP has no room for what enlarged it"]
    return replace(metadata, xmp=xmp), []


def encode_result(
    picture: Picture, kind: str, options: Options, output: str
) -> tuple[bytes, list[str]]:
    """Encode a result.

    Args:
        picture: what the network made, quantised.
        kind: its format.
        options: how to write.
        output: its name, for messages.

    Returns:
        The file's content, and a sentence for each thing that could not be kept.

    Raises:
        UnwritableFileError: the encoder refused.
    """
    try:
        return to_bytes(picture, kind, options.quality)
    except UnwritableFileError as error:  # it knows of no file
        raise UnwritableFileError(output, error.why, error.remedy) from error
