"""The command on files made for each promise: what goes in comes out, larger."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from adapool_sr.cli.main import main
from adapool_sr.io.decoding import decode
from adapool_sr.io.images import from_array, write
from adapool_sr.io.iptc import blocks_of_iptc
from adapool_sr.io.metadata import Metadata
from adapool_sr.io.xmp import NAMESPACE

Upscale = Callable[..., int]


@pytest.fixture
def upscale() -> Upscale:
    def run(*words: str | Path) -> int:
        threads = torch.get_num_threads()
        try:
            return main(["upscale", "-n", "tiny-x2", "--threads", "1", "-q", *map(str, words)])
        finally:
            torch.set_num_threads(threads)

    return run


@pytest.mark.parametrize("source", ["png", "tiff"])
@pytest.mark.parametrize("target", ["png", "tiff"])
def test_a_ramp_within_one_step_of_eight_bits_comes_out_as_a_ramp(
    tmp_path: Path, upscale: Upscale, source: str, target: str
) -> None:
    ramp = np.linspace(20000, 20255, 96)  # an 8-bit step is 257
    pixels = np.broadcast_to(ramp.astype(np.uint16)[None, :, None], (32, 96, 3)).copy()
    write(from_array(pixels), tmp_path / f"in.{source}")
    assert upscale("-i", tmp_path / f"in.{source}", "-o", tmp_path / f"out.{target}") == 0
    found = decode(tmp_path / f"out.{target}").pixels
    assert found.dtype == np.uint16
    ideal = np.linspace(20000, 20255, 192)[16:-16]
    for row in found[24:-24, 16:-16].astype(float).transpose(0, 2, 1).reshape(-1, 160):
        assert abs((row - ideal).mean()) < 257 / 4  # of what the network adds to flat grounds
        assert np.abs(row - row.mean() - ideal + ideal.mean()).max() < 257 / 8
        assert len(np.unique(row)) > 80
        assert (np.diff(row.reshape(-1, 8).mean(1)) > 0).all()


@pytest.mark.parametrize("kind", ["png", "tif", "webp", "bmp", "avif"])
def test_a_lossless_file_stays_lossless_unless_a_quality_is_named(
    tmp_path: Path, upscale: Upscale, kind: str
) -> None:
    rng = np.random.default_rng(0)
    source = tmp_path / f"in.{kind}"
    write(from_array(rng.integers(0, 256, (16, 20, 3), dtype=np.uint8)), source)
    assert upscale("-i", source, "-o", tmp_path / "ref.png") == 0
    assert upscale("-i", source, "-o", tmp_path / f"out.{kind}") == 0
    wanted = decode(tmp_path / "ref.png").pixels
    assert np.array_equal(decode(tmp_path / f"out.{kind}").pixels, wanted)
    assert decode(tmp_path / f"out.{kind}").lossless
    status = upscale("-i", source, "-o", tmp_path / f"lossy.{kind}", "--quality", "80")
    if kind in ("webp", "avif"):
        assert status == 0
        assert not decode(tmp_path / f"lossy.{kind}").lossless
    else:
        assert status == 2


def rich(path: Path) -> Metadata:
    """A picture that lies on its side, with everything a camera and an archive say of it."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Maker", 6
    exif.get_ifd(0x8769).update({0x9003: "2026:01:01 00:00:00", 0xA002: 12, 0x927C: b"maker's"})
    exif.get_ifd(0x8825).update({1: "N", 2: (1.0, 2.0, 3.0)})
    metadata = Metadata(
        exif=exif.tobytes().removeprefix(b"Exif\0\0"),
        icc=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        xmp=b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22'
        b'-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"'
        b' dc:format="kept"/></rdf:RDF></x:xmpmeta>',
        iptc=blocks_of_iptc(b"\x1c\x02\x05\x00\x05title"),
        dpi=(300.0, 300.0),
    )
    image = Image.fromarray(np.zeros((8, 12, 3), np.uint8))
    segment = len(metadata.iptc) + 16
    image.save(
        path,
        "JPEG",
        exif=b"Exif\0\0" + metadata.exif,
        icc_profile=metadata.icc,
        xmp=metadata.xmp,
        dpi=(300, 300),
        extra=b"\xff\xed" + segment.to_bytes(2, "big") + b"Photoshop 3.0\0" + metadata.iptc,
    )
    return metadata


