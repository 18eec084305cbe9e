from __future__ import annotations

import io

import pytest
from PIL import Image

from adapool_sr.io.iptc import (
    blocks_of_iptc,
    from_raw_profile,
    iptc_of_blocks,
    jpeg_segments,
    raw_profile,
)

IPTC = b"\x1c\x02\x05\x00\x05title\x1c\x02\x19\x00\x03key"


def test_bare_iptc_is_found_again_among_other_blocks() -> None:
    other = b"8BIM\x03\xed\x03abc\0\0\0\x02xx"  # with a name of odd length
    for blocks in (blocks_of_iptc(IPTC), other + blocks_of_iptc(IPTC) + other):
        assert iptc_of_blocks(blocks) == IPTC
    assert iptc_of_blocks(other) == b""
    for cut in range(len(other)):
        iptc_of_blocks(other[:cut])


@pytest.mark.parametrize("size", [10, 65519, 65520, 200_000])
def test_blocks_of_any_length_go_into_a_jpeg_and_come_back(size: int) -> None:
    blocks = blocks_of_iptc(b"x" * size)
    stream = io.BytesIO()
    Image.new("L", (2, 2)).save(stream, "JPEG", extra=jpeg_segments(blocks))
    from adapool_sr.io.decoding import decode

    assert decode(stream.getvalue()).metadata.iptc == blocks


def test_a_profile_as_text_is_read_as_it_was_written() -> None:
    name, body = raw_profile("iptc", IPTC).split(b"\0\0", 1)
    assert name == b"Raw profile type iptc"
    import zlib

    assert from_raw_profile(zlib.decompress(body).decode()) == IPTC
    for text in (None, "", "iptc", "iptc 3", "iptc x 00", "iptc 3 zz"):
        assert from_raw_profile(text) == b""
