from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from adapool_sr.files.errors import MissingFileError, UnreadableFileError, UsageError
from adapool_sr.io.decoding import decode, probe
from adapool_sr.io.images import (
    Picture,
    from_array,
    quantise,
    read,
    read_rgb8,
    to_array,
    to_bytes,
    write,
)
from adapool_sr.io.metadata import Metadata

RGB = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def photo() -> Image.Image:
    ramp = np.mgrid[0:48, 0:64].astype(np.float32)
    return Image.fromarray(np.stack([ramp[0] * 4, ramp[1] * 3, ramp.sum(0)], 2).astype(np.uint8))


# --- what is read ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_their_pixels(kind: str) -> None:
    picture = read(encoded(Image.fromarray(RGB), kind))
    assert picture.pixels.dtype == torch.float32
    assert np.array_equal(to_array(picture), RGB)
    assert picture.lossless
    assert (picture.bit_depth, picture.alpha, picture.grey) == (8, None, False)


@pytest.mark.parametrize(
    ("kind", "options", "lossless"),
    [
        ("JPEG", {"quality": 98}, False),
        ("WEBP", {"quality": 98}, False),
        ("WEBP", {"lossless": True}, True),
        ("AVIF", {"quality": 98}, False),
    ],
)
def test_a_file_says_whether_it_is_lossless(
    kind: str, options: dict[str, Any], lossless: bool
) -> None:
    picture = read(encoded(photo(), kind, **options))
    assert picture.lossless == lossless
    assert np.abs(to_array(picture).astype(int) - np.asarray(photo())).mean() < 4


def test_grey_stays_one_channel() -> None:
    for mode, kind in (("L", "PNG"), ("1", "PNG"), ("L", "JPEG")):
        picture = read(encoded(photo().convert(mode), kind))
        assert picture.grey
        assert picture.pixels.shape == (1, 48, 64)


def test_a_palette_becomes_rgb_and_keeps_its_transparent_entry() -> None:
    image = photo().quantize(16)
    assert read(encoded(image, "PNG")).alpha is None
    picture = read(encoded(image, "PNG", transparency=0))
    assert picture.alpha is not None
    hidden = np.asarray(image) == 0
    assert np.array_equal(picture.alpha[0].numpy() == 0, hidden)
    assert np.array_equal(
        to_array(picture)[~hidden][:, :3], np.asarray(image.convert("RGB"))[~hidden]
    )


def test_grey_with_alpha_keeps_both() -> None:
    pixels = RGB[:, :, :2]
    picture = read(encoded(Image.fromarray(pixels), "PNG"))
    assert picture.grey
    assert np.array_equal(to_array(picture), pixels)


@pytest.mark.parametrize("kind", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_stay_sixteen(channels: int, kind: str) -> None:
    rng = np.random.default_rng(channels)
    pixels = rng.integers(0, 65536, (6, 9, channels), dtype=np.uint16)
    content, lost = to_bytes(from_array(pixels), kind)
    assert lost == []
    picture = read(content)
    if channels == 2 and kind == "tiff":  # is stored as RGBA: Pillow opens no other
        pixels = pixels[:, :, [0, 0, 0, 1]]
    assert picture.bit_depth == 16
    assert np.array_equal(to_array(picture), pixels)


def test_a_grey_and_alpha_png_of_sixteen_bits_is_read_as_such() -> None:
    pixels = np.random.default_rng(1).integers(0, 65536, (4, 3, 2), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", 3, 4, 16, 4, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    data += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert np.array_equal(decode(data).pixels, pixels)


def test_cmyk_is_converted_through_its_profile() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.new("CMYK", (4, 4), (255, 0, 0, 0))
    picture = read(encoded(image, "JPEG", quality=100))
    assert not picture.grey
    assert picture.pixels[:, 0, 0].tolist() == pytest.approx([0, 1, 1], abs=0.02)
    # A profile of another colour space is no help and must not be kept for the RGB result.
    assert read(encoded(image, "TIFF", icc_profile=profile)).metadata.icc == b""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_orientation_is_applied_and_reset(kind: str, orientation: int) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # a quarter that tells all eight apart, with the shape
    turns: dict[int, Any] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = np.ascontiguousarray(turns[orientation](upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    if kind == "JPEG":
        options = {"quality": 100}
    data = encoded(Image.fromarray(stored), kind, exif=exif, **options)
    picture = read(data)
    assert np.abs(to_array(picture).astype(int) - upright).max() <= 3
    again, _ = to_bytes(picture, "png")
    with Image.open(io.BytesIO(again)) as image:
        assert image.size == (32, 16)
        assert image.getexif().get(0x0112) == 1


def test_rgb8_is_three_channels_of_bytes_whatever_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], 9, np.uint8)])
    Image.fromarray(rgba).save(path)
    assert np.array_equal(read_rgb8(path).numpy(), RGB.transpose(2, 0, 1))
    Image.fromarray(RGB[:, :, 0]).save(path)
    assert torch.equal(read_rgb8(path)[0], read_rgb8(path)[2])
    assert read_rgb8(path).is_contiguous()
    cv2.imwrite(str(path), np.array([[[0, 128, 65535]] * 2], np.uint16))
    assert read_rgb8(path)[:, 0, 0].tolist() == [255, 0, 0]
    cv2.imwrite(str(path), np.array([[[0, 129, 386]] * 2], np.uint16))
    assert read_rgb8(path)[:, 0, 0].tolist() == [2, 1, 0]  # nearest, not cut


