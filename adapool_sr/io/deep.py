"""Pixels of more than 8 bits, where Pillow would cut them to 8: by OpenCV, libheif, or here."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["deep_pixels"]

_Deep = NDArray[np.uint16]

_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLES, _EXTRA_SAMPLES, _FORMAT = 258, 262, 277, 338, 339
_ASSOCIATED = 1  # of ExtraSamples: the colours are multiplied by alpha
_RGB = 2  # of Photometric


def deep_pixels(image: Image.Image, content: bytes) -> _Deep | None:
    """The pixels of a file whose depth Pillow does not keep.

    Args:
        image: the file opened by Pillow, decoded or not.
        content: the file.

    Returns:
        (H, W, C) uint16 over the whole range, C = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA, lying
        as Pillow gives it; None where Pillow's own pixels are all that the file holds.

    Raises:
        ValueError: the file is damaged.
    """
    readers: dict[str, Callable[[Image.Image, bytes], _Deep | None]] = {
        "PNG": _png,
        "TIFF": _tiff,
        "PPM": _ppm,
        "AVIF": _avif,
        "HEIF": _heif,
    }
    reader = readers.get(image.format or "")
    pixels = reader(image, content) if reader is not None else None
    if pixels is not None and pixels.shape[:2] != (image.height, image.width):
        raise ValueError("its headers contradict each other")
    return pixels


def _opencv(content: bytes) -> _Deep:
    import cv2

    log = cv2.utils.logging
    log.setLogLevel(
        log.LOG_LEVEL_SILENT
    )  # a damaged file is an error of ours, not a line from there
    array: Any = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16:
        raise ValueError("16-bit data could not be decoded")
    if array.ndim == 2:
        return np.asarray(array[:, :, None])
    return np.ascontiguousarray(array[:, :, [2, 1, 0, 3][: array.shape[2]]])


def _png(image: Image.Image, content: bytes) -> _Deep | None:
    depth, colour_type = content[24], content[25]
    if depth != 16:
        return None
    key = _key_of_whole_png(content)
    if colour_type == 0:
        if len(key) != 2:
            return None  # Pillow reads grey as it is
        grey = np.asarray(image).astype(np.uint16)[:, :, None]
        return _with_key(grey, key)
    pixels = _opencv(content)
    if colour_type == 4 and pixels.shape[2] == 4:  # grey and alpha arrive as four channels
        return np.ascontiguousarray(pixels[:, :, [0, 3]])
    if colour_type == 2 and len(key) == 6:
        return _with_key(pixels[:, :, :3], key)
    return pixels


def _key_of_whole_png(content: bytes) -> bytes:
    """The body of the chunk that names the one colour that is transparent, if there is one.

    Raises:
        ValueError: a chunk's checksum is wrong; Pillow does not look at all of them, and libpng
            inside OpenCV prints a line of its own.
    """
    at, key = 8, b""
    while at + 12 <= len(content):
        length, name = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + 8 + length]
        if content[at + 8 + length : at + 12 + length] != struct.pack(
            ">I", zlib.crc32(body, zlib.crc32(name))
        ):
            raise ValueError(f"chunk {name!r} has a wrong checksum")
        if name == b"tRNS":
            key = body
        if name == b"IEND":
            return key
        at += 12 + length
    raise ValueError("it ends too early")


def _with_key(pixels: _Deep, key: bytes) -> _Deep:
    hidden = (pixels == np.frombuffer(key, ">u2").astype(np.uint16)).all(2, keepdims=True)
    return np.dstack([pixels, np.where(hidden, 0, 65535).astype(np.uint16)])


def _tiff(image: Image.Image, content: bytes) -> _Deep | None:
    tags: Any = image.tag_v2  # type: ignore[attr-defined]
    samples, bits = tags.get(_SAMPLES, 1), tags.get(_BITS_PER_SAMPLE, (1,))
    if set(bits) != {16} or set(tags.get(_FORMAT, (1,))) != {1}:
        return None
    if samples == 1 and tags.get(_PHOTOMETRIC) == 0:  # white is zero
        return (65535 - np.asarray(image).astype(np.uint16))[:, :, None]
    if tags.get(_PHOTOMETRIC) != _RGB or samples not in (3, 4):
        return None
    pixels = _opencv(content)
    extra = tuple(tags.get(_EXTRA_SAMPLES, (2,)))
    if samples == 3 or image.mode == "RGB":  # a fourth channel that is no alpha
        return np.ascontiguousarray(pixels[:, :, :3])
    if extra[0] == _ASSOCIATED:
        alpha = pixels[:, :, 3:].astype(np.float64)
        colours = pixels[:, :, :3] * (65535 / np.maximum(alpha, 1))
        pixels[:, :, :3] = np.minimum(colours + 0.5, 65535)
    return pixels


def _ppm(image: Image.Image, content: bytes) -> _Deep | None:
    # Magic, three numbers with white space and comments between them, one white space, pixels.
    gap = rb"(?:\s|#[^\n]*\n)+"
    head = re.match(rb"P([56])" + (gap + rb"(\d{1,9})") * 3 + rb"\s", content[:10_000])
    if head is None or int(head[4]) < 256:
        return None
    channels = 3 if head[1] == b"6" else 1
    count, top = channels * image.height * image.width, int(head[4])
    if len(content) < head.end() + 2 * count or top > 65535:
        raise ValueError("it ends too early")
    values = np.frombuffer(content, ">u2", count, head.end()).astype(np.uint32)
    scaled = (np.minimum(values, top) * 65535 + top // 2) // top
    return scaled.astype(np.uint16).reshape(image.height, image.width, channels)


def _avif(image: Image.Image, content: bytes) -> _Deep | None:
    at = content.find(b"av1C")  # the AV1 configuration box: after two bytes the flags of depth
    flags = content[at + 6] if 0 <= at < len(content) - 6 else 0
    bits = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    if bits == 8:
        return None
    pixels = _opencv(content).astype(np.uint32)
    top = (1 << bits) - 1
    return ((pixels * 65535 + top // 2) // top).astype(np.uint16)


def _heif(image: Image.Image, content: bytes) -> _Deep | None:
    bits = int(image.info.get("bit_depth", 8))
    if bits == 8:
        return None
    import pillow_heif

    opened = pillow_heif.open_heif(content, convert_hdr_to_8bit=False, hdr_to_16bit=False)
    top = (1 << bits) - 1
    pixels = np.asarray(opened).astype(np.uint32)
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return ((np.minimum(pixels, top) * 65535 + top // 2) // top).astype(np.uint16)
