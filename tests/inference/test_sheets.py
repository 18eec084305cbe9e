from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from adapool_sr.imaging.resize import imresize
from adapool_sr.inference.crops import Crop
from adapool_sr.inference.sheets import pieces, sheet
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.images import Picture, quantise


class Nearest(nn.Module):
    scale, size_multiple, receptive_radius = 2, 1, 0

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))


def test_every_piece_is_that_region_of_the_whole(x: Tensor) -> None:
    upscalers = [("a", Upscaler(Nearest())), ("b", Upscaler(Nearest(), strength=0.5))]
    made = pieces(Picture(x), Crop(5, 4, 10, 8), upscalers)
    assert [label for label, _ in made] == ["input", "bicubic", "a", "b"]
    near = quantise(F.interpolate(x[None], scale_factor=2)[0])
    bicubic = quantise(imresize(x, 2, rounded=False))
    region = (slice(None), slice(8, 24), slice(10, 30))
    for (_, piece), whole in zip(made, (near, bicubic, near), strict=False):
        assert torch.equal(piece, whole[region])
    whole = upscalers[1][1].upscale_picture(Picture(x)).pixels
    assert torch.equal(made[3][1], whole[region])


@pytest.mark.parametrize("depth", [8, 16])
def test_grey_becomes_three_colours_and_transparency_white(depth: int, x: Tensor) -> None:
    alpha = torch.zeros(1, 20, 30)
    alpha[:, :, 15:] = 1
    made = pieces(Picture(x[:1], alpha, depth), Crop(0, 0, 30, 20), [("a", Upscaler(Nearest()))])
    for _, piece in made:
        assert piece.shape == (3, 40, 60)
        assert piece.dtype == torch.uint8
        assert piece[:, :, :20].min() == 255
        assert torch.equal(piece[0], piece[2])
        assert piece[:, :, 40:].float().std() > 5


def test_labels_stand_above_pieces_that_keep_every_pixel() -> None:
    panels = [(f"a-model-of-a-long-name-{k}", torch.full((3, 9, 7), 40 + k)) for k in range(3)]
    panels = [(label, pixels.to(torch.uint8)) for label, pixels in panels]
    made = sheet(panels).pixels.permute(1, 2, 0).numpy()
    for value in (40, 41, 42):
        assert int((made == value).all(2).sum()) >= 63
    assert (made[:30] < 128).any()  # words
    assert Image.fromarray(np.ascontiguousarray(made)).size == (made.shape[1], made.shape[0])


def test_what_does_not_fit_beside_stands_below() -> None:
    panels = [(str(k), torch.zeros(3, 10, 1000, dtype=torch.uint8)) for k in range(5)]
    made = sheet(panels)
    assert made.width <= 2400
    assert made.height > 3 * 10
