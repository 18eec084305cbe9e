"""IPTC: in a JPEG and a TIFF it lies in Photoshop's blocks, in a PNG in a text chunk.

It is carried as the Photoshop blocks ("8BIM" …), which hold more than IPTC in some files.
"""

from __future__ import annotations

import struct
import zlib

__all__ = ["blocks_of_iptc", "from_raw_profile", "iptc_of_blocks", "jpeg_segments", "raw_profile"]

JPEG_HEADING = b"Photoshop 3.0\0"
_MARK, _IPTC = b"8BIM", 0x0404
_SEGMENT = 65533 - len(JPEG_HEADING)  # bytes of blocks in a JPEG's segment
_LARGEST_TEXT = 1 << 24


def blocks_of_iptc(iptc: bytes) -> bytes:
    """Photoshop's block around bare IPTC, as a TIFF has it in its tag 33723."""
    if not iptc:
        return b""
    return _MARK + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)


def iptc_of_blocks(blocks: bytes) -> bytes:
    """The bare IPTC among Photoshop's blocks; empty if there is none."""
    at = 0
    while blocks[at : at + 4] == _MARK and at + 12 <= len(blocks):
        (kind, name) = struct.unpack_from(">HB", blocks, at + 4)
        at += 6 + name + 1 + (name + 1) % 2
        if at + 4 > len(blocks):
            break
        (size,) = struct.unpack_from(">I", blocks, at)
        if kind == _IPTC:
            return blocks[at + 4 : at + 4 + size]
        at += 4 + size + size % 2
    return b""


def jpeg_segments(blocks: bytes) -> bytes:
    """Photoshop's blocks as a JPEG's APP13 segments, as many as are needed."""
    pieces = (blocks[at : at + _SEGMENT] for at in range(0, len(blocks), _SEGMENT))
    return b"".join(
        b"\xff\xed" + struct.pack(">H", 2 + len(JPEG_HEADING) + len(piece)) + JPEG_HEADING + piece
        for piece in pieces
    )


def raw_profile(kind: str, content: bytes) -> bytes:
    """The body of a PNG's zTXt chunk that holds bytes as hexadecimal text, ImageMagick's way."""
    digits = content.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    text = f"\n{kind}\n{len(content):8d}\n{lines}\n".encode()
    return f"Raw profile type {kind}".encode() + b"\0\0" + zlib.compress(text, 9)


def from_raw_profile(text: str | None) -> bytes:
    """The bytes of such a text; empty if it is none."""
    parts = (text or "")[:_LARGEST_TEXT].split(None, 2)
    try:
        return bytes.fromhex(parts[2])[: int(parts[1])] if len(parts) == 3 else b""
    except ValueError:
        return b""
