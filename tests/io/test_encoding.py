from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from adapool_sr.io.encoding import encode
from adapool_sr.io.metadata import Metadata

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RGB = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)


def test_a_profile_that_does_not_fit_is_left_out_and_named() -> None:
    content, lost = encode(RGB[:, :, :1], Metadata(icc=SRGB), "png", quality=None)
    assert lost == ["its colour profile, for RGB, does not fit and is left out"]
    assert b"iCCP" not in content
    for kind in ("png", "webp", "tiff", "avif", "jpg"):
        assert encode(RGB, Metadata(icc=SRGB), kind, quality=None)[1] == []


@pytest.mark.parametrize("kind", ["jpg", "webp", "tiff", "bmp", "avif"])
def test_a_text_of_a_png_that_has_no_place_is_named(kind: str) -> None:
    meta = Metadata(chunks=((b"tEXt", b"parameters\0steps"), (b"gAMA", b"\0\0\xb1\x8f")))
    assert encode(RGB, meta, kind, quality=90)[1] == [
        f"its text 'parameters' has no place in a {kind}"
    ]


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_in_a_bmp_is_found_by_other_readers(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, channels), dtype=np.uint8)
    content, _ = encode(pixels, Metadata(dpi=(300, 300)), "bmp", quality=None)
    wanted = pixels if channels == 4 else pixels[:, :, [0, 0, 0, 1]]
    again = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert again is not None
    assert np.array_equal(again[:, :, [2, 1, 0, 3]], wanted)
    with Image.open(io.BytesIO(content)) as image:
        assert np.array_equal(np.asarray(image), wanted)
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_an_avif_of_a_quality_keeps_its_colours_at_full_resolution() -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    content, _ = encode(stripes, Metadata(), "avif", quality=95)
    found = np.asarray(Image.open(io.BytesIO(content)))
    assert np.abs(found.astype(int) - stripes).max() < 60  # halved colours would be 128 off


def test_a_jpegs_comment_goes_into_a_png() -> None:
    content, lost = encode(RGB, Metadata(comment=b"caf\xe9"), "png", quality=None)
    assert lost == []
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.info["Comment"] == "café"
