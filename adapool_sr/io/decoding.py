"""Picture files to integer arrays: upright, grey or RGB, of the file's depth.

Arrays are (H, W, C) with C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; uint8 or
uint16 over the type's full range. Pillow decodes but where it would cut 16 bits to 8.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from adapool_sr.files.errors import (
    AdaPoolError,
    MissingFileError,
    UnreadableFileError,
)
from adapool_sr.io import jxl
from adapool_sr.io.deep import deep_pixels
from adapool_sr.io.exif import exif_of_tiff
from adapool_sr.io.formats import DAMAGED, identify, open_image
from adapool_sr.io.iptc import JPEG_HEADING, blocks_of_iptc, from_raw_profile
from adapool_sr.io.listing import DEFAULT_MAX_PIXELS
from adapool_sr.io.metadata import Metadata, png_chunks

__all__ = ["JPEG", "Decoded", "Header", "Pixels", "array_of", "decode", "kind_of", "probe"]

Pixels = NDArray[Any]  # uint8 or uint16

JPEG = frozenset({"jpeg", "mpo"})
"""Formats, as :class:`Header` and :class:`Decoded` name them, whose pixels JPEG made."""

# A phone's photos hold more than the photo. Pages and animations are refused in open_image.
_SEVERAL = {"MPO", "HEIF"}

_NO_PROFILE = (
    "it has no whole profile for its printing inks: its colours are a guess, and too vivid"
)

_LOSSY = {"JPEG", "MPO", "HEIF"}
_WHOLE = {"PNG", "WEBP", "TIFF", "PPM", "AVIF", "HEIF", "JXL"}  # whose content is looked into
_TURNED_BY_THE_DECODER = {"TIFF", "HEIF", "JXL"}
# Bytes of a text or profile in a PNG; Pillow's own limit of 1 MiB refuses pictures that carry a
# long workflow, and what is larger than this is a bomb.
_LARGEST_PNG_TEXT = 1 << 24


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture as its file held it, turned upright.

    Attributes:
        pixels: (H, W, C) uint8 or uint16, C as in this module's heading.
        metadata: what the file says beside the pixels.
        format: the file's format in lower case, as in "png", "jpeg", "gif".
        lossless: whether the file held exactly these pixels.
        lost: a sentence for each thing that could not be read.
    """

    pixels: Pixels
    metadata: Metadata
    format: str
    lossless: bool
    lost: tuple[str, ...] = ()


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_undo: list[Any] = []


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings and set its limits to ours while any thread decodes.

    These are process-wide, and ``warnings.catch_warnings`` alone is not safe when several
    threads enter it: the first in saves the state, the last out restores it.
    """
    global _quiet_depth
    with _quiet_lock:
        if _quiet_depth == 0:
            catcher = warnings.catch_warnings()
            catcher.__enter__()
            warnings.simplefilter("ignore")
            _quiet_undo[:] = [catcher, Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK]
            Image.MAX_IMAGE_PIXELS = None  # our own max_pixels stands in its place
            PngImagePlugin.MAX_TEXT_CHUNK = _LARGEST_PNG_TEXT
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                catcher, Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK = _quiet_undo
                catcher.__exit__(None, None, None)


def kind_of(content: bytes) -> str | None:
    """The format that a file's first bytes announce, as in "png", "jpeg"; None if unknown."""
    known = identify(content[:64])
    return known.name.lower() if known else None


def _name_and_stream(source: Path | str | bytes) -> tuple[str, IO[bytes]]:
    if isinstance(source, bytes):
        return "standard input", io.BytesIO(source)
    path = Path(source)
    if not path.exists():
        raise MissingFileError(str(path), "no such file", "check the path")
    if not path.is_file():
        raise UnreadableFileError(str(path), "is not a regular file", "give a picture file")
    try:
        return str(path), path.open("rb")
    except OSError as error:
        raise UnreadableFileError(
            str(path), f"cannot be opened ({error.strerror})", "check its permissions"
        ) from error


class Header(NamedTuple):
    """What a picture's header says, as it stands upright.

    Attributes:
        width: pixels in a row.
        height: pixels in a column.
        alpha: whether it has transparency.
        format: the file's format in lower case, as in "png", "jpeg".
    """

    width: int
    height: int
    alpha: bool
    format: str