@pytest.mark.parametrize("kind", ["jpg", "png", "tiff", "webp", "avif"])
def test_what_a_file_says_beside_its_pixels_is_kept_and_upright(
    tmp_path: Path, upscale: Upscale, kind: str
) -> None:
    before = rich(tmp_path / "in.jpg")
    assert upscale("-i", tmp_path / "in.jpg", "-o", tmp_path / f"out.{kind}") == 0
    found = decode(tmp_path / f"out.{kind}")
    assert found.pixels.shape == (24, 16, 3)
    after = found.metadata
    exif = Image.Exif()
    exif.load(after.exif)
    assert (exif[0x010F], exif.get(0x0112, 1)) == ("Maker", 1)
    inner = exif.get_ifd(0x8769)
    assert (inner[0x9003], inner[0xA002], inner[0x927C]) == ("2026:01:01 00:00:00", 16, b"maker's")
    assert exif.get_ifd(0x8825)[2] == (1.0, 2.0, 3.0)
    assert after.icc == before.icc
    assert b'dc:format="kept"' in after.xmp
    assert NAMESPACE.encode() in after.xmp
    assert after.iptc == (before.iptc if kind in ("jpg", "png", "tiff") else b"")
    dpi = after.dpi or (exif[0x011A], exif[0x011B])
    assert dpi == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize("kind", ["jpg", "png", "tiff", "webp", "avif", "bmp"])
def test_strip_drops_all_of_it(tmp_path: Path, upscale: Upscale, kind: str) -> None:
    rich(tmp_path / "in.jpg")
    assert upscale("-i", tmp_path / "in.jpg", "-o", tmp_path / f"out.{kind}", "--strip") == 0
    content = (tmp_path / f"out.{kind}").read_bytes()
    for trace in (b"Maker", b"title", b"kept", b"adapool", b"acsp"):
        assert trace not in content
    assert decode(content).pixels.shape == (24, 16, 3)


def test_a_palette_with_alpha_keeps_it(tmp_path: Path, upscale: Upscale) -> None:
    image = Image.new("P", (16, 16), 1)
    image.putpalette([0, 255, 0, 200, 10, 10])
    image.paste(0, (0, 0, 8, 16))
    image.save(tmp_path / "in.png", transparency=bytes([0, 128]))
    assert upscale("-i", tmp_path / "in.png", "-o", tmp_path / "out.png") == 0
    pixels = decode(tmp_path / "out.png").pixels
    assert pixels.shape == (32, 32, 4)
    assert pixels[:, :10, 3].max() == 0
    assert np.array_equal(np.unique(pixels[:, 22:, 3]), [128])
    assert pixels[:, :, 1].max() < 30  # the green that nobody saw is nowhere


def test_a_comic_goes_in_and_comes_out(tmp_path: Path, upscale: Upscale) -> None:
    Image.new("RGB", (9, 12), (90, 20, 20)).save(tmp_path / "page.png")
    with zipfile.ZipFile(tmp_path / "book.cbz", "w") as book:
        book.writestr("ComicInfo.xml", "<ComicInfo/>")
        book.write(tmp_path / "page.png", "page 1.png")
    words = ("-i", tmp_path / "book.cbz", "-o", tmp_path / "out.cbz")
    assert upscale(*words, "--dry-run") == 0
    assert not (tmp_path / "out.cbz").exists()
    assert upscale(*words) == 0
    assert upscale(*words) == 2  # it exists
    with zipfile.ZipFile(tmp_path / "out.cbz") as book:
        assert book.namelist() == ["ComicInfo.xml", "page 1.png"]
        assert decode(book.read("page 1.png")).pixels.shape == (24, 18, 3)
    assert upscale("-i", tmp_path / "book.cbz", "-o", tmp_path / "x.cbz", "--quality", "80") == 0


def test_formats_of_extras_go_in(tmp_path: Path, upscale: Upscale) -> None:
    import pillow_heif
    import pillow_jxl  # noqa: F401

    pillow_heif.register_heif_opener()
    for suffix, kind in (("heic", "HEIF"), ("jxl", "JXL")):
        Image.new("RGB", (32, 16), (10, 200, 30)).save(tmp_path / f"in.{suffix}", kind)
        assert upscale("-i", tmp_path / f"in.{suffix}", "-o", f"{tmp_path}/out/") == 0
        assert decode(tmp_path / "out" / "in.png").pixels.shape == (32, 64, 3)
        (tmp_path / "out" / "in.png").unlink()
