"""Which format a file is of, told by its first bytes and never by its name; and its opener."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from importlib import import_module
from typing import IO

from PIL import Image, UnidentifiedImageError

from adapool_sr.files.errors import MissingExtraError, UnreadableFileError
from adapool_sr.files.extras import require
from adapool_sr.io.jxl import CONTAINER, stated

__all__ = ["DAMAGED", "Kind", "identify", "open_image"]

DAMAGED = "open it in an image editor and save it anew, or leave it out"

_HEAD = 64  # bytes that tell a format


@dataclass(frozen=True)
class Kind:
    """A format that is read.

    Attributes:
        name: Pillow's name of it.
        module: the module that teaches Pillow to open it.
        extra: the extra that brings this module; empty for Pillow's own.
    """

    name: str
    module: str
    extra: str = ""


_PNG, _JPEG, _GIF, _BMP, _TIFF, _PPM, _WEBP, _AVIF = (
    Kind(name, f"PIL.{plugin}ImagePlugin")
    for name, plugin in (
        ("PNG", "Png"),
        ("JPEG", "Jpeg"),
        ("GIF", "Gif"),
        ("BMP", "Bmp"),
        ("TIFF", "Tiff"),
        ("PPM", "Ppm"),
        ("WEBP", "WebP"),
        ("AVIF", "Avif"),
    )
)
_HEIF = Kind("HEIF", "pillow_heif", "heic")
_JXL = Kind("JXL", "pillow_jxl", "jxl")

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", _PNG),
    (b"\xff\xd8\xff", _JPEG),
    (b"GIF8", _GIF),
    (b"BM", _BMP),
    (b"II*\0", _TIFF),
    (b"MM\0*", _TIFF),
    (b"II+\0", _TIFF),  # BigTIFF
    (b"MM\0+", _TIFF),
    (b"P5", _PPM),
    (b"P6", _PPM),
    (b"\xff\x0a", _JXL),
    (CONTAINER, _JXL),
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"mif1"}


def identify(head: bytes) -> Kind | None:
    """The format that a file's first 64 bytes announce; None if it is none that is read."""
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return _WEBP
    if head[4:8] == b"ftyp":
        (size,) = struct.unpack(">I", head[:4])
        named = head[8:12] + head[16 : min(size, _HEAD)]  # between them stands a version
        brands = {named[at : at + 4] for at in range(0, len(named), 4)}
        if brands & {b"avif", b"avis"}:
            return _AVIF
        if brands & _HEIF_BRANDS:
            return _HEIF
    return None


def open_image(stream: IO[bytes], name: str, max_pixels: int) -> Image.Image:
    """Read the header only; the picture may be decoded then.

    Raises:
        UnreadableFileError: it is no picture, or one that must not be decoded.
        MissingExtraError: it needs an extra that is not installed.
    """
    head = stream.read(_HEAD)
    if not head:
        raise UnreadableFileError(name, "is empty", "fetch or save it again")
    kind = identify(head)
    if kind is None:
        raise UnreadableFileError(
            name,
            f"is no picture of a known kind (begins with {head[:8]!r})",
            "PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, PPM, HEIC and JPEG XL are read; convert it",
        )
    _load_plugin(kind, name)
    stream.seek(0)
    try:
        # Two plugins set memory aside for, or decode, all of the picture when they open it.
        if kind is _WEBP:
            _check_size(name, *_webp_size(head), max_pixels)
        elif kind is _JXL:
            header = stated(stream.read())
            _check_size(name, header.width, header.height, max_pixels)
            if header.animated:
                raise _several(name)
            stream.seek(0)
        image = Image.open(stream, formats=[kind.name])
        _check_size(name, *image.size, max_pixels)
        if _is_several(kind, image):
            raise _several(name)
        return image
    except UnreadableFileError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableFileError(
            name, f"has a {kind.name} header that is damaged or of a rare sort", DAMAGED
        ) from error
    except Exception as error:  # a hostile header raises nearly anything from a plugin
        raise UnreadableFileError(name, f"has a damaged {kind.name} header", DAMAGED) from error


def _load_plugin(kind: Kind, name: str) -> None:
    if kind.extra:
        require(name, kind.extra, kind.module)
    try:
        plugin = import_module(kind.module)  # just this one: importing all forty costs 0.1 s
    except ImportError as error:  # there, but for another Pillow or without its library
        raise MissingExtraError(name, kind.extra) from error
    if kind is _HEIF and "HEIF" not in Image.OPEN:
        plugin.register_heif_opener()


def _check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UnreadableFileError(
            name,
            f"states {width}x{height} pixels, more than the limit of {max_pixels:,}",
            "if it is meant, raise the limit with --max-pixels",
        )


def _several(name: str) -> UnreadableFileError:
    return UnreadableFileError(
        name, "holds more than one picture", "save the one that is wanted as a file of its own"
    )


def _is_several(kind: Kind, image: Image.Image) -> bool:
    """Whether a file holds pictures of equal rank."""
    if kind in (_JPEG, _HEIF):  # the others of a JPEG are depth maps, a HEIC's a burst: one is main
        return False
    if not getattr(image, "is_animated", False):
        return False
    return kind is not _TIFF or not _only_thumbnails_follow(image)


def _only_thumbnails_follow(image: Image.Image) -> bool:
    """Whether a TIFF's further pictures are all marked as smaller copies (NewSubfileType 1)."""
    count = int(getattr(image, "n_frames", 1))
    if count > 8:
        return False
    small = True
    for index in range(1, count):
        image.seek(index)
        small = small and bool(image.tag_v2.get(254, 0) & 1)  # type: ignore[attr-defined]
    image.seek(0)
    return small


def _webp_size(head: bytes) -> tuple[int, int]:
    """The size of a WebP's canvas (RFC 9649, 2.5 to 2.7); (0, 0) where another reader must say."""
    kind = head[12:16]
    if kind == b"VP8X":
        sides = head[24:27], head[27:30]
        return (
            1 + int.from_bytes(sides[0], "little"),
            1 + int.from_bytes(sides[1], "little"),
        )
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0