def probe(
    source: Path | str | bytes, max_pixels: int = DEFAULT_MAX_PIXELS, name: str = ""
) -> Header:
    """Read a picture's header.

    Args:
        source: a path, or the file's content.
        max_pixels: a picture whose header states more is refused.
        name: for messages; by default the path, or "standard input".

    Raises:
        MissingFileError: there is no such file.
        MissingExtraError: its format needs an extra that is not installed.
        UnreadableFileError: it is empty, foreign, damaged or larger than max_pixels.
    """
    own, stream = _name_and_stream(source)
    name = name or own
    with stream, _quiet_pillow(), open_image(stream, name, max_pixels) as image:
        width, height = image.size
        if _orientation(image) >= 5:  # lies on its side
            width, height = height, width
        return Header(width, height, image.has_transparency_data, (image.format or "").lower())


def decode(
    source: Path | str | bytes, max_pixels: int = DEFAULT_MAX_PIXELS, name: str = ""
) -> Decoded:
    """Decode a whole picture file, apply its orientation, convert its colours to grey or RGB.

    Args:
        source: a path, or the file's content.
        max_pixels: a picture whose header states more is refused before it is decoded.
        name: for messages; by default the path, or "standard input".

    Raises:
        MissingFileError: there is no such file.
        MissingExtraError: its format needs an extra that is not installed.
        UnreadableFileError: it is empty, foreign, truncated, damaged, animated or too large.
    """
    own, stream = _name_and_stream(source)
    name = name or own
    with stream, _quiet_pillow(), open_image(stream, name, max_pixels) as image:
        content = b""
        try:
            if image.format in _WHOLE:
                stream.seek(0)
                content = stream.read()
            image.load()
            return _convert(image, content, name)
        except AdaPoolError:
            raise
        except Exception as error:  # a damaged file raises nearly anything from a plugin
            raise UnreadableFileError(
                name, f"is truncated or damaged ({error})", DAMAGED
            ) from error


def _convert(image: Image.Image, content: bytes, name: str) -> Decoded:
    kind = image.format or ""
    metadata = _metadata(image, content)
    pixels = deep_pixels(image, content)
    lost: tuple[str, ...] = ()
    if pixels is None and image.mode in ("CMYK", "LAB"):
        converted = _to_srgb(image, metadata.icc)
        if converted is None:
            lost = (_NO_PROFILE,)
        pixels = array_of(converted or image.convert("RGB"), name)
        metadata = replace(metadata, icc=b"")  # the pixels are sRGB now
    elif pixels is None:
        pixels = array_of(image, name)
    if image.format in _SEVERAL and (more := getattr(image, "n_frames", 1) - 1):
        what = "another picture" if more == 1 else f"{more} other pictures"
        lost = (*lost, f"it holds {what} (a preview, depth or gain map, say): the first is taken")
    return Decoded(
        pixels=np.ascontiguousarray(_upright(pixels, _orientation(image))),
        metadata=metadata,
        format=kind.lower(),
        lossless=_is_lossless(image, content),
        lost=lost + (() if pixels.dtype == np.uint16 else _shallow(image, content)),
    )


def _shallow(image: Image.Image, content: bytes) -> tuple[str, ...]:
    """A sentence if a file that was read as 8 bits has more."""
    bits = 8
    if image.format == "TIFF":
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        bits = max(tags.get(258, (8,)))
    elif image.format == "JXL":
        bits = jxl.stated(content).bits
    return (f"its {bits} bits are read as 8",) if bits > 8 else ()


def _is_lossless(image: Image.Image, content: bytes) -> bool:
    if image.format == "WEBP":
        return _webp_is_lossless(content)
    if image.format == "AVIF":  # without loss only where the colours were not turned to YUV
        at = content.find(b"colrnclx")  # colour box: primaries, transfer, matrix; 0 is none
        return at >= 0 and content[at + 12 : at + 14] == b"\0\0"
    if image.format == "JXL":
        return not getattr(image, "jpeg", False)  # else it is a JPEG's very data
    return image.format not in _LOSSY


