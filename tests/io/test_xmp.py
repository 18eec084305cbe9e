from __future__ import annotations

import pytest

from adapool_sr.io.xmp import settle_xmp


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'<x tiff:Orientation="8" a="8"/>', b'<x tiff:Orientation="1" a="8"/>'),
        (b"<tiff:Orientation>6</tiff:Orientation>", b"<tiff:Orientation>1</tiff:Orientation>"),
        (b'<x tiff:ImageWidth="8"/>', b'<x tiff:ImageWidth="80"/>'),
        (b"<exif:PixelYDimension>6</x>", b"<exif:PixelYDimension>60</x>"),
        (b"<dc:title>6</dc:title>", b"<dc:title>6</dc:title>"),
    ],
)
def test_xmp_says_upright_and_the_new_size(before: bytes, after: bytes) -> None:
    assert settle_xmp(before, 80, 60) == after
