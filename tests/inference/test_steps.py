from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageCms

from adapool_sr.inference.steps import Options, encode_result, read_input
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.images import read

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description rdf:about=""/></rdf:RDF></x:xmpmeta>'
)


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler.from_pretrained("tiny-x2")


def photo(xmp: bytes = XMP) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x0112] = 6
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    stream = io.BytesIO()
    image = Image.new("RGB", (16, 8), (200, 100, 50))
    image.save(stream, "JPEG", exif=exif, icc_profile=icc, xmp=xmp, dpi=(300, 300))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tiff", "avif"])
def test_a_result_names_tool_model_hash_and_scale(upscaler: Upscaler, kind: str) -> None:
    source, options = photo(), Options()
    picture, lost = read_input(source, "x", kind, upscaler, options, output="y")
    content, more = encode_result(upscaler.upscale_picture(picture), kind, options, "y")
    assert lost + more == []
    found = read(content).metadata
    assert upscaler.spec is not None
    for words in ("adapool-sr 0.", 'Model="tiny-x2"', upscaler.spec.sha256, 'Scale="2"'):
        assert words.encode() in found.xmp
    assert found.icc == read(source).metadata.icc
    exif = Image.Exif()
    exif.load(found.exif)
    assert (exif[0x010F], exif.get(0x0112, 1)) == ("Maker", 1)
    assert found.dpi == pytest.approx((300, 300), abs=0.1) or exif[0x011A] == 300


@pytest.mark.parametrize("kind", ["png", "jpg", "webp", "tiff", "avif", "bmp"])
def test_strip_leaves_nothing(upscaler: Upscaler, kind: str) -> None:
    options = Options(strip=True)
    picture, lost = read_input(photo(), "x", kind, upscaler, options, output="y")
    content, _ = encode_result(upscaler.upscale_picture(picture), kind, options, "y")
    found = read(content).metadata
    assert lost == []
    assert (found.exif, found.icc, found.xmp, found.iptc) == (b"", b"", b"", b"")
    assert found.dpi is None or kind == "bmp"  # whose header has no other way
    assert read(content).pixels.shape == (3, 32, 16)


def test_a_packet_without_room_stays_as_it_is_and_is_named(upscaler: Upscaler) -> None:
    full = XMP + b" " * (65533 - 29 - len(XMP))
    for packet in (b"<x/>", full):
        picture, lost = read_input(photo(packet), "x", "jpg", upscaler, Options(), output="y")
        assert lost == ["its XMP has no room for what enlarged it"]
        assert picture.metadata.xmp == packet


def test_what_could_not_be_read_is_told(upscaler: Upscaler, tmp_path: Path) -> None:
    import struct

    from adapool_sr.io.metadata import Metadata
    from adapool_sr.io.tiff import encode_tiff

    data = bytearray(encode_tiff(torch.zeros(4, 5, 4, dtype=torch.uint16).numpy(), Metadata()))
    at = data.index(struct.pack("<HHIH", 262, 3, 1, 2))
    struct.pack_into("<H", data, at + 8, 5)  # CMYK
    at = data.index(struct.pack("<HHIH", 338, 3, 1, 2))
    struct.pack_into("<H", data, at, 65000)
    _, lost = read_input(bytes(data), "x", "png", upscaler, Options(), output="y")
    assert lost[1:] == ["its 16 bits are read as 8"]
    assert "no whole profile for its printing inks" in lost[0]
