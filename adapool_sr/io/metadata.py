"""What travels beside the pixels: EXIF, ICC, XMP, IPTC, resolution and PNG's own chunks.

EXIF is carried as the file's own bytes and changed in place: a turned picture has its
orientation set to upright and a resized one its stated size; nothing else moves, so that
maker notes, whose offsets count from the block's start, stay readable.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Metadata", "png_chunks", "settle_exif", "settle_xmp", "splice_png"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Chunks that say something about the picture as a whole and survive a change of its size.
KEPT_CHUNKS = frozenset({b"cHRM", b"cICP", b"gAMA", b"sRGB", b"tEXt", b"zTXt", b"iTXt", b"tIME"})
# These are carried as XMP and EXIF, so that a turned picture cannot keep a stale copy.
_CARRIED_ELSEWHERE = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0", b"Raw profile type xmp\0")

_ORIENTATION, _EXIF_IFD = 0x0112, 0x8769
_WIDTH_TAGS, _HEIGHT_TAGS = {0x0100, 0xA002}, {0x0101, 0xA003}
_SHORT, _LONG = 3, 4


@dataclass(frozen=True)
class Metadata:
    """What a file says beside its pixels; every field may be absent.

    Attributes:
        exif: the TIFF block of EXIF, without its ``Exif`` heading.
        icc: the colour profile.
        xmp: the XMP packet.
        iptc: JPEG's APP13 segment, which holds IPTC.
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


def _entries(exif: bytes, order: str, start: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (tag, type, count, offset of the value) for each entry of the IFD at start."""
    if not 8 <= start <= len(exif) - 2:
        return
    (count,) = struct.unpack_from(order + "H", exif, start)
    for index in range(count):
        at = start + 2 + 12 * index
        if at + 12 > len(exif):
            return
        tag, kind, values = struct.unpack_from(order + "HHI", exif, at)
        yield tag, kind, values, at + 8


def settle_exif(exif: bytes, width: int, height: int) -> bytes:
    """Return EXIF that is true of an upright picture of this size, all else byte for byte.

    Args:
        exif: a TIFF block without its ``Exif`` heading; a damaged one is settled as far as it goes.
        width: pixels of the result.
        height: pixels of the result.
    """
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return exif
    block = bytearray(exif)
    (first,) = struct.unpack_from(order + "I", exif, 4)
    pending, seen = [first], set[int]()
    while pending:
        start = pending.pop()
        if start in seen:
            continue
        seen.add(start)
        for tag, kind, values, at in _entries(exif, order, start):
            if tag == _EXIF_IFD and kind == _LONG:
                pending += struct.unpack_from(order + "I", exif, at)
            new = _new_value(tag, width, height)
            if new is None or values != 1 or kind not in (_SHORT, _LONG):
                continue
            if kind == _SHORT and new < 1 << 16:
                struct.pack_into(order + "H", block, at, new)
            elif kind == _LONG:
                struct.pack_into(order + "I", block, at, new)
            else:  # the size outgrew its 16 bits; the entry is as wide as a 32-bit one
                struct.pack_into(order + "HII", block, at - 6, _LONG, 1, new)
    return bytes(block)


def _new_value(tag: int, width: int, height: int) -> int | None:
    if tag == _ORIENTATION:
        return 1
    if tag in _WIDTH_TAGS:
        return width
    return height if tag in _HEIGHT_TAGS else None


def settle_xmp(xmp: bytes) -> bytes:
    """Return an XMP packet whose ``tiff:Orientation``, if it has one, says upright."""
    xmp = re.sub(rb"(tiff:Orientation\s*=\s*[\"'])\d+", rb"\g<1>1", xmp)
    return re.sub(rb"(<tiff:Orientation>\s*)\d+", rb"\g<1>1", xmp)


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
        metadata: what to put in; ``iptc`` and ``comment`` have no place in a PNG.
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
        chunks.append((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + metadata.xmp))
    if not chunks:
        return data
    head = len(PNG_SIGNATURE) + 25  # the header chunk has 13 bytes in a frame of 12
    middle = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    return data[:head] + middle + data[head:]
