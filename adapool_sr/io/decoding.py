"""Picture files to integer arrays, with Pillow; 16-bit colour PNG with OpenCV.

Arrays are (H, W, C) with C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha; uint8 or
uint16 over the type's full range. Only the formats listed here are ever opened, told by
their first bytes and never by their names.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from adapool_sr.files.errors import (
    AdaPoolError,
    MissingFileError,
    UnreadableFileError,
)
from adapool_sr.io.listing import DEFAULT_MAX_PIXELS
from adapool_sr.io.metadata import Metadata, png_chunks

__all__ = ["Decoded", "Pixels", "array_of", "decode", "kind_of", "probe"]

Pixels = NDArray[Any]  # uint8 or uint16

# Pillow's name of the format and the plugin that opens it, by first bytes.
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG", "PngImagePlugin"),
    (b"\xff\xd8\xff", "JPEG", "JpegImagePlugin"),
    (b"GIF8", "GIF", "GifImagePlugin"),
    (b"BM", "BMP", "BmpImagePlugin"),
    (b"II*\0", "TIFF", "TiffImagePlugin"),
    (b"MM\0*", "TIFF", "TiffImagePlugin"),
    (b"P5", "PPM", "PpmImagePlugin"),
    (b"P6", "PPM", "PpmImagePlugin"),
)
_LOSSY = {"JPEG", "MPO", "AVIF"}
_DAMAGED = "open it in an image editor and save it anew, or leave it out"


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture as its file held it, turned upright.

    Attributes:
        pixels: (H, W, C) uint8 or uint16, C as in this module's heading.
        metadata: what the file says beside the pixels.
        format: the file's format in lower case, as in "png", "jpeg", "gif".
        lossless: whether the file held exactly these pixels.
    """

    pixels: Pixels
    metadata: Metadata
    format: str
    lossless: bool


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_undo: list[Any] = []


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings and its own size limit while any thread decodes.

    Both are process-wide, and ``warnings.catch_warnings`` alone is not safe when several
    threads enter it: the first in saves the state, the last out restores it.
    """
    global _quiet_depth
    with _quiet_lock:
        if _quiet_depth == 0:
            catcher = warnings.catch_warnings()
            catcher.__enter__()
            warnings.simplefilter("ignore")
            _quiet_undo[:] = [catcher, Image.MAX_IMAGE_PIXELS]
            Image.MAX_IMAGE_PIXELS = None  # our own max_pixels stands in its place
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                catcher, Image.MAX_IMAGE_PIXELS = _quiet_undo
                catcher.__exit__(None, None, None)


def _plugin(head: bytes) -> tuple[str, str] | None:
    for signature, kind, plugin in _SIGNATURES:
        if head.startswith(signature):
            return kind, plugin
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP", "WebPImagePlugin"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF", "AvifImagePlugin"
    return None


def kind_of(content: bytes) -> str | None:
    """The format that a file's first bytes announce, as in "png", "jpeg"; None if unknown."""
    known = _plugin(content[:16])
    return known[0].lower() if known else None


def _open(stream: IO[bytes], name: str, max_pixels: int) -> Image.Image:
    """Read the header only; raise if it is no picture, or one that must not be decoded."""
    head = stream.read(16)
    if not head:
        raise UnreadableFileError(name, "is empty", "fetch or save it again")
    known = _plugin(head)
    if known is None:
        raise UnreadableFileError(
            name,
            f"is no picture of a known kind (begins with {head[:8]!r})",
            "PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF and PPM are read; convert it to one of them",
        )
    kind, plugin = known
    import_module(f"PIL.{plugin}")  # just this one: importing all forty costs 0.1 s
    stream.seek(0)
    try:
        image = Image.open(stream, formats=[kind])
    except Exception as error:  # a hostile header raises nearly anything from a plugin
        raise UnreadableFileError(name, f"has a damaged {kind} header", _DAMAGED) from error
    width, height = image.size
    if width * height > max_pixels:
        raise UnreadableFileError(
            name,
            f"states {width}x{height} pixels, more than the limit of {max_pixels:,}",
            "if it is meant, raise the limit with --max-pixels",
        )
    if kind != "JPEG" and getattr(image, "is_animated", False):
        raise UnreadableFileError(
            name, "holds more than one picture", "save the one that is wanted as a file of its own"
        )
    return image


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


