from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from adapool_sr.io.decoding import decode, probe
from adapool_sr.io.iptc import blocks_of_iptc


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def press_profile() -> bytes:
    """A CMYK profile of a press whose cyan ink is pink, the next two white (ICC.1:2001)."""

    def corner(index: int) -> bytes:  # L*a*b* of full inks: C 8, M 4, Y 2, K 1
        if index & 1:
            return bytes([0, 128, 128])
        return bytes([150, 128 + 60, 128]) if index & 8 else bytes([255, 128, 128])

    identity = bytes(range(256))
    unit = struct.pack(">9i", *(65536 if index % 4 == 0 else 0 for index in range(9)))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + unit + identity * 4
    table += b"".join(corner(index) for index in range(16)) + identity * 3
    words = b"pink press\0"
    name = b"desc\0\0\0\0" + struct.pack(">I", len(words)) + words + b"\0" * 78
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    parts, body, tags = (b"A2B0", table), (b"desc", name), (b"wtpt", white)
    at, index, content = 128 + 4 + 12 * 3, struct.pack(">I", 3), b""
    for key, data in (parts, body, tags):
        data += b"\0" * (-len(data) % 4)
        index += key + struct.pack(">II", at + len(content), len(data))
        content += data
    size = at + len(content)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head = head.ljust(36, b"\0") + b"acsp"
    head = head.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + index + content


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_has_the_colours_of_its_profile(kind: str) -> None:
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    options = {"quality": 100} if kind == "JPEG" else {}
    found = decode(encoded(cyan, kind, icc_profile=press_profile(), **options))
    lab = Image.new("LAB", (1, 1), (150, 188, 128))
    to_srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    wanted = ImageCms.profileToProfile(lab, *to_srgb, outputMode="RGB")
    assert wanted is not None
    assert np.abs(found.pixels[0, 0].astype(int) - wanted.getpixel((0, 0))).max() <= 3
    assert found.pixels[0, 0, 0] > found.pixels[0, 0, 1] + 60  # pink, where cyan has no red
    assert found.metadata.icc == b""
    plain = decode(encoded(cyan, kind, **options))
    assert plain.pixels[0, 0].tolist() == pytest.approx([0, 255, 255], abs=3)


def test_lab_becomes_srgb() -> None:
    content = encoded(Image.new("LAB", (4, 4), (150, 188, 128)), "TIFF")
    red, green, _ = decode(content).pixels[0, 0].astype(int)
    assert red > green + 60


def test_a_turned_tiff_is_turned_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :8] = 255
    content = encoded(Image.fromarray(pixels), "TIFF", exif=exif)
    assert probe(content)[:2] == (16, 32)
    found = decode(content).pixels
    assert found.shape == (32, 16, 3)
    assert found[:8, 8:].min() == 255


def test_a_turned_heic_and_jpeg_xl_are_turned_by_their_decoders_alone() -> None:
    import pillow_heif
    import pillow_jxl  # noqa: F401

    pillow_heif.register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:32, :32] = 255
    heic = decode(encoded(Image.fromarray(pixels), "HEIF", exif=exif.tobytes(), quality=95)).pixels
    assert heic.shape == (128, 64, 3)
    assert heic[:24, 40:].min() > 200
    # In JPEG XL the codestream says how it lies, and EXIF has no say (ISO 18181-2, 9.5.6).
    jxl = encoded(Image.fromarray(pixels), "JXL", exif=exif.tobytes(), lossless=True)
    assert np.array_equal(decode(jxl).pixels, pixels)


def test_jpeg_xl_keeps_exif_xmp_and_profile_and_tells_a_depth_that_is_lost() -> None:
    import pillow_jxl  # noqa: F401

    exif = Image.Exif()
    exif[0x010F] = "Maker"
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    content = encoded(
        Image.new("RGB", (9, 9)), "JXL", exif=block, xmp=b"<x/>", lossless=True, use_container=True
    )
    found = decode(content)
    assert (found.metadata.exif, found.metadata.xmp, found.lossless) == (block, b"<x/>", True)
    grey = encoded(Image.fromarray(np.full((4, 4), 4000, np.uint16)), "JXL", lossless=True)
    assert decode(grey).pixels[0, 0, 0] == 4000  # grey is read whole
    assert decode(grey).lost == ()


def test_old_text_profiles_of_a_png_are_read() -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    block = exif.tobytes()
    iptc = blocks_of_iptc(b"\x1c\x02\x05\x00\x05title")
    info = PngImagePlugin.PngInfo()
    for kind, data in (("exif", block), ("iptc", iptc)):
        info.add_text(f"Raw profile type {kind}", f"\n{kind}\n{len(data):8d}\n{data.hex()}\n")
    found = decode(encoded(Image.new("RGB", (3, 3)), "PNG", pnginfo=info)).metadata
    assert found.exif == block.removeprefix(b"Exif\0\0")
    assert found.iptc == iptc
    assert found.chunks == ()


def test_a_resolution_that_a_tiff_does_not_state_is_not_supposed() -> None:
    assert decode(encoded(Image.new("RGB", (3, 3)), "TIFF")).metadata.dpi is None
    assert decode(encoded(Image.new("RGB", (3, 3)), "TIFF", dpi=(72, 72))).metadata.dpi == (72, 72)


def test_an_avif_says_whether_it_is_without_loss() -> None:
    from adapool_sr.io.images import from_array, to_bytes

    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert decode(to_bytes(from_array(pixels), "avif")[0]).lossless
    assert not decode(to_bytes(from_array(pixels), "avif", 90)[0]).lossless


def test_a_phones_further_pictures_are_named() -> None:
    stream = io.BytesIO()
    photo = Image.new("RGB", (16, 8), (90, 30, 10))
    photo.save(stream, "MPO", save_all=True, append_images=[photo.copy()])
    found = decode(stream.getvalue())
    assert found.format == "mpo"
    assert len(found.lost) == 1
    assert "it holds another picture" in found.lost[0]
