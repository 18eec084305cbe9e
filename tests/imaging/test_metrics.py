import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapool_sr.imaging import imresize, luma, modcrop, psnr_y, ssim_y, to_uint8

GOLDEN = Path(__file__).parent / "golden"

# conventions of the field's tables, bicubic down then up: PSNR, SSIM
PUBLISHED = {
    ("Set5", 2): (33.6741, 0.9303),
    ("Set5", 3): (30.4047, 0.8689),
    ("Set5", 4): (28.4302, 0.8111),
    ("Set14", 2): (30.3263, 0.8699),
    ("Set14", 3): (27.6336, 0.7759),
    ("Set14", 4): (26.0914, 0.7048),
}


def pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)


def flat(*rgb: int, size: int = 16) -> torch.Tensor:
    return torch.tensor(rgb, dtype=torch.uint8)[:, None, None].expand(-1, size, size)


@pytest.mark.parametrize(
    ("rgb", "y"),
    [
        ((0, 0, 0), 16.0),
        ((255, 255, 255), 235.0),
        ((255, 0, 0), 81.481),
        ((0, 255, 0), 144.553),
        ((0, 0, 255), 40.966),
        ((51, 51, 51), 59.8),
        ((51,), 59.8),
    ],
)
def test_luma_by_hand(rgb: tuple[int, ...], y: float) -> None:
    got = luma(flat(*rgb))
    assert got.shape == (16, 16)
    assert got.dtype == torch.float64
    assert got[3, 4].item() == pytest.approx(y, abs=1e-9)


def test_psnr_by_hand() -> None:
    # 200 against 195 in all channels: Y differs by 219·5/255 everywhere.
    wanted = 20 * math.log10(255 / (219 * 5 / 255))
    assert psnr_y(flat(200, 200, 200), flat(195, 195, 195), 2) == pytest.approx(wanted, abs=1e-9)


def test_psnr_of_equal_pictures_is_infinite() -> None:
    assert psnr_y(flat(7, 8, 9), flat(7, 8, 9), 0) == math.inf


def test_the_border_does_not_count() -> None:
    hr = flat(90, 90, 90).clone()
    sr = hr.clone()
    sr[:, :2] = sr[:, -2:] = sr[..., :2] = sr[..., -2:] = 0
    assert psnr_y(sr, hr, 2) == math.inf
    assert math.isfinite(psnr_y(sr, hr, 1))
    assert ssim_y(sr, hr, 2) == pytest.approx(1, abs=1e-12)
    assert ssim_y(sr, hr, 1) < 0.95


def test_ssim_of_two_greys_by_hand() -> None:
    # Without structure only the means' term is left.
    a, b, c1 = 16 + 219 * 100 / 255, 16 + 219 * 60 / 255, (0.01 * 255) ** 2
    wanted = (2 * a * b + c1) / (a * a + b * b + c1)
    assert ssim_y(flat(100), flat(60), 1) == pytest.approx(wanted, abs=1e-6)


def test_grey_counts_as_three_equal_channels() -> None:
    torch.manual_seed(0)
    a, b = torch.randint(0, 256, (2, 1, 20, 24), dtype=torch.uint8)
    rgb_a, rgb_b = a.expand(3, -1, -1), b.expand(3, -1, -1)
    assert psnr_y(a, rgb_b, 2) == psnr_y(rgb_a, rgb_b, 2)
    assert ssim_y(a, b, 2) == ssim_y(rgb_a, rgb_b, 2)


@pytest.mark.parametrize("name", ["colosseum", "otters"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_figures_equal_naive_loops(name: str, scale: int) -> None:
    figures = json.loads((GOLDEN / "figures.json").read_text())[name][f"x{scale}"]
    hr = modcrop(pixels(GOLDEN / f"{name}.png"), scale)
    sr = pixels(GOLDEN / f"{name}_x{scale}_up.png")
    assert psnr_y(sr, hr, scale) == pytest.approx(figures["psnr"], abs=1e-9)
    assert ssim_y(sr, hr, scale) == pytest.approx(figures["ssim"], abs=1e-9)


@pytest.mark.parametrize(("name", "scale"), PUBLISHED)
def test_bicubic_has_its_published_figures(data_root: Path, name: str, scale: int) -> None:
    psnr, ssim = [], []
    for photo in sorted((data_root / "eval" / name).glob("*.png")):
        hr = modcrop(pixels(photo), scale)
        sr = imresize(imresize(hr, 1 / scale), scale)
        psnr.append(psnr_y(sr, hr, scale))
        ssim.append(ssim_y(sr, hr, scale))
    assert len(psnr) == {"Set5": 5, "Set14": 14}[name]
    wanted = PUBLISHED[name, scale]
    assert np.mean(psnr) == pytest.approx(wanted[0], abs=0.001)
    assert np.mean(ssim) == pytest.approx(wanted[1], abs=0.0001)


def test_quantising_clamps_and_rounds_halves_up() -> None:
    values = [-0.2, 0.0, 0.49, 0.5, 1.5, 254.5, 300.0]
    x = torch.tensor(values) / 255
    assert to_uint8(x).tolist() == [0, 0, 0, 1, 2, 255, 255]
    assert to_uint8(torch.tensor(values).double() / 255 + 1e-12).tolist() == [
        0,
        0,
        0,
        1,
        2,
        255,
        255,
    ]


def test_every_byte_survives_quantising() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 255), levels)
    halves = (levels.float() / 255).half()
    assert torch.equal(to_uint8(halves), to_uint8(halves.double()))


def test_modcrop_cuts_the_bottom_and_the_right() -> None:
    image = torch.arange(35).reshape(1, 5, 7)
    assert torch.equal(modcrop(image, 3), image[:, :3, :6])
    assert torch.equal(modcrop(image, 1), image)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: psnr_y(flat(1), flat(1, size=17), 0), ValueError, "one size, got"),
        (lambda: psnr_y(flat(1), flat(1), 8), ValueError, "leave 1x1 pixels, got 8 for 16x16"),
        (lambda: psnr_y(flat(1), flat(1), -1), ValueError, "at least 0"),
        (lambda: ssim_y(flat(1), flat(1), 3), ValueError, "leave 11x11 pixels, got 3 for 16x16"),
        (lambda: psnr_y(flat(1).float(), flat(1), 0), TypeError, "must be uint8, got .*float32"),
        (lambda: luma(flat(1, 2)), ValueError, r"3, H, W\) or .*got \(2, 16, 16\)"),
        (lambda: to_uint8(flat(1)), TypeError, "float type in 0..1, got torch.uint8"),
        (lambda: modcrop(flat(1), 0), ValueError, "positive integer, got 0"),
        (lambda: modcrop(flat(1), 17), ValueError, "at least 17x17 .*got 16x16"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    call: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        call()
