"""What is done to each picture before and after the network, alone, in a folder or in a book."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from adapool_sr import __version__
from adapool_sr.files.errors import AdaPoolError, UnwritableFileError
from adapool_sr.inference.family import Family
from adapool_sr.inference.report import Report
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.inference.verifying import Verdict
from adapool_sr.io.images import Picture, check_format, fitted, read, to_bytes
from adapool_sr.io.listing import DEFAULT_MAX_PIXELS
from adapool_sr.io.metadata import Metadata, stripped
from adapool_sr.io.xmp import Made, stamp_xmp

__all__ = ["Options", "encode_result", "judge", "read_input"]

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
        verify: compare every result with its input, and warn where it differs too much.
        strict: such a file fails instead, and is not written.
    """

    quality: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS
    jobs: int = 1
    strip: bool = False
    verify: bool = False
    strict: bool = False


def read_input(
    source: Path | bytes,
    name: str,
    kind: str,
    upscaler: Upscaler | Family,
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
    chosen = upscaler.choose(picture.height, picture.width, picture.format)
    height, width = chosen.size_of(picture.height, picture.width)
    chosen.check_size(picture.height, picture.width, name)
    check_format(picture, kind, width, height, output)
    lost = list(picture.lost)
    metadata = picture.metadata
    words: list[str] = []
    if options.strip:
        metadata, words = stripped(metadata)
    elif chosen.spec is not None and kind != "bmp":
        factor = chosen.scale if chosen.size is None else width / picture.width
        tool = f"adapool-sr {__version__}"
        network = chosen.look.strength > 0 and chosen.route(picture.height, picture.width).passes
        by = (chosen.spec.name, chosen.spec.sha256) if network else ("bicubic", "")
        made = Made(tool, *by, factor)
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


def judge(verdict: Verdict, name: str, options: Options, report: Report) -> str:
    """Count what came of comparing a result with its input.

    Args:
        verdict: from :meth:`adapool_sr.inference.Upscaler.compare`.
        name: of the input.
        options: whether a bad one fails.
        report: counts it.

    Returns:
        A warning; "" where all is well.

    Raises:
        AdaPoolError: it is bad, and ``options.strict``.
    """
    report.verified.append((name, verdict.psnr))
    if verdict.passes:
        return ""
    report.off += 1
    why = f"the result does not show its input: {verdict}, where 4 % is the most"
    if options.strict:
        raise AdaPoolError(name, why, "another model, or --precision fp32 -d cpu, may help")
    return why
