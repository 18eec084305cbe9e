from __future__ import annotations

import io

import pytest
from PIL import Image, ImageCms

from adapool_sr.io.metadata import Metadata, png_chunks, splice_png, stripped


def exif_block() -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "Maker of cameras"
    return exif.tobytes().removeprefix(b"Exif\0\0")


def test_chunks_that_are_spliced_in_are_read_back_by_pillow() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2)).save(stream, "PNG")
    meta = Metadata(
        exif=exif_block(),
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


def test_stripping_keeps_what_a_png_says_of_its_colours_and_names_a_profile_that_mattered() -> None:
    chunks = ((b"tEXt", b"Title\0A name"), (b"gAMA", b"\0\0\xb1\x8f"))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    meta = Metadata(
        exif=b"x", icc=srgb, xmp=b"x", iptc=b"x", comment=b"x", dpi=(1, 1), chunks=chunks
    )
    assert stripped(meta) == (Metadata(chunks=chunks[1:]), [])
    _, lost = stripped(Metadata(icc=b"damaged"))
    assert lost == ["without its colour profile 'unreadable' its colours will look different"]
