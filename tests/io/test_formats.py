from __future__ import annotations

import importlib.util
import io
import struct
import zlib
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adapool_sr.files.errors import MissingExtraError, UnreadableFileError
from adapool_sr.io.decoding import decode, probe
from adapool_sr.io.formats import identify


def encoded(kind: str, size: tuple[int, int] = (20, 12), **options: object) -> bytes:
    stream = io.BytesIO()
    image = Image.new("RGB", size, (200, 30, 40))
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    if kind == "JXL":
        import pillow_jxl  # noqa: F401
    image.save(stream, kind, **options)
    return stream.getvalue()


KINDS = ["PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "AVIF", "HEIF", "JXL"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_format_is_told_by_its_first_bytes(kind: str, tmp_path: Path) -> None:
    content = encoded(kind)
    found = identify(content[:64])
    assert found is not None
    assert found.name == kind
    path = tmp_path / "photo.png"  # whatever its name says
    path.write_bytes(content)
    assert probe(path)[:2] == (20, 12)
    assert decode(path).pixels.shape[:2] == (12, 20)


def test_heic_and_avif_that_call_themselves_a_family_are_told_apart() -> None:
    for brand, name in ((b"avif", "AVIF"), (b"heic", "HEIF")):
        found = identify(b"\0\0\0\x18ftypmif1\0\0\0\0miaf" + brand)
        assert found is not None
        assert found.name == name
    assert identify(b"\0\0\0\x18ftypisom\0\0\0\0isommp42") is None
    assert identify(b"\0\0\0\x10ftyp") is None


@pytest.mark.parametrize(("kind", "extra"), [("HEIF", "heic"), ("JXL", "jxl")])
def test_a_format_whose_extra_is_missing_is_named_with_the_command(
    kind: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import adapool_sr.files.extras as extras

    real = importlib.util.find_spec

    def absent(name: str) -> ModuleSpec | None:
        return None if name in ("pillow_heif", "pillow_jxl") else real(name)

    content = encoded(kind)
    monkeypatch.setattr(extras, "find_spec", absent)
    with pytest.raises(MissingExtraError) as caught:
        decode(content, name="holiday.x")
    wanted = f"holiday.x: needs the extra '{extra}'; run: pip install 'adapool-sr[{extra}]'"
    assert str(caught.value) == wanted


# --- bombs -----------------------------------------------------------------------------------


def png_bomb(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + header + crc + b"\0\0\0\0IDAT" + b"\0" * 4


def stretched(kind: str) -> bytes:
    """A small file whose header claims 16000x16000 pixels (JPEG XL: 16000x800)."""
    side = 16000
    if kind == "PNG":
        return png_bomb(side, side)
    if kind == "JXL":
        return _jxl_header(side)
    data = bytearray(encoded(kind, (64, 64)))  # HEIC crops what is smaller
    if kind == "JPEG":
        at = data.index(b"\xff\xc0") + 5
        struct.pack_into(">HH", data, at, side, side)
    elif kind == "GIF":
        struct.pack_into("<HH", data, 6, side, side)
    elif kind == "BMP":
        struct.pack_into("<ii", data, 18, side, side)
    elif kind == "TIFF":
        for tag in (256, 257):
            for letter, code in ((b"\x03\0", "<HH"), (b"\x04\0", "<I")):
                at = data.find(struct.pack("<H", tag) + letter + b"\x01\0\0\0")
                if at >= 0:
                    values = (side, 0) if code == "<HH" else (side,)
                    struct.pack_into(code, data, at + 8, *values)
    elif kind == "WEBP":
        struct.pack_into("<HH", data, 26, side, side)
    elif kind == "AVIF":
        struct.pack_into(">II", data, data.index(b"ispe") + 8, side, side)
    elif kind == "HEIF":
        at = -1
        while (at := data.find(b"ispe", at + 1)) >= 0:
            struct.pack_into(">II", data, at + 8, side, side)
    elif kind == "PPM":
        data = bytearray(b"P6 %d %d 255\n" % (side, side) + data[-30:])
    return bytes(data)


def _jxl_header(side: int) -> bytes:
    number, at = 0, 0
    for value, bits in (
        (0, 1),
        (1, 2),
        (side // 20 - 1, 13),
        (0, 3),
        (2, 2),
        (side - 1, 18),
        (1, 1),
    ):
        number |= value << at
        at += bits
    return b"\xff\x0a" + number.to_bytes(16, "little")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bomb_of_any_format_is_refused_before_it_is_decoded(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import ImageFile

    def load(self: ImageFile.ImageFile) -> None:
        raise AssertionError("it was decoded")

    content = stretched(kind)
    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    with pytest.raises(UnreadableFileError, match=r"states 16000x\d+ pixels, more than .*--max-p"):
        decode(content, max_pixels=10_000_000)


def test_a_long_text_is_no_bomb_but_one_without_end_is() -> None:
    from PIL import PngImagePlugin

    def with_text(size: int) -> bytes:
        info = PngImagePlugin.PngInfo()
        info.add_text("workflow", "x" * size, zip=True)
        return encoded("PNG", pnginfo=info)

    before = PngImagePlugin.MAX_TEXT_CHUNK
    assert decode(with_text(3_000_000)).metadata.chunks[0][0] == b"zTXt"
    with pytest.raises(UnreadableFileError, match="damaged"):
        decode(with_text(20_000_000))
    assert before == PngImagePlugin.MAX_TEXT_CHUNK


# --- several pictures ------------------------------------------------------------------------


def test_a_tiff_with_a_thumbnail_is_read_and_one_with_two_pages_is_not() -> None:
    def pages(subfile: int) -> bytes:
        small = Image.new("RGB", (5, 3))
        small.encoderinfo = {"tiffinfo": {254: subfile}}
        stream = io.BytesIO()
        Image.new("RGB", (20, 12)).save(stream, "TIFF", save_all=True, append_images=[small])
        return stream.getvalue()

    assert decode(pages(1)).pixels.shape == (12, 20, 3)
    with pytest.raises(UnreadableFileError, match="more than one picture"):
        decode(pages(0))


def test_the_main_picture_of_a_heic_is_read() -> None:
    import pillow_heif

    file: Any = pillow_heif.HeifFile()  # type: ignore[no-untyped-call]
    for value in (10, 200):
        frame = np.full((16, 16, 3), value, np.uint8)
        file.add_frombytes("RGB", (16, 16), frame.tobytes())
    stream = io.BytesIO()
    file.save(stream, quality=90, primary_index=1)
    assert abs(int(decode(stream.getvalue()).pixels.mean()) - 200) < 5
