"""EXIF blocks: made true of an upright picture of another size, completed, read out of a TIFF.

A block is a TIFF structure without pixels. It is carried as the file's own bytes and changed
in place, or added to at its end: nothing inside moves, so that maker notes, whose offsets
count from the block's start, stay readable.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

__all__ = [
    "Entry",
    "dpi_entries",
    "exif_of_tiff",
    "first_directory",
    "pack_entries",
    "settle_exif",
    "with_dpi",
    "without_orientation",
]

ORIENTATION, EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x0112, 0x8769, 0x8825, 0xA005
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_WIDTH_TAGS, _HEIGHT_TAGS = {0x0100, 0xA002}, {0x0101, 0xA003}
SHORT, LONG, RATIONAL = 3, 4, 5
# Bytes of a value of each type (TIFF 6.0 page 15; IFD, and BigTIFF's LONG8, SLONG8 and IFD8).
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_BIG_SIZES = {**_SIZES, 16: 8, 17: 8, 18: 8}

# What a TIFF's first directory says of the picture, and not of how its pixels lie in the file:
# EXIF 2.32 table 4, document and page name, host, Windows' rating, title, comment, author, …
_DESCRIBING = frozenset(
    {0x010D, 0x010E, 0x010F, 0x0110, ORIENTATION, X_RESOLUTION, Y_RESOLUTION, 0x011D}
    | {RESOLUTION_UNIT, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x4749, 0x8298}
    | {0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F, EXIF_IFD, GPS_IFD}
)
_DEEPEST = 3  # directories below each other: the first, EXIF's, interoperability


@dataclass(frozen=True)
class Entry:
    """An entry of a directory.

    Attributes:
        kind: the TIFF type of its values.
        count: how many there are.
        data: their bytes, in the block's byte order.
        at: where in the block its 12 bytes stand.
    """

    kind: int
    count: int
    data: bytes
    at: int


def _order(block: bytes) -> str | None:
    return {b"II": "<", b"MM": ">"}.get(block[:2]) if len(block) >= 8 else None


def _directory(block: bytes, order: str, start: int, big: bool = False) -> dict[int, Entry]:
    """The entries of the directory at ``start``, as far as they lie within the block."""
    head, entry, long = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
    sizes = _BIG_SIZES if big else _SIZES
    found: dict[int, Entry] = {}
    if not 8 <= start <= len(block) - struct.calcsize(order + head):
        return found
    (count,) = struct.unpack_from(order + head, block, start)
    start += struct.calcsize(order + head)
    step = struct.calcsize(order + entry)
    for at in range(start, min(start + count * step, len(block) - step + 1), step):
        tag, kind, values, inline = struct.unpack_from(order + entry, block, at)
        length = sizes.get(kind, 0) * values
        data = inline[:length]
        if length > len(inline):
            (there,) = struct.unpack(order + long, inline)
            data = block[there : there + length]
        if length and len(data) == length:
            found[tag] = Entry(kind, values, data, at)
    return found


def _number(entry: Entry, order: str) -> int | None:
    """The value of an entry that is one whole number."""
    letter = {SHORT: "H", LONG: "I", 13: "I", 16: "Q", 18: "Q"}.get(entry.kind)
    if letter is None or entry.count != 1:
        return None
    value: int = struct.unpack(order + letter, entry.data)[0]
    return value


def first_directory(block: bytes) -> tuple[str, dict[int, Entry]]:
    """The byte order of a block, as ``struct`` writes it, and its first directory's entries.

    A block that is none has the order "<" and no entries.
    """
    order = _order(block)
    if order is None:
        return "<", {}
    (start,) = struct.unpack_from(order + "I", block, 4)
    return order, _directory(block, order, start)


def pack_entries(
    entries: Mapping[int, tuple[int, int, bytes]], order: str, start: int, following: int = 0
) -> bytes:
    """Write a directory that is to stand at ``start``, its long values after it.

    Args:
        entries: tag → (type, count, the values' bytes in the block's order).
        order: "<" or ">".
        start: an even offset in the block.
        following: the offset of the next directory.
    """
    table, values = b"", b""
    behind = start + 2 + 12 * len(entries) + 4
    for tag in sorted(entries):
        kind, count, data = entries[tag]
        if len(data) > 4:
            inline = struct.pack(order + "I", behind + len(values))
            values += data + b"\0" * (len(data) % 2)
        else:
            inline = data.ljust(4, b"\0")
        table += struct.pack(order + "HHI", tag, kind, count) + inline
    head = struct.pack(order + "H", len(entries))
    return head + table + struct.pack(order + "I", following) + values


def settle_exif(exif: bytes, width: int, height: int) -> bytes:
    """Return EXIF that is true of an upright picture of this size, all else byte for byte.

    Where the picture lay turned, its thumbnail, which lay so too, is cut off.

    Args:
        exif: a TIFF block without its ``Exif`` heading; a damaged one is settled as far as it goes.
        width: pixels of the result.
        height: pixels of the result.
    """
    order = _order(exif)
    if order is None:
        return exif
    block = bytearray(exif)
    (first,) = struct.unpack_from(order + "I", exif, 4)
    pending, seen = [first], set[int]()
    while pending:
        start = pending.pop()
        if start in seen:
            continue
        seen.add(start)
        for tag, entry in _directory(exif, order, start).items():
            value = _number(entry, order)
            if value is None:
                continue
            if tag == EXIF_IFD:
                pending.append(value)
            if tag == ORIENTATION and value != 1 and start == first:
                _cut_thumbnail(block, order, first)
            _settle(block, order, entry, _new_value(tag, width, height))
    return bytes(block)


def _settle(block: bytearray, order: str, entry: Entry, new: int | None) -> None:
    if new is None:
        return
    if entry.kind == SHORT and new < 1 << 16:
        struct.pack_into(order + "H", block, entry.at + 8, new)
    elif entry.kind == LONG:
        struct.pack_into(order + "I", block, entry.at + 8, new)
    else:  # the size outgrew its 16 bits; the entry is as wide as a 32-bit one
        struct.pack_into(order + "HII", block, entry.at + 2, LONG, 1, new)


def _cut_thumbnail(block: bytearray, order: str, first: int) -> None:
    (count,) = struct.unpack_from(order + "H", block, first)
    link = first + 2 + 12 * count
    if link + 4 <= len(block):
        struct.pack_into(order + "I", block, link, 0)


def _new_value(tag: int, width: int, height: int) -> int | None:
    if tag == ORIENTATION:
        return 1
    if tag in _WIDTH_TAGS:
        return width
    return height if tag in _HEIGHT_TAGS else None


def with_dpi(exif: bytes, dpi: tuple[float, float] | None) -> bytes:
    """Return EXIF that states a resolution, for formats that hold one nowhere else.

    A block that states one already is returned as it is, and so is a damaged one.

    Args:
        exif: a block; an empty one is made.
        dpi: dots per inch, horizontal and vertical; None changes nothing.
    """
    if dpi is None:
        return exif
    block = exif or b"II*\0\x08\0\0\0\0\0\0\0\0\0"
    order, entries = first_directory(block)
    if _order(block) is None or X_RESOLUTION in entries or Y_RESOLUTION in entries:
        return exif
    packed = {tag: (entry.kind, entry.count, entry.data) for tag, entry in entries.items()}
    return _with_first_directory(block, order, packed | dpi_entries(dpi, order))


def without_orientation(exif: bytes) -> bytes:
    """Return EXIF that says nothing of orientation, all else as it was."""
    order, entries = first_directory(exif)
    if ORIENTATION not in entries:
        return exif
    packed = {tag: (entry.kind, entry.count, entry.data) for tag, entry in entries.items()}
    del packed[ORIENTATION]
    return _with_first_directory(exif, order, packed)


def _with_first_directory(
    block: bytes, order: str, entries: Mapping[int, tuple[int, int, bytes]]
) -> bytes:
    """A block whose first directory stands anew at its end; nothing else moves."""
    (old,) = struct.unpack_from(order + "I", block, 4)
    following = 0
    if old + 2 <= len(block):
        (count,) = struct.unpack_from(order + "H", block, old)
        if old + 2 + 12 * count + 4 <= len(block):
            (following,) = struct.unpack_from(order + "I", block, old + 2 + 12 * count)
    block += b"\0" * (len(block) % 2)
    patched = bytearray(block + pack_entries(entries, order, len(block), following))
    struct.pack_into(order + "I", patched, 4, len(block))
    return bytes(patched)


def dpi_entries(dpi: tuple[float, float], order: str) -> dict[int, tuple[int, int, bytes]]:
    """The entries that state a resolution in dots per inch."""
    found = {RESOLUTION_UNIT: (SHORT, 1, struct.pack(order + "H", 2))}
    for tag, value in zip((X_RESOLUTION, Y_RESOLUTION), dpi, strict=True):
        ratio = Fraction(min(value, 1e6)).limit_denominator(4000)  # both numbers within 32 bits
        data = struct.pack(order + "II", ratio.numerator, ratio.denominator)
        found[tag] = (RATIONAL, 1, data)
    return found


def exif_of_tiff(content: bytes) -> bytes:
    """The EXIF that a TIFF file holds among its own entries, as a block of its own.

    Maker notes that count offsets from the file's start lose what those point to.

    Args:
        content: a TIFF or BigTIFF file; of a damaged one what is whole is taken.

    Returns:
        A block in the file's byte order; empty if the file describes nothing.
    """
    order = _order(content)
    if order is None or len(content) < 16:
        return b""
    (version,) = struct.unpack_from(order + "H", content, 2)
    big = version == 43
    (start,) = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)
    entries = _directory(content, order, start, big)
    kept = {tag: entry for tag, entry in entries.items() if tag in _DESCRIBING}
    if not kept:
        return b""
    head = content[:2] + struct.pack(order + "HI", 42, 8)
    return head + _copied(content, order, kept, 8, big, 1)


def _copied(
    content: bytes, order: str, entries: Mapping[int, Entry], start: int, big: bool, depth: int
) -> bytes:
    """A directory for the place ``start`` of a block, those that it points to behind it."""
    packed: dict[int, tuple[int, int, bytes]] = {}
    below: dict[int, dict[int, Entry]] = {}
    for tag, entry in entries.items():
        if tag not in (EXIF_IFD, GPS_IFD, INTEROP_IFD):
            if entry.kind in _SIZES:
                packed[tag] = (entry.kind, entry.count, entry.data)
            continue
        there = _number(entry, order)
        inner = _directory(content, order, there, big) if there and depth < _DEEPEST else {}
        if inner:
            packed[tag] = (LONG, 1, b"\0\0\0\0")
            below[tag] = inner
    size = len(pack_entries(packed, order, start))
    behind = b""
    for tag, directory in below.items():
        place = start + size + len(behind)
        packed[tag] = (LONG, 1, struct.pack(order + "I", place))
        behind += _copied(content, order, directory, place, big, depth + 1)
    return pack_entries(packed, order, start) + behind
