from __future__ import annotations

import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from adapool_sr.io.exif import pack_entries
from adapool_sr.io.iptc import blocks_of_iptc
from adapool_sr.io.metadata import Metadata
from adapool_sr.io.tiff import encode_tiff


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("order", ["II", "MM"])
def test_other_readers_find_the_same_pixels(dtype: type, channels: int, order: str) -> None:
    rng = np.random.default_rng(channels)
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, (700, 801, channels), dtype=dtype)
    letter = "<" if order == "II" else ">"
    maker = {0x010F: (2, 6, b"Maker\0")}
    exif = order.encode() + struct.pack(letter + "HI", 42, 8) + pack_entries(maker, letter, 8)
    content = encode_tiff(pixels, Metadata(exif=exif))
    assert content[:2] == order.encode()
    if channels < 4 or dtype == np.uint16:  # OpenCV multiplies colours by alpha in 8 bits
        again = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert again is not None
        order_of = [2, 1, 0, 3][:channels] if channels > 1 else [0]
        assert np.array_equal(again.reshape(700, 801, channels)[:, :, order_of], pixels)
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.getexif()[0x010F] == "Maker"
        if dtype == np.uint8:
            assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_what_maker_notes_point_to_stays_where_it_was() -> None:
    notes = b"at 100: " + struct.pack("<I", 100)
    inner = pack_entries({0x927C: (7, len(notes), notes)}, "<", 26)
    block = b"II*\0\x08\0\0\0" + pack_entries({0x8769: (4, 1, struct.pack("<I", 26))}, "<", 8)
    block = (block + inner).ljust(100, b"\0") + b"what it points to"
    content = encode_tiff(np.zeros((2, 2, 3), np.uint8), Metadata(exif=block))
    assert content[100:117] == b"what it points to"
    assert content[8 : len(block)] == block[8:]


def test_profile_xmp_iptc_and_resolution_stand_in_their_entries() -> None:
    iptc = b"\x1c\x02\x05\x00\x05title"
    meta = Metadata(icc=b"p" * 130, xmp=b"<x/>", iptc=blocks_of_iptc(iptc), dpi=(300, 72.5))
    with Image.open(io.BytesIO(encode_tiff(np.zeros((2, 2, 1), np.uint8), meta))) as image:
        assert image.info["icc_profile"] == meta.icc
        assert image.info["xmp"] == meta.xmp
        assert image.info["dpi"] == (300, 72.5)
        tags = image.tag_v2  # type: ignore[attr-defined]
        assert (tags[33723], tags[34377]) == (iptc, meta.iptc)


def test_a_smooth_picture_is_compressed() -> None:
    ramp = np.mgrid[0:200, 0:300].sum(0).astype(np.uint16)[:, :, None] * 100
    assert len(encode_tiff(ramp, Metadata())) < ramp.nbytes / 20
