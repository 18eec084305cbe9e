from __future__ import annotations

import numpy as np
import pytest
import torch

from adapool_sr.imaging.resize import imresize
from adapool_sr.imaging.taps import bicubic_taps, weigh


@pytest.mark.parametrize(("length", "out"), [(9, 18), (10, 23), (20, 7), (8, 8), (1, 5)])
def test_some_rows_of_a_resize_equal_those_of_the_whole(length: int, out: int) -> None:
    planes = np.random.default_rng(0).random((2, length, 6))
    whole = imresize(torch.from_numpy(planes), size=(out, 6), rounded=False).numpy()
    first, last = out // 3, out - out // 4
    taps = bicubic_taps(first, last, out / length).clamped(length)
    low, high = taps.span
    part = weigh(planes[:, low:high], taps.moved(low))
    assert np.array_equal(part, whole[:, first:last])


def test_columns_are_weighed_as_rows_are() -> None:
    planes = np.random.default_rng(1).random((3, 7, 9)).astype(np.float32)
    taps = bicubic_taps(0, 4, 4 / 9).clamped(9)
    across = weigh(planes, taps, across=True)
    assert across.flags.c_contiguous
    assert np.array_equal(across, weigh(planes.transpose(0, 2, 1), taps).transpose(0, 2, 1))


@pytest.mark.parametrize(("length", "out"), [(12, 5), (5, 12), (6, 1)])
def test_the_transposed_table_is_the_transposed_matrix(length: int, out: int) -> None:
    taps = bicubic_taps(0, out, out / length).clamped(length)
    matrix = weigh(np.eye(length)[None], taps)[0]
    transposed = weigh(np.eye(out)[None], taps.transposed(length))[0]
    assert transposed.shape == (length, out)
    assert np.allclose(transposed, matrix.T, atol=1e-15)


def test_beyond_an_edge_stands_the_mirror_image_or_the_outermost_pixel() -> None:
    taps = bicubic_taps(0, 8, 2.0)
    assert taps.span == (-2, 6)
    assert taps.clamped(4).span == (0, 4)
    line = np.arange(4.0)[None, :, None]
    mirrored = np.concatenate([line[:, 1::-1], line, line[:, :1:-1]], 1)
    assert np.allclose(weigh(line, taps.mirrored(4)), weigh(mirrored, taps.moved(-2)))
