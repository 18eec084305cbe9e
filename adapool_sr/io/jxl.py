"""What the first bytes of a JPEG XL file state, read before anything is decoded (ISO 18181-1)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["CONTAINER", "Stated", "boxes", "stated"]

#: The first box of a file in a container; a bare codestream begins with FF 0A.
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"

_CODESTREAM = b"\xff\x0a"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # table of SizeHeader


@dataclass(frozen=True)
class Stated:
    """What a file's header says.

    Attributes:
        width: pixels of a row as it is stored.
        height: pixels of a column as it is stored.
        bits: of a value.
        animated: whether it holds more than one picture.
    """

    width: int
    height: int
    bits: int = 8
    animated: bool = False


class _Bits:
    """Reads numbers of few bits, the lowest bit first."""

    def __init__(self, content: bytes) -> None:
        self._value = int.from_bytes(content[:64], "little")
        self._left = 8 * min(len(content), 64)

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the header ends too early")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value

    def choose(self, *cases: tuple[int, int]) -> int:
        """One of four (constant, bits) cases: the constant and a number of so many bits."""
        constant, count = cases[self.take(2)]
        return constant + self.take(count)


def boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (kind, body) of the boxes of a container, up to the first that is cut off."""
    at = 0
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        head = 8
        if size == 1 and at + 16 <= len(content):
            (size,) = struct.unpack_from(">Q", content, at + 8)
            head = 16
        size = size or len(content) - at  # 0: to the file's end
        if size < head or at + size > len(content):
            return
        yield kind, content[at + head : at + size]
        at += size


def stated(content: bytes) -> Stated:
    """Read size, depth and kind from the header of a JPEG XL file.

    Raises:
        ValueError: it has none that can be read.
    """
    if content.startswith(CONTAINER):
        # jxlp boxes number the pieces of a codestream in their first four bytes.
        pieces = {b"jxlc": 0, b"jxlp": 4}
        found = (body[pieces[kind] :] for kind, body in boxes(content) if kind in pieces)
        content = b"".join(piece[:64] for piece in found)
    if not content.startswith(_CODESTREAM):
        raise ValueError("no codestream")
    bits = _Bits(content[2:])
    width, height = _size(bits)
    if bits.take(1):  # all metadata are the usual ones
        return Stated(width, height)
    animated = False
    if bits.take(1):
        bits.take(3)  # orientation, which the decoder applies
        if bits.take(1):
            _size(bits)  # the size it is meant to be shown at
        if bits.take(1):  # a preview, whose length is not worth knowing
            return Stated(width, height)
        animated = bool(bits.take(1))
        if animated:
            return Stated(width, height, animated=True)
    if bits.take(1):  # floating point
        return Stated(width, height, 32)
    return Stated(width, height, bits.choose((8, 0), (10, 0), (12, 0), (1, 6)), animated)


def _size(bits: _Bits) -> tuple[int, int]:
    """SizeHeader: (width, height)."""
    small = bits.take(1)

    def side() -> int:
        return 8 * (1 + bits.take(5)) if small else bits.choose((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.take(3)
    if ratio == 0:
        return side(), height
    above, below = _RATIOS[ratio - 1]
    return height * above // below, height
