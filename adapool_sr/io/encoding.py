"""Integer arrays to picture files, with Pillow; 16-bit colour PNG with OpenCV."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

from adapool_sr.files.errors import UnwritableFileError
from adapool_sr.io.decoding import Pixels
from adapool_sr.io.metadata import Metadata, settle_exif, settle_xmp, splice_png

__all__ = ["LARGEST_SIDE", "encode", "image_of"]

#: The largest side that a format can hold (libjpeg's and libwebp's own constants).
LARGEST_SIDE = {"jpg": 65500, "webp": 16383, "png": 2**31 - 1}

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
        pixels: (H, W, C) uint8 or uint16; uint16 only for PNG, alpha not for JPEG.
        metadata: carried as far as the format holds it, with orientation and size settled.
        kind: "png", "jpg" or "webp".
        quality: 1 to 100 for JPEG and WebP; None for lossless (PNG always is).

    Returns:
        The content, and a sentence for each thing that the format could not hold.

    Raises:
        UnwritableFileError: the encoder refused.
    """
    height, width, channels = pixels.shape
    icc_space = b"GRAY" if channels <= 2 else b"RGB "
    metadata = Metadata(
        **{
            **vars(metadata),
            "exif": settle_exif(metadata.exif, width, height),
            "xmp": settle_xmp(metadata.xmp),
            "icc": metadata.icc if metadata.icc[16:20] == icc_space else b"",
        }
    )
    try:
        if kind == "png":
            return splice_png(_bare_png(pixels), metadata), []
        if kind == "webp":
            return _webp(pixels, metadata, quality), []
        return _jpeg(pixels, metadata, 95 if quality is None else quality)
    except (OSError, ValueError, MemoryError) as error:
        raise UnwritableFileError(
            f"{width}x{height} {kind}", f"the encoder refused ({error})", "try --format png"
        ) from error


def _bare_png(pixels: Pixels) -> bytes:
    if pixels.dtype == np.uint16 and pixels.shape[2] != 1:
        import cv2

        order = {2: [0, 0, 0, 1], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels.shape[2]]
        how = [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL]
        done, data = cv2.imencode(".png", pixels[:, :, order], how)
        if not done:
            raise ValueError("OpenCV could not encode it")
        return bytes(data.tobytes())
    stream = io.BytesIO()
    image_of(pixels).save(stream, "PNG", compress_level=_PNG_LEVEL)
    return stream.getvalue()


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
        size = struct.pack(">H", len(metadata.iptc) + 2)
        optional["extra"] = b"\xff\xed" + size + metadata.iptc
    if metadata.dpi:
        optional["dpi"] = metadata.dpi
    if metadata.icc:
        optional["icc_profile"] = metadata.icc
    if metadata.comment:
        optional["comment"] = metadata.comment
    stream = io.BytesIO()
    image_of(pixels).save(stream, "JPEG", quality=quality, subsampling="4:4:4", **optional)
    return stream.getvalue(), lost
