from __future__ import annotations

import io

import pytest
from PIL import Image

from adapool_sr.io.metadata import Metadata, png_chunks, settle_exif, settle_xmp, splice_png


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


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'<x tiff:Orientation="8" a="8"/>', b'<x tiff:Orientation="1" a="8"/>'),
        (b"<tiff:Orientation>6</tiff:Orientation>", b"<tiff:Orientation>1</tiff:Orientation>"),
        (b"<dc:title>6</dc:title>", b"<dc:title>6</dc:title>"),
    ],
)
def test_xmp_says_upright(before: bytes, after: bytes) -> None:
    assert settle_xmp(before) == after


def test_chunks_that_are_spliced_in_are_read_back_by_pillow() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2)).save(stream, "PNG")
    meta = Metadata(
        exif=exif_block(width=3),
        icc=b"\0" * 128,
        xmp="<x>é</x>".encode(),
        dpi=(300.0, 150.0),
        chunks=((b"tEXt", b"Title\0A name"), (b"gAMA", b"\0\0\xb1\x8f")),
    )
    data = splice_png(stream.getvalue(), meta)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.info["exif"].removeprefix(b"Exif\0\0") == meta.exif
        assert image.info["icc_profile"] == meta.icc
        assert image.info["xmp"] == meta.xmp
        assert image.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        assert image.info["Title"] == "A name"
        assert image.info["gamma"] == pytest.approx(0.45455)
    assert png_chunks(data) == [(b"tEXt", b"Title\0A name"), (b"gAMA", b"\0\0\xb1\x8f")]


def test_no_cut_of_a_png_breaks_the_walk_over_its_chunks() -> None:
    stream = io.BytesIO()
    Image.new("L", (3, 2)).save(stream, "PNG")
    data = splice_png(stream.getvalue(), Metadata(chunks=((b"tEXt", b"Title\0A name"),)))
    for cut in range(len(data)):
        assert png_chunks(data[:cut]) in ([], [(b"tEXt", b"Title\0A name")])
