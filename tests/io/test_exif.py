from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from adapool_sr.io.exif import (
    exif_of_tiff,
    pack_entries,
    settle_exif,
    with_dpi,
    without_orientation,
)
from adapool_sr.io.metadata import Metadata
from adapool_sr.io.tiff import encode_tiff


def exif_block(**sizes: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker of cameras"
    exif.get_ifd(0x8769).update({0xA002: sizes["width"], 0xA003: 30, 0x927C: b"note \x01\x02"})
    exif.get_ifd(0x8825).update({1: "N"})
    return exif.tobytes().removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("width", [40, 80_000])
def test_exif_is_upright_and_of_the_new_size_and_else_untouched(width: int) -> None:
    before = exif_block(width=40)
    after = settle_exif(before, width, 60)
    read = Image.Exif()
    read.load(after)
    inner = read.get_ifd(0x8769)
    assert (read[0x0112], inner[0xA002], inner[0xA003]) == (1, width, 60)
    assert read[0x010F] == "Maker of cameras"
    assert inner[0x927C] == b"note \x01\x02"
    assert len(after) == len(before)
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    assert len(changed) <= 12


def test_no_cut_of_exif_raises() -> None:
    whole = exif_block(width=40)
    for cut in range(len(whole)):
        assert len(settle_exif(whole[:cut], 8, 8)) == cut


def test_an_exif_directory_that_points_at_itself_ends() -> None:
    loop = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x69\x87\x04\0\x01\0\0\0\x08\0\0\0" + b"\0\0\0\0"
    assert settle_exif(loop, 1, 1) == loop


def test_the_thumbnail_of_a_turned_picture_is_cut_off() -> None:
    def with_thumbnail(orientation: int) -> bytes:
        entry = b"\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([orientation, 0, 0, 0])
        return b"II*\0\x08\0\0\0" + entry + b"\x1a\0\0\0" + b"\0\0\0\0\0\0"

    assert settle_exif(with_thumbnail(1), 4, 4) == with_thumbnail(1)
    assert settle_exif(with_thumbnail(6), 4, 4) == with_thumbnail(1).replace(
        b"\x1a\0\0\0", b"\0\0\0\0"
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_resolution_is_added_where_none_is_stated(order: str) -> None:
    inner = pack_entries({0x927C: (7, 9, b"the notes")}, order, 26)
    link = struct.pack(order + "I", 26)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8)
    block = head + pack_entries({0x8769: (4, 1, link)}, order, 8) + inner
    after = with_dpi(block, (300, 72.5))
    assert after[8 : len(block)] == block[8:]  # nothing moves
    read = Image.Exif()
    read.load(after)
    assert (read[0x011A], read[0x011B], read[0x0128]) == (300, 72.5, 2)
    assert read.get_ifd(0x8769)[0x927C] == b"the notes"
    assert with_dpi(after, (10, 10)) == after
    assert with_dpi(b"damaged!", (10, 10)) == b"damaged!"
    assert with_dpi(b"", None) == b""
    read = Image.Exif()
    read.load(with_dpi(b"", (96, 96)))
    assert read[0x011A] == 96


def test_the_exif_of_a_tiff_is_taken_out_of_its_entries() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker of cameras", 1
    exif.get_ifd(0x8769).update({0x9003: "2026:01:01 00:00:00", 0x829A: 0.01})
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    before = exif.tobytes().removeprefix(b"Exif\0\0")
    content = encode_tiff(np.zeros((7, 9, 3), np.uint8), Metadata(exif=before, dpi=(300, 300)))
    block = exif_of_tiff(content)
    read = Image.Exif()
    read.load(block)
    assert read[0x010F] == "Maker of cameras"
    assert read[0x011A] == 300
    assert read.get_ifd(0x8769)[0x9003] == "2026:01:01 00:00:00"
    assert read.get_ifd(0x8825)[2] == (1.0, 2.0, 3.0)
    assert 273 not in read  # where its pixels lie
    assert len(block) < len(before) + 100
    for cut in range(len(content)):
        exif_of_tiff(content[:cut])


def test_a_bigtiffs_exif_is_found_too() -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker of cameras"
    stream = io.BytesIO()
    Image.new("RGB", (9, 7)).save(stream, "TIFF", exif=exif, big_tiff=True)
    assert stream.getvalue()[2] == 43
    read = Image.Exif()
    read.load(exif_of_tiff(stream.getvalue()))
    assert dict(read) == {0x010F: "Maker of cameras"}


def test_an_orientation_is_taken_out_and_nothing_moves() -> None:
    before = exif_block(width=40)
    after = without_orientation(before)
    assert after[8 : len(before)] == before[8:]
    read = Image.Exif()
    read.load(after)
    assert 0x0112 not in read
    assert read[0x010F] == "Maker of cameras"
    assert read.get_ifd(0x8769)[0x927C] == b"note \x01\x02"
    assert without_orientation(after) == after
