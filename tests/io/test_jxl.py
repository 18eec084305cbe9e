from __future__ import annotations

import io

import numpy as np
import pillow_jxl  # noqa: F401 # teaches Pillow the format
import pytest
from PIL import Image

from adapool_sr.io.jxl import CONTAINER, boxes, stated


def jxl(width: int, height: int, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height)).save(stream, "JXL", effort=1, **options)
    return stream.getvalue()


@pytest.mark.parametrize("container", [False, True])
def test_the_header_of_any_size_is_read(container: bool) -> None:
    rng = np.random.default_rng(0)
    sizes = [(8, 8), (32, 16), (16, 9), (256, 256), (1, 1), (9000, 3)]
    for width, height in [*sizes, *rng.integers(1, 600, (12, 2)).tolist()]:
        found = stated(jxl(width, height, use_container=container))
        assert (found.width, found.height, found.bits, found.animated) == (width, height, 8, False)


def test_sixteen_bits_are_told() -> None:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(stream, "JXL", lossless=True)
    assert stated(stream.getvalue()).bits == 16


def test_an_animation_is_told() -> None:
    # FF 0A; small, height 8, ratio 1:1; no default, extra fields, orientation 0, no size, no
    # preview, animation.
    bits = [1, *[0] * 5, *[1, 0, 0], 0, 1, *[0] * 3, 0, 0, 1]
    number = sum(bit << index for index, bit in enumerate(bits))
    assert stated(b"\xff\x0a" + number.to_bytes(8, "little")).animated


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x0a", CONTAINER, CONTAINER + b"\0\0\0\x02jxlc", b"x"]
)
def test_no_header_is_no_other_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"no codestream|ends too early"):
        stated(content)


def test_boxes_end_at_the_first_that_is_cut_off() -> None:
    whole = b"\0\0\0\x0aab  xy" + b"\0\0\0\x01long" + (18).to_bytes(8, "big") + b"zz"
    assert list(boxes(whole)) == [(b"ab  ", b"xy"), (b"long", b"zz")]
    assert list(boxes(whole[:-1])) == [(b"ab  ", b"xy")]
    assert list(boxes(b"\0\0\0\0rest123")) == [(b"rest", b"123")]
