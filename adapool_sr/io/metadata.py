"""What travels beside the pixels: EXIF, ICC, XMP, IPTC, resolution and PNG's own chunks."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

from adapool_sr.io.iptc import raw_profile

__all__ = ["Metadata", "png_chunks", "splice_png", "stripped"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Chunks that say something about the picture as a whole and survive a change of its size.
KEPT_CHUNKS = frozenset({b"cHRM", b"cICP", b"gAMA", b"sRGB", b"tEXt", b"zTXt", b"iTXt", b"tIME"})
# These are carried as XMP, EXIF, IPTC and profile, so that a result cannot have a stale copy.
_CARRIED_ELSEWHERE = (
    b"XML:com.adobe.xmp\0",
    *(b"Raw profile type %s\0" % kind for kind in (b"exif", b"APP1", b"xmp", b"iptc", b"icc")),
)
_XMP_HEADING = b"XML:com.adobe.xmp\0\0\0\0\0"


@dataclass(frozen=True)
class Metadata:
    """What a file says beside its pixels; every field may be absent.

    Attributes:
        exif: the TIFF block of EXIF, without its ``Exif`` heading.
        icc: the colour profile.
        xmp: the XMP packet.
        iptc: Photoshop's blocks ("8BIM" …), which hold IPTC.
        comment: JPEG's comment.
        dpi: dots per inch, horizontal and vertical.
        chunks: PNG chunks (name, data) that go to another PNG unchanged.
    """

    exif: bytes = b""
    icc: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    comment: bytes = b""
    dpi: tuple[float, float] | None = None
    chunks: tuple[tuple[bytes, bytes], ...] = ()


_COLOUR_CHUNKS = frozenset({b"cHRM", b"cICP", b"gAMA", b"sRGB"})


def stripped(metadata: Metadata) -> tuple[Metadata, list[str]]:
    """No metadata but what a PNG says of its colours, and a sentence if a profile mattered."""
    chunks = tuple(chunk for chunk in metadata.chunks if chunk[0] in _COLOUR_CHUNKS)
    lost = []
    name = _profile_name(metadata.icc)
    if name and "sRGB" not in name:
        lost.append(f"without its colour profile '{name}' its colours will look different")
    return Metadata(chunks=chunks), lost


def _profile_name(icc: bytes) -> str:
    if not icc:
        return ""
    from PIL import ImageCms

    try:
        return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()
    except (ImageCms.PyCMSError, OSError):
        return "unreadable"


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks of a PNG file that a resized copy keeps; stops at the first damaged one."""
    found: list[tuple[bytes, bytes]] = []
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length] if name in KEPT_CHUNKS else b""
        if name == b"IEND" or at + 12 + length > len(data):
            break
        if name in KEPT_CHUNKS and not body.startswith(_CARRIED_ELSEWHERE):
            found.append((name, body))
        at += 12 + length
    return found


def splice_png(data: bytes, metadata: Metadata) -> bytes:
    """Return a PNG file with the metadata's chunks put right after its header.

    Args:
        data: a PNG file as an encoder made it, with no chunks of these kinds of its own.
        metadata: what to put in.
    """
    chunks: list[tuple[bytes, bytes]] = []
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc, 9)))
    chunks += metadata.chunks
    if metadata.dpi:
        x, y = (max(1, min(2**31 - 1, round(dpi / 0.0254))) for dpi in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", _XMP_HEADING + metadata.xmp))
    if metadata.iptc:
        chunks.append((b"zTXt", raw_profile("iptc", metadata.iptc)))
    if metadata.comment:
        chunks.append((b"iTXt", b"Comment\0\0\0\0\0" + _utf8(metadata.comment)))
    if not chunks:
        return data
    head = len(PNG_SIGNATURE) + 25  # the header chunk has 13 bytes in a frame of 12
    middle = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return data[:head] + middle + data[head:]


def _utf8(text: bytes) -> bytes:
    """A JPEG's comment, whose encoding no one states, as UTF-8."""
    try:
        text.decode()
        return text
    except UnicodeDecodeError:
        return text.decode("latin-1").encode()
