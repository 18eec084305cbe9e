from __future__ import annotations

import pytest
from PIL import Image

from adapool_sr.io.exif import settle_exif


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
