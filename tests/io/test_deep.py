from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import pillow_heif
import pytest
from numpy.typing import NDArray

from adapool_sr.files.errors import UnreadableFileError
from adapool_sr.io.decoding import decode
from adapool_sr.io.exif import pack_entries

Deep = NDArray[np.uint16]

# 24 steps that all lie within one step of 8 bits.
RAMP: Deep = np.broadcast_to(
    np.arange(20000, 20240, 10, dtype=np.uint16)[None, :, None] + np.array([0, 3, 6], np.uint16),
    (6, 24, 3),
).copy()


def opencv(suffix: str, pixels: Deep, *options: int) -> bytes:
    done, data = cv2.imencode(suffix, pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]], options)
    assert done
    return bytes(data.tobytes())


def tiff(pixels: Deep, order: str = "<", photometric: int = 2, **more: int) -> bytes:
    """A TIFF without compression, in either byte order."""
    height, width, channels = pixels.shape
    body = pixels.astype(f"{order}u2").tobytes()

    def short(*values: int) -> tuple[int, int, bytes]:
        return 3, len(values), struct.pack(f"{order}{len(values)}H", *values)

    entries = {
        256: short(width),
        257: short(height),
        258: short(*[16] * channels),
        259: short(1),
        262: short(photometric),
        273: (4, 1, struct.pack(order + "I", 8)),
        277: short(channels),
        278: short(height),
        279: (4, 1, struct.pack(order + "I", len(body))),
    }
    if "extra" in more:
        entries[338] = short(more["extra"])
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(body))
    return head + body + pack_entries(entries, order, 8 + len(body))


@pytest.mark.parametrize(
    "content",
    [
        opencv(".png", RAMP),
        opencv(".tiff", RAMP, cv2.IMWRITE_TIFF_COMPRESSION, 5),
        opencv(".tiff", RAMP, cv2.IMWRITE_TIFF_COMPRESSION, 8),
        tiff(RAMP, "<"),
        tiff(RAMP, ">"),
        b"P6 # a comment\n24 6\n65535\n" + RAMP.astype(">u2").tobytes(),
    ],
    ids=["png", "tiff-lzw", "tiff-deflate", "tiff-le", "tiff-be", "ppm"],
)
def test_a_ramp_finer_than_one_step_of_eight_bits_is_read_as_it_is(content: bytes) -> None:
    found = decode(content)
    assert np.array_equal(found.pixels, RAMP)
    assert found.lossless
    assert found.lost == ()


def test_ten_and_twelve_bits_fill_the_whole_range() -> None:
    for bits in (10, 12):
        top = (1 << bits) - 1
        values = np.linspace(0, top, 64).astype(np.uint16)
        pixels = np.broadcast_to(values[None, :, None], (64, 64, 3)).copy()
        content = opencv(
            ".avif", pixels, cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_DEPTH, bits
        )
        found = decode(content).pixels
        assert found.dtype == np.uint16
        assert np.abs(found[0, :, 0] - values * (65535 / top)).max() <= 65535 / top + 1


def test_a_heic_of_ten_bits_keeps_them() -> None:
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint16) * 64 + 20000, (64, 64))
    file = pillow_heif.from_bytes("RGB;16", (64, 64), np.stack([ramp] * 3, 2).tobytes())
    stream = io.BytesIO()
    file.save(stream, quality=-1, chroma=444)
    found = decode(stream.getvalue())
    assert found.pixels.dtype == np.uint16
    assert len(np.unique(found.pixels[:, :, 1])) > 40  # 8 bits would be 17
    assert np.abs(found.pixels[:, :, 1].astype(int) - ramp).max() < 300


@pytest.mark.parametrize(("top", "channels"), [(1023, 1), (1023, 3), (65535, 1), (256, 3)])
def test_pnm_values_are_of_their_own_range(top: int, channels: int) -> None:
    values = np.array([0, 1, top // 2, top] * channels, np.uint16)
    magic = b"P6" if channels == 3 else b"P5"
    content = magic + b" 4 1 %d\n" % top + values.astype(">u2").tobytes()
    found = decode(content).pixels.reshape(-1)
    assert np.array_equal(found, np.floor(values * (65535 / top) + 0.5).astype(np.uint16))
    with pytest.raises(ValueError, match=r"truncated or damaged \(.*"):
        decode(content[:-1])


def png(pixels: Deep, colour_type: int, key: bytes) -> bytes:
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    file = b"\x89PNG\r\n\x1a\n"
    for name, body in (
        (b"IHDR", struct.pack(">IIBBBBB", pixels.shape[1], len(pixels), 16, colour_type, 0, 0, 0)),
        (b"tRNS", key),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ):
        file += struct.pack(">I", len(body)) + name + body
        file += struct.pack(">I", zlib.crc32(name + body))
    return file


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3)])
def test_the_one_transparent_colour_of_a_png_is_seen_in_all_its_bits(
    colour_type: int, channels: int
) -> None:
    pixels = RAMP[:, :, :channels]
    key = pixels[0, 7].astype(">u2").tobytes()
    found = decode(png(pixels, colour_type, key)).pixels
    assert np.array_equal(found[:, :, :channels], pixels)
    assert np.array_equal(found[0, :, channels] == 0, np.arange(24) == 7)


def test_extra_channels_of_a_tiff_are_what_it_says_they_are() -> None:
    alpha = np.full((6, 24, 1), 32768, np.uint16)
    plain = np.dstack([RAMP, alpha])
    assert np.array_equal(decode(tiff(plain, extra=2)).pixels, plain)
    assert np.array_equal(decode(tiff(plain, extra=0)).pixels, RAMP)
    multiplied = plain.copy()
    multiplied[:, :, :3] = np.round(RAMP * (32768 / 65535))
    found = decode(tiff(multiplied, extra=1)).pixels
    assert np.abs(found.astype(int) - plain).max() <= 1


def test_white_may_be_zero() -> None:
    assert np.array_equal(
        decode(tiff(65535 - RAMP[:, :, :1], photometric=0)).pixels, RAMP[:, :, :1]
    )


def test_cmyk_of_sixteen_bits_says_that_it_is_read_as_eight() -> None:
    found = decode(tiff(np.dstack([RAMP, RAMP[:, :, :1]]), photometric=5))
    assert found.pixels.dtype == np.uint8
    assert found.lost[1:] == ("its 16 bits are read as 8",)
    assert "no whole profile for its printing inks" in found.lost[0]


@pytest.mark.parametrize(
    "make",
    [lambda: opencv(".png", RAMP), lambda: tiff(RAMP), lambda: opencv(".tiff", RAMP)],
    ids=["png", "tiff", "tiff-lzw"],
)
def test_damage_is_told_by_an_error(
    make: Callable[[], bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    data, rng = make(), np.random.default_rng(5)
    for _ in range(60):
        mutated = bytearray(data)
        for at in rng.integers(8, len(data), 6):
            mutated[at] = int(rng.integers(256))
        try:
            decode(bytes(mutated), 1_000_000)
        except UnreadableFileError as error:
            assert error.what == "standard input"  # noqa: PT017
    said = capfd.readouterr()
    assert said.out == ""
    if data.startswith(b"\x89PNG"):  # libtiff, inside Pillow, prints what it finds
        assert said.err == ""
