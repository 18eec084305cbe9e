"""Integer arrays to picture files: Pillow, OpenCV for 16-bit PNG and exact AVIF, our own TIFF."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from adapool_sr.files.errors import UnwritableFileError
from adapool_sr.io.decoding import Pixels
from adapool_sr.io.exif import settle_exif, with_dpi, without_orientation
from adapool_sr.io.iptc import jpeg_segments
from adapool_sr.io.metadata import PNG_SIGNATURE, Metadata, splice_png
from adapool_sr.io.tiff import encode_tiff
from adapool_sr.io.xmp import settle_xmp

__all__ = ["DEEP", "LARGEST_SIDE", "OPAQUE", "encode", "image_of"]

#: The largest side that a format can hold (libjpeg's, libwebp's and libavif's own constants).
LARGEST_SIDE = {
    "jpg": 65500,
    "webp": 16383,
    "png": 2**31 - 1,
    "tiff": 2**32 - 1,
    "bmp": 2**31 - 1,
    "avif": 32768,
}
#: Formats that hold 16 bits, and those that have no alpha.
DEEP, OPAQUE = frozenset({"png", "tiff"}), frozenset({"jpg"})

# What has no place in which format.
_NO_PLACE = {
    "png": (),
    "jpg": ("chunks",),
    "tiff": ("comment", "chunks"),
    "webp": ("iptc", "comment", "chunks"),
    "avif": ("iptc", "comment", "chunks"),
    "bmp": ("exif", "icc", "xmp", "iptc", "comment", "chunks"),
}
_WORDS = {"exif": "EXIF", "icc": "colour profile", "xmp": "XMP", "iptc": "IPTC"}
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")

# A photo of 3.7 megapixels: level 4 takes 0.5 s and 3.41 MB; zlib's usual 6, 1.3 s and 3.34 MB.
_PNG_LEVEL = 4


def encode(
    pixels: Pixels,
    metadata: Metadata,
    kind: str,
    *,
    quality: int | None,
) -> tuple[bytes, list[str]]:
    """Encode an array as a file's content.

    Args:
        pixels: (H, W, C) uint8 or uint16; uint16 only for PNG and TIFF, alpha not for JPEG.
        metadata: carried as far as the format holds it, with orientation and size settled.
        kind: "png", "jpg", "webp", "tiff", "bmp" or "avif".
        quality: 1 to 100 for JPEG, WebP and AVIF; None for lossless (the others always are).

    Returns:
        The content, and a sentence for each thing that the format could not hold.

    Raises:
        UnwritableFileError: the encoder refused.
    """
    if _stored_as_colour(pixels, kind, quality):
        pixels = pixels[:, :, [0, 0, 0, 1] if pixels.shape[2] == 2 else [0, 0, 0]]
    height, width, channels = pixels.shape
    metadata, lost = _fitting(metadata, kind, width, height, channels)
    try:
        if kind == "png":
            return splice_png(_bare_png(pixels), metadata), lost
        if kind == "tiff":
            return encode_tiff(pixels, metadata), lost
        if kind == "bmp":
            return _bmp(pixels, metadata), lost
        if kind == "webp":
            return _webp(pixels, metadata, quality), lost
        if kind == "avif":
            return _avif(pixels, metadata, quality), lost
        content, more = _jpeg(pixels, metadata, 95 if quality is None else quality)
        return content, lost + more
    except (OSError, ValueError, MemoryError, RuntimeError, struct.error) as error:
        raise UnwritableFileError(
            f"{width}x{height} {kind}", f"the encoder refused ({error})", "try --format png"
        ) from error


def _stored_as_colour(pixels: Pixels, kind: str, quality: int | None) -> bool:
    """Whether a format has no grey of this sort."""
    channels = pixels.shape[2]
    if channels > 2:
        return False
    if kind == "avif":  # its grey does not say whether it is without loss
        return channels == 2 or quality is None
    if kind == "tiff":  # 16-bit grey with alpha: Pillow opens no such file
        return channels == 2 and pixels.dtype == np.uint16
    return kind == "webp" or (kind == "bmp" and channels == 2)


def _fitting(
    metadata: Metadata, kind: str, width: int, height: int, channels: int
) -> tuple[Metadata, list[str]]:
    """The metadata that are true of a result and have a place in its format; what has none."""
    lost = []
    space = b"GRAY" if channels <= 2 else b"RGB "
    if metadata.icc and metadata.icc[16:20] != space and "icc" not in _NO_PLACE[kind]:
        own = metadata.icc[16:20].decode("ascii", "replace").strip()
        lost.append(f"its colour profile, for {own}, does not fit and is left out")
        metadata = replace(metadata, icc=b"")
    for name in _NO_PLACE[kind]:
        value = getattr(metadata, name)
        if name == "chunks":
            texts = [body.split(b"\0")[0] for chunk, body in value if chunk in _TEXTS]
            words = [f"text '{text.decode('latin-1')}'" for text in texts]
        else:
            words = [_WORDS.get(name, name)] if value else []
        lost += [f"its {word} has no place in a {kind}" for word in words]
        metadata = replace(metadata, **{name: type(value)()})
    exif = settle_exif(metadata.exif, width, height)
    if kind in ("webp", "avif"):
        exif = with_dpi(exif, metadata.dpi)
    return replace(metadata, exif=exif, xmp=settle_xmp(metadata.xmp, width, height)), lost


def _bare_png(pixels: Pixels) -> bytes:
    if pixels.dtype == np.uint16 and pixels.shape[2] == 2:
        return _deep_grey_alpha_png(pixels)
    if pixels.dtype == np.uint16 and pixels.shape[2] != 1:
        import cv2

        order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]
        how = [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL]
        done, data = cv2.imencode(".png", pixels[:, :, order], how)
        if not done:
            raise ValueError("OpenCV could not encode it")
        return bytes(data.tobytes())
    stream = io.BytesIO()
    image_of(pixels).save(stream, "PNG", compress_level=_PNG_LEVEL)
    return stream.getvalue()


def _deep_grey_alpha_png(pixels: Pixels) -> bytes:
    """A PNG of the one sort that neither library writes: grey and alpha of 16 bits."""
    height, width, _ = pixels.shape
    values = np.ascontiguousarray(pixels.astype(">u2")).view(np.uint8).reshape(height, -1)
    rows = np.diff(
        values, axis=0, prepend=np.zeros_like(values[:1])
    )  # filter 2: less the row above
    data = np.concatenate([np.full((height, 1), 2, np.uint8), rows], axis=1)
    file = PNG_SIGNATURE
    for name, body in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0)),
        (b"IDAT", zlib.compress(data.tobytes(), _PNG_LEVEL)),
        (b"IEND", b""),
    ):
        file += struct.pack(">I", len(body)) + name + body
        file += struct.pack(">I", zlib.crc32(name + body))
    return file


def image_of(pixels: Pixels) -> Image.Image:
    """An (H, W, C) array as a Pillow image of mode L, LA, RGB, RGBA or I;16."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _webp(pixels: Pixels, metadata: Metadata, quality: int | None) -> bytes:
    how: dict[str, Any] = {"lossless": True} if quality is None else {"quality": quality}
    stream = io.BytesIO()
    image_of(pixels).save(
        stream,
        "WEBP",
        exact=True,  # colours under transparent pixels too
        icc_profile=metadata.icc or None,
        exif=metadata.exif,
        xmp=metadata.xmp,
        **how,
    )
    return stream.getvalue()