def probe(
    source: Path | str | bytes, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[int, int, bool]:
    """Read a picture's header: (width, height, whether it has alpha), as it stands upright.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is empty, foreign, damaged or larger than max_pixels.
    """
    name, stream = _name_and_stream(source)
    with stream, _quiet_pillow(), _open(stream, name, max_pixels) as image:
        width, height = image.size
        if _orientation(image) >= 5:  # lies on its side
            width, height = height, width
        return width, height, image.has_transparency_data


def decode(source: Path | str | bytes, max_pixels: int = DEFAULT_MAX_PIXELS) -> Decoded:
    """Decode a whole picture file, apply its orientation, convert its colours to grey or RGB.

    Args:
        source: a path, or the file's content.
        max_pixels: a picture whose header states more is refused before it is decoded.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is empty, foreign, truncated, damaged, animated or too large.
    """
    name, stream = _name_and_stream(source)
    with stream, _quiet_pillow(), _open(stream, name, max_pixels) as image:
        try:
            image.load()
            stream.seek(0)
            content = stream.read() if image.format in ("PNG", "WEBP") else b""
            return _convert(image, content, name)
        except AdaPoolError:
            raise
        except Exception as error:  # as above: damaged data raises nearly anything
            raise UnreadableFileError(
                name, f"is truncated or damaged ({error})", _DAMAGED
            ) from error


def _convert(image: Image.Image, content: bytes, name: str) -> Decoded:
    kind = image.format or ""
    metadata = _metadata(image, content)
    orientation = _orientation(image)
    if image.mode == "CMYK":
        image = _from_cmyk(image, metadata.icc)
        metadata = Metadata(**{**vars(metadata), "icc": b""})  # the pixels are sRGB now
    pixels = _deep_colour(content) if kind == "PNG" else None
    if pixels is None:
        pixels = array_of(image, name)
    return Decoded(
        pixels=np.ascontiguousarray(_upright(pixels, orientation)),
        metadata=metadata,
        format=kind.lower(),
        lossless=kind not in _LOSSY and (kind != "WEBP" or _webp_is_lossless(content)),
    )


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


def _deep_colour(content: bytes) -> Pixels | None:
    """A 16-bit PNG with more than a grey channel, which Pillow would cut to 8 bits."""
    depth, colour_type = content[24], content[25]
    if depth != 16 or colour_type == 0:
        return None
    import cv2

    array = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise ValueError("16-bit data could not be decoded")
    if array.ndim == 2:
        return array[:, :, None]
    if colour_type == 4:  # grey and alpha arrive as four channels
        return np.ascontiguousarray(array[:, :, [0, 3]])
    return np.ascontiguousarray(array[:, :, [2, 1, 0, 3][: array.shape[2]]])


def _from_cmyk(image: Image.Image, icc: bytes) -> Image.Image:
    if icc[16:20] == b"CMYK":
        from PIL import ImageCms

        with suppress(ImageCms.PyCMSError, OSError):  # a damaged profile: the plain formula
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            result = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if result is not None:
                return result
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8; Pillow falls back to the one in XMP."""
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
    exif = info.get("exif", b"")
    xmp = info.get("xmp", b"")
    dpi = info.get("dpi")
    comment = info.get("comment", b"")
    iptc = [body for tag, body in getattr(image, "applist", []) if tag == "APP13"]
    return Metadata(
        exif=bytes(exif).removeprefix(b"Exif\0\0") if image.format != "TIFF" else b"",
        icc=bytes(info.get("icc_profile") or b""),
        xmp=xmp.encode() if isinstance(xmp, str) else bytes(xmp),
        iptc=iptc[0] if len(iptc) == 1 else b"",
        comment=comment.encode() if isinstance(comment, str) else bytes(comment),
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
        chunks=tuple(png_chunks(content)) if image.format == "PNG" else (),
    )


def _webp_is_lossless(content: bytes) -> bool:
    at = 12
    while at + 8 <= len(content):
        name, length = struct.unpack_from("<4sI", content, at)
        if name in (b"VP8L", b"VP8 "):
            return bool(name == b"VP8L")
        at += 8 + length + length % 2
    return False