# --- what is written -------------------------------------------------------------------------


def test_rounding_is_half_up_after_clamping_and_happens_once() -> None:
    x = torch.tensor([-1.0, 0.5 / 255, 0.499 / 255, 2.5 / 255, 254.5 / 255, 7.0])
    assert quantise(x).tolist() == [0, 1, 0, 3, 255, 255]
    assert quantise(torch.tensor([0.5 / 65535, 1.0]), 16).tolist() == [1, 65535]
    every = torch.arange(65536, dtype=torch.int32).to(torch.uint16)
    assert torch.equal(quantise(every.float() / 65535, 16), every)
    assert quantise(every, 16) is every


def test_what_was_lossless_stays_lossless_in_webp() -> None:
    picture = read(encoded(Image.fromarray(RGB), "PNG"))
    content, _ = to_bytes(picture, "webp")
    assert np.array_equal(to_array(read(content)), RGB)
    assert not read(to_bytes(picture, "webp", 90)[0]).lossless
    lossy = read(encoded(photo(), "JPEG"))
    assert not read(to_bytes(lossy, "webp")[0]).lossless


def test_jpeg_is_of_high_quality_without_subsampling() -> None:
    content, _ = to_bytes(read(encoded(photo(), "PNG")), "jpg")
    with Image.open(io.BytesIO(content)) as image:
        assert image.layer[0][1:3] == (1, 1)  # type: ignore[attr-defined]
        assert max(image.quantization[0]) <= 12  # type: ignore[attr-defined]
    smaller, _ = to_bytes(read(encoded(photo(), "PNG")), "jpg", 30)
    assert len(smaller) < len(content)


def test_colours_under_transparent_pixels_survive_webp() -> None:
    rgba = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    rgba[0, 0, 3] = 200
    assert np.array_equal(to_array(read(to_bytes(from_array(rgba), "webp")[0])), rgba)


