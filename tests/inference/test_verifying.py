from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from adapool_sr.imaging.resize import enlarge, imresize
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.inference.verifying import FARTHEST, compare
from adapool_sr.io.images import Picture, quantise, read

Sabotage = Callable[["Faulty", Tensor], Tensor]


class Faulty(nn.Module):
    """Enlarges by bicubic, but for one call, whose result is spoilt.

    Args:
        spoil: what becomes of it.
        at: the number of that call.
    """

    scale, size_multiple, receptive_radius = 2, 1, 3

    def __init__(self, spoil: Sabotage | None = None, at: int = 4) -> None:
        super().__init__()
        self.spoil, self.at, self.calls = spoil, at, 0
        self.before = torch.zeros(0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.one(tile[None]) for tile in x])

    def one(self, x: Tensor) -> Tensor:
        y = enlarge(x, 2)
        if self.spoil is not None and self.calls == self.at:
            y = self.spoil(self, y)
        self.calls += 1
        self.before = y
        return y


def black(network: Faulty, y: Tensor) -> Tensor:
    return torch.zeros_like(y)


def grey(network: Faulty, y: Tensor) -> Tensor:
    return torch.full_like(y, 0.5)


def shifted(network: Faulty, y: Tensor) -> Tensor:
    return y.roll(4, 3)


def swapped(network: Faulty, y: Tensor) -> Tensor:
    # The result of the tile before, brought to this one's size.
    return imresize(network.before, size=(y.shape[2], y.shape[3]), rounded=False)


def spoilt(spoil: Sabotage | None, picture: Picture, **options: object) -> tuple[bool, float]:
    upscaler = Upscaler(Faulty(spoil), precision="fp32", tile=32, **options)  # type: ignore[arg-type]
    verdict = upscaler.compare(upscaler.upscale_picture(picture), picture)
    return verdict.passes, verdict.worst


@pytest.fixture
def photo(photo_dir: Path) -> Picture:
    return read(photo_dir / "photo_1.png")


@pytest.mark.parametrize("spoil", [black, grey, shifted, swapped])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_spoilt_tile_cannot_pass_unseen(spoil: Sabotage, depth: int, photo: Picture) -> None:
    picture = Picture(photo.pixels, bit_depth=depth)
    passes, worst = spoilt(None, picture)
    assert passes
    assert worst < FARTHEST / 2
    passes, worst = spoilt(spoil, picture)
    assert not passes
    assert worst > FARTHEST


@pytest.mark.parametrize("options", [{"strength": 0.7}, {"scale": 3}, {"scale": 1.5}])
def test_nor_when_it_is_blended_or_resized(options: dict[str, float], photo: Picture) -> None:
    assert spoilt(None, photo, **options)[0]
    assert not spoilt(black, photo, **options)[0]


def test_one_spoilt_tile_shows_in_a_large_picture() -> None:
    picture = Picture(torch.full((1, 600, 700), 0.2))
    upscaler = Upscaler(Faulty(black, at=100), precision="fp32", tile=32)
    verdict = upscaler.compare(upscaler.upscale_picture(picture), picture)
    assert verdict.psnr > 30  # 0.2 % of the picture: the mean hides it
    assert not verdict.passes


def test_equal_pictures_have_no_error_and_a_smaller_result_is_compared_at_its_size() -> None:
    x = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    assert compare(x, x).psnr == math.inf
    assert compare(imresize(x, size=(10, 15), rounded=False), x).worst < 1e-6


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (17, 33), (530, 20)])
def test_the_whole_picture_is_looked_at(size: tuple[int, int]) -> None:
    x = torch.full((1, *size), 0.5)
    bad = x.clone()
    bad[:, -1, -1] = 1.0 if size == (1, 1) else 3.0
    assert compare(x, x).passes
    assert not compare(bad, x).passes


def test_rounding_and_a_wrapped_picture_pass() -> None:
    x = 0.4 + torch.rand(3, 24, 24, generator=torch.Generator().manual_seed(1)) / 5
    upscaler = Upscaler(Faulty(), precision="fp32", wrap="xy", consistent=True)
    verdict = upscaler.compare(upscaler.upscale_picture(Picture(x)), Picture(x))
    assert verdict.passes
    assert compare(quantise(x), x).psnr > 50


def test_hidden_colours_do_not_count_and_alpha_does() -> None:
    x = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(2)) / 20
    alpha = torch.ones(1, 32, 32)
    alpha[:, :16] = 0
    picture = Picture(x, alpha)
    upscaler = Upscaler(Faulty(), precision="fp32")
    result = upscaler.upscale_picture(picture)
    assert upscaler.compare(result, picture).worst < 0.02
    assert result.alpha is not None
    opaque = Picture(result.pixels, torch.full_like(result.alpha, 255))
    assert not upscaler.compare(opaque, picture).passes


def test_a_ragged_mask_is_no_fault() -> None:
    rng = torch.Generator().manual_seed(3)
    alpha = (torch.rand(1, 40, 40, generator=rng) > 0.4).float()
    picture = Picture(torch.full((3, 40, 40), 0.3), alpha)
    upscaler = Upscaler(Faulty(), precision="fp32", scale=1.5)
    result = upscaler.upscale_picture(picture)
    assert result.alpha is not None
    assert compare(result.alpha, alpha).worst > 0.1
    assert upscaler.compare(result, picture).passes
    moved = Picture(result.pixels, torch.from_numpy(result.alpha.numpy()).roll(3, 2))
    assert not upscaler.compare(moved, picture).passes
