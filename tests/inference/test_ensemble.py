import pytest
import torch
from torch import Tensor, nn

from adapool_sr.imaging.resize import imresize
from adapool_sr.inference.ensemble import self_ensembled
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.images import Picture, quantise
from adapool_sr.models.sr import AdaPoolSR


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 31, 22, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def network() -> AdaPoolSR:
    torch.manual_seed(0)
    net = AdaPoolSR(scale=2, widths=(6, 8), blocks=(0, 1))
    nn.init.normal_(net.tail.weight, std=0.05)
    return net.eval()


def by_hand(network: AdaPoolSR, x: Tensor) -> Tensor:
    """The mean over quarter turns, with and without a mirror: the same eight, another way."""
    results = []
    with torch.inference_mode():
        for mirrored in (False, True):
            for quarters in range(4):
                seen = torch.rot90(x.flip(2) if mirrored else x, quarters, (1, 2))
                y = torch.rot90(network(seen[None])[0].clamp(0, 1), -quarters, (1, 2))
                results.append(y.flip(2) if mirrored else y)
    return torch.stack(results).mean(0)


def test_the_eight_flips_and_turns_are_averaged(network: AdaPoolSR, x: Tensor) -> None:
    upscaler = Upscaler(network, precision="fp32", self_ensemble=True)
    result = upscaler.upscale_tensor(x)
    assert torch.allclose(result, by_hand(network, x), atol=1e-5)
    plain = Upscaler(network, precision="fp32").upscale_tensor(x)
    assert (result - plain).abs().max() > 1e-3


def test_the_mean_is_rounded_once(network: AdaPoolSR, x: Tensor) -> None:
    upscaler = Upscaler(network, precision="fp32", self_ensemble=True)
    picture = upscaler.upscale_picture(Picture(x))
    assert torch.equal(picture.pixels, quantise(upscaler.upscale_tensor(x)))


def test_tiles_change_nothing_of_it(network: AdaPoolSR, x: Tensor) -> None:
    whole, tiled = (
        Upscaler(network, precision="fp32", self_ensemble=True, tile=tile).upscale_tensor(x)
        for tile in (0, 9)
    )
    assert (whole - tiled).abs().max() <= 1e-4


def test_another_factor_resizes_the_mean(network: AdaPoolSR, x: Tensor) -> None:
    upscaler = Upscaler(network, precision="fp32", scale=1.5, self_ensemble=True)
    wanted = imresize(by_hand(network, x), size=(47, 33), rounded=False).clamp(0, 1)
    assert torch.allclose(upscaler.upscale_tensor(x), wanted, atol=1e-5)


def test_progress_counts_all_eight(network: AdaPoolSR, x: Tensor) -> None:
    seen: list[tuple[int, int]] = []
    upscaler = Upscaler(network, precision="fp32", tile=16, self_ensemble=True)
    upscaler.upscale_tensor(x, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (8 * 31 * 22, 8 * 31 * 22)
    assert len(seen) > 8


def test_the_input_stays_as_it_is(x: Tensor) -> None:
    before = x.clone()
    mean = self_ensembled(x, lambda seen: seen * 0.5)
    assert torch.equal(x, before)
    assert mean.is_contiguous()
    assert torch.allclose(mean, x * 0.5)