@pytest.mark.parametrize("kind", ["png", "webp", "tiff", "bmp", "avif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_what_was_lossless_comes_back_to_the_bit(kind: str, channels: int) -> None:
    pixels = np.random.default_rng(channels).integers(0, 256, (31, 33, channels), dtype=np.uint8)
    picture = read(to_bytes(from_array(pixels), kind)[0])
    assert picture.lossless
    again = to_array(picture)
    if again.shape != pixels.shape:  # grey is stored as RGB
        pixels = pixels[:, :, [0, 0, 0, 1] if channels == 2 else [0, 0, 0]]
    assert np.array_equal(again, pixels)


def test_a_jpeg_with_alpha_and_too_large_a_webp_are_refused() -> None:
    rgba = np.dstack([RGB, RGB[:, :, :1]])
    with pytest.raises(UsageError, match=r"partly transparent.*use png or webp"):
        to_bytes(from_array(rgba), "jpg")
    wide = Picture(torch.zeros(1, 1, 16384, dtype=torch.uint8))
    with pytest.raises(UsageError, match=r"16384x1 is more than the 16383.*--format png"):
        to_bytes(wide, "webp")


def test_a_format_of_eight_bits_says_what_it_loses() -> None:
    pixels = np.full((2, 2, 3), 40000, np.uint16)
    content, lost = to_bytes(from_array(pixels), "webp")
    assert lost == ["16 bits become 8, all that webp holds"]
    assert to_array(read(content))[0, 0].tolist() == [156, 156, 156]


def test_the_suffix_chooses_the_format_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    picture = from_array(RGB)
    write(picture, tmp_path / "a.JPEG")
    assert (tmp_path / "a.JPEG").read_bytes()[:2] == b"\xff\xd8"
    with pytest.raises(UsageError, match=r"'\.gif' is not written; use"):
        write(picture, tmp_path / "a.gif")


# --- what travels with it --------------------------------------------------------------------


def rich_metadata() -> Metadata:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    return Metadata(
        exif=exif.tobytes().removeprefix(b"Exif\0\0"),
        icc=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>',
        iptc=b"8BIM\x04\x04\0\0\0\0\0\x0a\x1c\x02\x05\0\x05title",
        comment=b"a comment",
        dpi=(300.0, 300.0),
    )


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("jpg", {"exif", "icc", "xmp", "dpi", "iptc", "comment"}),
        ("png", {"exif", "icc", "xmp", "dpi", "iptc"}),
        ("tiff", {"icc", "xmp", "dpi", "iptc"}),
        ("webp", {"icc", "xmp"}),
        ("avif", {"icc", "xmp"}),
        ("bmp", {"dpi"}),
    ],
)
def test_metadata_survive_a_round_trip_or_are_named(kind: str, kept: set[str]) -> None:
    before = rich_metadata()
    content, lost = to_bytes(Picture(torch.rand(3, 8, 8), metadata=before), kind)
    after = read(content).metadata
    places = {"png": "", "jpg": "", "tiff": "comment", "webp": "IPTC comment"}
    places |= {"avif": "IPTC comment", "bmp": "EXIF colour profile XMP IPTC comment"}
    assert all(text.split("its ")[1].split(" has no")[0] in places[kind] for text in lost)
    assert len(lost) == {"webp": 2, "avif": 2, "tiff": 1, "bmp": 5}.get(kind, 0)
    if kind != "bmp":
        exif = Image.Exif()
        exif.load(after.exif)
        assert exif[0x010F] == "Maker"
        assert "dpi" in kept or exif[0x011A] == exif[0x011B] == 300
    for name in kept - {"dpi"}:
        assert getattr(after, name) == getattr(before, name), name
    if "dpi" in kept:
        assert after.dpi == pytest.approx(before.dpi, abs=0.02)


def test_sixteen_bit_colour_keeps_its_metadata_too() -> None:
    picture = Picture(torch.rand(3, 8, 8), bit_depth=16, metadata=rich_metadata())
    after = read(to_bytes(picture, "png")[0])
    assert after.bit_depth == 16
    assert after.metadata.icc == rich_metadata().icc
    assert after.metadata.exif == rich_metadata().exif


def test_a_profile_of_another_colour_space_is_not_written() -> None:
    grey = Picture(torch.rand(1, 8, 8), metadata=rich_metadata())
    assert read(to_bytes(grey, "png")[0]).metadata.icc == b""


def test_exif_that_does_not_fit_into_a_jpeg_is_named() -> None:
    picture = Picture(
        torch.rand(3, 8, 8), metadata=Metadata(exif=b"II*\0\x08\0\0\0" + b"\0" * 70000)
    )
    content, lost = to_bytes(picture, "jpg")
    assert lost == ["EXIF of 70008 bytes does not fit into a JPEG"]
    assert read(content).metadata.exif == b""


# --- what is refused -------------------------------------------------------------------------