def _jpeg(pixels: Pixels, metadata: Metadata, quality: int) -> tuple[bytes, list[str]]:
    lost: list[str] = []
    optional: dict[str, Any] = {}
    # A JPEG segment holds 65533 bytes, the block's own heading included.
    if len(metadata.exif) + 6 > 65533:
        lost.append(f"EXIF of {len(metadata.exif)} bytes does not fit into a JPEG")
    elif metadata.exif:
        optional["exif"] = b"Exif\0\0" + metadata.exif
    if len(metadata.xmp) + 29 > 65533:
        lost.append(f"XMP of {len(metadata.xmp)} bytes does not fit into a JPEG")
    elif metadata.xmp:
        optional["xmp"] = metadata.xmp
    if metadata.iptc:
        optional["extra"] = jpeg_segments(metadata.iptc)
    if metadata.dpi:
        optional["dpi"] = metadata.dpi
    if metadata.icc:
        optional["icc_profile"] = metadata.icc
    if len(metadata.comment) > 65533:
        lost.append(f"a comment of {len(metadata.comment)} bytes does not fit into a JPEG")
    elif metadata.comment:
        optional["comment"] = metadata.comment
    stream = io.BytesIO()
    image_of(pixels).save(stream, "JPEG", quality=quality, subsampling="4:4:4", **optional)
    return stream.getvalue(), lost


def _avif(pixels: Pixels, metadata: Metadata, quality: int | None) -> bytes:
    if quality is not None:
        stream = io.BytesIO()
        image_of(pixels).save(
            stream,
            "AVIF",
            quality=quality,
            subsampling="4:4:4" if pixels.shape[2] >= 3 else "4:0:0",
            icc_profile=metadata.icc or None,
            # Pillow writes EXIF that states an orientation anew, and maker notes are lost.
            exif=without_orientation(metadata.exif) or None,
            xmp=metadata.xmp or None,
        )
        return stream.getvalue()
    # Pillow turns RGB to YUV at any quality; OpenCV leaves it as it is at 100.
    import cv2

    order = [2, 1, 0, 3][: pixels.shape[2]]
    carried = {
        cv2.IMAGE_METADATA_EXIF: metadata.exif,
        cv2.IMAGE_METADATA_XMP: metadata.xmp,
        cv2.IMAGE_METADATA_ICCP: metadata.icc,
    }
    kept = {what: np.frombuffer(data, np.uint8) for what, data in carried.items() if data}
    done, data = cv2.imencodeWithMetadata(
        ".avif",
        np.ascontiguousarray(pixels[:, :, order]),
        list(kept),
        list(kept.values()),
        [cv2.IMWRITE_AVIF_QUALITY, 100],
    )
    if not done:
        raise ValueError("OpenCV could not encode it")
    return bytes(data.tobytes())


def _bmp(pixels: Pixels, metadata: Metadata) -> bytes:
    if pixels.shape[2] in (1, 3):
        stream = io.BytesIO()
        image_of(pixels).save(stream, "BMP", **({"dpi": metadata.dpi} if metadata.dpi else {}))
        return stream.getvalue()
    # Pillow writes alpha in a way that it and most do not read: it takes a header of version 4.
    height, width, _ = pixels.shape
    body = np.ascontiguousarray(pixels[::-1, :, [2, 1, 0, 3]]).tobytes()
    per_metre = [round(dpi / 0.0254) for dpi in metadata.dpi or (96, 96)]
    masks = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, len(body), *per_metre, 0, 0)
    head += struct.pack("<4I4s", *masks, b"BGRs") + b"\0" * 48  # sRGB, so no end points or gamma
    return struct.pack("<2sIHHI", b"BM", 14 + 108 + len(body), 0, 0, 14 + 108) + head + body
