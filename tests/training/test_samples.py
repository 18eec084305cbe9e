from __future__ import annotations

import pytest
import torch
from torch import Tensor

from adapool_sr.imaging.resize import imresize
from adapool_sr.training.samples import side_by_side


def _picture(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize("shape", [(20, 30), (61, 15), (8, 8)])
def test_sheet_is_bicubic_then_result_then_original(shape: tuple[int, int]) -> None:
    height, width = shape
    lr = _picture(height, width)
    sr, hr = _picture(2 * height, 2 * width), _picture(2 * height, 2 * width)
    sheet = side_by_side(lr, sr, hr, size=32)
    h, w = min(32, 2 * height), min(32, 2 * width)
    assert sheet.shape == (3, h, 3 * w + 8)
    top, left = (height - h // 2) // 2 * 2, (width - w // 2) // 2 * 2
    region = (slice(None), slice(top, top + h), slice(left, left + w))
    assert torch.equal(sheet[:, :, :w], imresize(lr, 2)[region])
    assert torch.equal(sheet[:, :, w + 4 : 2 * w + 4], sr[region])
    assert torch.equal(sheet[:, :, 2 * w + 8 :], hr[region])


def test_float_pictures_are_clamped_and_rounded() -> None:
    lr, hr = torch.zeros(3, 4, 4), torch.zeros(3, 8, 8)
    sheet = side_by_side(lr, torch.full((3, 8, 8), 1.5), hr, size=8)
    assert sheet.dtype == torch.uint8
    assert bool((sheet[:, :, 12:20] == 255).all())