def refusal(source: Path | bytes) -> UnreadableFileError | None:
    try:
        read(source, max_pixels=1_000_000)
    except UnreadableFileError as error:
        return error
    return None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_a_file_cut_anywhere_is_read_or_named(tmp_path: Path, kind: str) -> None:
    data = encoded(photo(), kind)
    path = tmp_path / "cut.png"
    for cut in [*range(0, 40, 3), *range(40, len(data), len(data) // 12 + 1)]:
        path.write_bytes(data[:cut])
        error = refusal(path)
        if error is not None:
            assert error.what == str(path)
            assert error.remedy
        else:
            assert cut > len(data) // 2, f"{kind} cut to {cut} of {len(data)} bytes was read"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_flipped_bytes_raise_nothing_else(kind: str) -> None:
    data = encoded(photo(), kind)
    rng = np.random.default_rng(3)
    for _ in range(25):
        mutated = bytearray(data)
        for at in rng.integers(0, min(len(data), 600), 4):
            mutated[at] ^= int(rng.integers(1, 256))
        error = refusal(bytes(mutated))
        assert error is None or error.what == "standard input"


def test_a_truncated_sixteen_bit_png_is_not_half_read() -> None:
    noise = np.random.default_rng(0).integers(0, 65536, (40, 40, 3), dtype=np.uint16)
    data = to_bytes(from_array(noise), "png")[0]
    with pytest.raises(UnreadableFileError, match="truncated or damaged"):
        read(data[: len(data) // 2])


def test_a_bomb_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + header + crc + b"\0\0\0\0IDAT" + b"\0" * 4
    with pytest.raises(UnreadableFileError, match=r"60000x60000.*limit of 1,000,000,000.*--max-p"):
        read(data)
    small = encoded(Image.fromarray(RGB), "PNG")
    with pytest.raises(UnreadableFileError, match="5x7 pixels"):
        read(small, max_pixels=34)
    assert read(small, max_pixels=35).width == 5


def test_a_picture_beyond_pillows_own_limit_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3)
    assert read(encoded(Image.fromarray(RGB), "PNG")).width == 5
    assert Image.MAX_IMAGE_PIXELS == 3


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), (i * 90, 0, 0)) for i in range(3)]
    for kind in ("GIF", "WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(UnreadableFileError, match="more than one picture"):
            read(data)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"hello, I am a text", "no picture of a known kind"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no picture of a known kind"),
        (b"\x80\x04\x95evil pickle", "no picture of a known kind"),
        (b"YUV4MPEG2 W4 H4", "no picture of a known kind"),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=rf"photo\.png: is .*{words.split()[-1]}"):
        read(path)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"absent\.png: no such file"):
        read_rgb8(tmp_path / "absent.png")
    with pytest.raises(UnreadableFileError, match="not a regular file"):
        read(tmp_path)


def test_floating_point_tiffs_are_named() -> None:
    data = encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")
    with pytest.raises(UnreadableFileError, match="floating-point"):
        read(data)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 5), (0, 4, 3)])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a picture is \(H, W, 1\.\.4\)"):
        from_array(np.zeros(shape, np.uint8))


def test_arrays_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="uint8, uint16 or float, got int64"):
        from_array(np.zeros((2, 2, 3), np.int64))


def test_many_threads_leave_warnings_and_limits_as_they_were() -> None:
    data = encoded(photo().quantize(16), "PNG", transparency=bytes(range(16)))
    filters, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    failed: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                read(data)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert list(warnings.filters) == filters
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_header_is_probed_without_decoding() -> None:
    data = encoded(photo(), "PNG")
    assert probe(data[: len(data) // 2]) == (64, 48, False, "png")


@pytest.mark.parametrize(("orientation", "size"), [(1, (64, 48)), (3, (64, 48)), (6, (48, 64))])
def test_a_probed_size_is_that_of_the_upright_picture(
    orientation: int, size: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.new("RGB", (64, 48)).save(stream, "JPEG", exif=exif)
    assert probe(stream.getvalue())[:2] == size


def test_alpha_that_hides_nothing_does_not_keep_a_picture_from_jpeg() -> None:
    opaque = Picture(torch.rand(3, 8, 9), torch.ones(1, 8, 9), 8)
    content, _ = to_bytes(opaque, "jpg")
    assert read(content).alpha is None
    veiled = Picture(torch.rand(3, 8, 9), torch.full((1, 8, 9), 0.99), 8)
    with pytest.raises(UsageError, match="partly transparent"):
        to_bytes(veiled, "jpg")