def array_of(image: Image.Image, name: str) -> Pixels:
    """A Pillow image of any mode as (H, W, C).

    Raises:
        UnreadableFileError: it has floating-point or 32-bit values; ``name`` is for the message.
    """
    mode = image.mode
    if mode in ("I;16", "I;16L", "I;16B", "I;16N"):
        return np.asarray(image).astype(np.uint16)[:, :, None]
    if mode == "I":  # 32-bit integers: the form of 16-bit grey in older files
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > 65535:
            raise UnreadableFileError(
                name, "has 32-bit values beyond 0..65535", "save it with 16 bits"
            )
        return deep.astype(np.uint16)[:, :, None]
    if mode == "F":
        raise UnreadableFileError(name, "has floating-point values", "save it with 8 or 16 bits")
    if image.has_transparency_data:
        target = "LA" if mode in ("1", "L", "LA", "La") else "RGBA"
    else:
        target = "L" if mode in ("1", "L") else "RGB"
    array = np.asarray(image if mode == target else image.convert(target))
    return array[:, :, None] if array.ndim == 2 else array


def _to_srgb(image: Image.Image, icc: bytes) -> Image.Image | None:
    """CMYK through its profile, None without a whole one; CIE L*a*b* by its meaning."""
    from PIL import ImageCms

    with suppress(ImageCms.PyCMSError, OSError):  # a damaged profile is as good as none
        source: Any = None
        if image.mode == "LAB":
            source = ImageCms.createProfile("LAB")
        elif icc[16:20] == b"CMYK":
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if source is not None:
            srgb = ImageCms.createProfile("sRGB")
            result = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB")
            if result is not None:
                return result
    return None


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8, that the decoder leaves to us; Pillow also asks XMP."""
    if image.format in _TURNED_BY_THE_DECODER:
        return 1
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF must not cost the picture
        return 1
    return value if value in range(1, 9) else 1


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation (CIPA DC-008, table 6)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _metadata(image: Image.Image, content: bytes) -> Metadata:
    info = image.info
    xmp = info.get("xmp", b"")
    if image.format == "JXL" and not xmp:
        xmp = next((body for kind, body in jxl.boxes(content) if kind == b"xml "), b"")
    dpi = info.get("dpi")
    if image.format == "TIFF" and 282 not in image.tag_v2:  # type: ignore[attr-defined]
        dpi = None  # Pillow supposes one
    comment = info.get("comment", b"")
    return Metadata(
        exif=_exif(image, content),
        icc=bytes(info.get("icc_profile") or b""),
        xmp=xmp.encode() if isinstance(xmp, str) else bytes(xmp),
        iptc=_iptc(image),
        comment=comment.encode() if isinstance(comment, str) else bytes(comment),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
        chunks=tuple(png_chunks(content)) if image.format == "PNG" else (),
    )


def _exif(image: Image.Image, content: bytes) -> bytes:
    if image.format == "TIFF":
        return exif_of_tiff(content)
    exif = bytes(image.info.get("exif") or b"")
    for old in ("exif", "APP1"):  # ImageMagick's way, from before PNG had a chunk for it
        exif = exif or from_raw_profile(image.info.get(f"Raw profile type {old}"))
    exif = exif.removeprefix(b"Exif\0\0")
    return exif if exif[:2] in (b"II", b"MM") else b""


def _iptc(image: Image.Image) -> bytes:
    """Photoshop's blocks, which hold IPTC, as they lie in a JPEG, a TIFF or a PNG."""
    if image.format == "TIFF":
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        blocks, bare = tags.get(34377), tags.get(33723)
        if isinstance(blocks, bytes):
            return blocks
        return blocks_of_iptc(bare) if isinstance(bare, bytes) else b""
    if image.format == "PNG":
        found = from_raw_profile(image.info.get("Raw profile type iptc"))
        return found.removeprefix(JPEG_HEADING)
    segments = getattr(image, "applist", [])
    return b"".join(
        body.removeprefix(JPEG_HEADING)
        for tag, body in segments
        if tag == "APP13" and body.startswith(JPEG_HEADING)
    )


def _webp_is_lossless(content: bytes) -> bool:
    at = 12
    while at + 8 <= len(content):
        name, length = struct.unpack_from("<4sI", content, at)
        if name in (b"VP8L", b"VP8 "):
            return bool(name == b"VP8L")
        at += 8 + length + length % 2
    return False
