"""A TIFF writer: 8 and 16 bits, deflate with differences, and every kind of metadata.

The file begins with the picture's EXIF block, which is a TIFF structure itself, and its first
directory is written anew behind the pixels. So every offset within EXIF stays true, those of
maker notes too. TIFF 6.0; deflate is compression 8 of Adobe's supplement.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapool_sr.io.exif import LONG, SHORT, dpi_entries, first_directory, pack_entries
from adapool_sr.io.iptc import iptc_of_blocks
from adapool_sr.io.metadata import Metadata

__all__ = ["encode_tiff"]

_BYTE, _UNDEFINED = 1, 7
_STRIP = 1 << 20  # bytes of pixels that are compressed together
_LEVEL = 4  # as for PNG
# Entries of an EXIF block that say how pixels lie in its own file, which this is not.
_OF_PIXELS = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 280, 281, 284, 290, 291}
    | {317, 320, 322, 323, 324, 325, 330, 338, 339, 340, 341, 347, 513, 514, 529, 530, 531, 532}
    | {700, 33723, 34377, 34675}
)


def encode_tiff(pixels: NDArray[Any], metadata: Metadata) -> bytes:
    """Encode an array as a TIFF file without loss.

    Args:
        pixels: (H, W, C) uint8 or uint16, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        metadata: EXIF, profile, XMP, IPTC and resolution; it has no place for the rest.

    Raises:
        ValueError: more than the 4 GiB that a TIFF holds.
    """
    height, width, channels = pixels.shape
    order, described = first_directory(metadata.exif)
    head = metadata.exif if described else b"II*\0" + b"\0" * 4
    file = bytearray(head + b"\0" * (len(head) % 2))
    wide = pixels.dtype.newbyteorder(order)  # type: ignore[arg-type]  # "<" or ">"
    rows = max(1, _STRIP // (width * channels * pixels.itemsize))
    offsets, sizes = [], []
    for top in range(0, height, rows):
        strip = pixels[top : top + rows]
        differences = np.diff(strip, axis=1, prepend=np.zeros_like(strip[:, :1]))
        data = zlib.compress(differences.astype(wide, copy=False).tobytes(), _LEVEL)
        offsets.append(len(file))
        sizes.append(len(data))
        file += data
        if len(file) >= 1 << 32:
            raise ValueError("more than the 4 GiB that a TIFF holds")

    def numbers(kind: int, *values: int) -> tuple[int, int, bytes]:
        letter = "H" if kind == SHORT else "I"
        return kind, len(values), struct.pack(f"{order}{len(values)}{letter}", *values)

    entries = {
        tag: (entry.kind, entry.count, entry.data)
        for tag, entry in described.items()
        if tag not in _OF_PIXELS
    }
    entries |= {
        256: numbers(LONG, width),
        257: numbers(LONG, height),
        258: numbers(SHORT, *[8 * pixels.itemsize] * channels),
        259: numbers(SHORT, 8),
        262: numbers(SHORT, 1 if channels <= 2 else 2),
        273: numbers(LONG, *offsets),
        277: numbers(SHORT, channels),
        278: numbers(LONG, rows),
        279: numbers(LONG, *sizes),
        284: numbers(SHORT, 1),
        317: numbers(SHORT, 2),
    }
    if channels in (2, 4):
        entries[338] = numbers(SHORT, 2)  # alpha that the colours are not multiplied by
    for tag, kind, data in (
        (700, _BYTE, metadata.xmp),
        (33723, _UNDEFINED, iptc_of_blocks(metadata.iptc)),
        (34377, _BYTE, metadata.iptc),
        (34675, _UNDEFINED, metadata.icc),
    ):
        if data:
            entries[tag] = kind, len(data), data
    if metadata.dpi:
        entries |= dpi_entries(metadata.dpi, order)
    file += b"\0" * (len(file) % 2)
    struct.pack_into(order + "I", file, 4, len(file))
    file += pack_entries(entries, order, len(file))
    if len(file) >= 1 << 32:
        raise ValueError("more than the 4 GiB that a TIFF holds")
    return bytes(file)
