from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from adapool_sr.files.errors import AdaPoolError, MissingFileError, UnknownModelError, UsageError
from adapool_sr.imaging.resize import enlarge, imresize
from adapool_sr.inference.upscaler import Stopped, Upscaler
from adapool_sr.io.images import Picture, from_array, to_array
from adapool_sr.models.checkpoint import save
from adapool_sr.models.sr import AdaPoolSR


def network(
    scale: int = 2, widths: tuple[int, ...] = (6, 8), seed: int = 0, **arguments: Any
) -> AdaPoolSR:
    torch.manual_seed(seed)
    blocks = [0] * (len(widths) - 1) + [1]
    net = AdaPoolSR(scale=scale, widths=widths, blocks=blocks, **arguments)
    nn.init.normal_(net.tail.weight, std=0.05)
    return net.eval()


class Nearest(nn.Module):
    """A network whose result is known: every pixel repeated."""

    scale, size_multiple, receptive_radius = 2, 1, 0

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2)


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 61, 47, generator=torch.Generator().manual_seed(1))


# --- tiles -----------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(6, 8), (4, 4, 6)])
@pytest.mark.parametrize("head", ["plain", "contrast"])
@pytest.mark.parametrize(
    ("tile", "height", "width"), [(1, 9, 6), (6, 20, 17), (16, 50, 37), (33, 61, 47), (64, 61, 47)]
)
def test_tiled_equals_whole(
    widths: tuple[int, ...], head: str, tile: int, height: int, width: int, x: Tensor
) -> None:
    net = network(widths=widths, head=head, sharpness=8, beta="map")
    x = x[:, :height, :width]
    whole = Upscaler(net, precision="fp32", tile=0).upscale_tensor(x)
    tiled = Upscaler(net, precision="fp32", tile=tile).upscale_tensor(x)
    assert (tiled - whole).abs().max() <= 1e-4
    with torch.inference_mode():
        assert torch.allclose(whole, net(x[None])[0].clamp(0, 1), atol=1e-5)


def test_a_radius_that_is_too_small_would_show(x: Tensor) -> None:
    net = network()
    whole = Upscaler(net, precision="fp32", tile=0).upscale_tensor(x)
    net.receptive_radius = 0
    tiled = Upscaler(net, precision="fp32", tile=16).upscale_tensor(x)
    assert (tiled - whole).abs().max() > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 1), (3, 5), (8, 8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_from_one_pixel_works(size: tuple[int, int], channels: int) -> None:
    result = Upscaler(network(), tile=4).upscale_tensor(torch.rand(channels, *size))
    assert result.shape == (channels, 2 * size[0], 2 * size[1])
    assert result.dtype == torch.float32
    assert 0 <= result.min() <= result.max() <= 1


def test_auto_tiles_only_where_a_picture_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapool_sr.inference.engine.available_bytes", lambda _: 64 << 20)
    upscaler = Upscaler(network())
    assert upscaler.tile_for(256, 256) == 0
    side = upscaler.tile_for(4000, 6000)
    assert 32 <= side < 1000
    assert upscaler.tile_for(4000, 6000) == side
    assert Upscaler(network(), tile=0).tile_for(4000, 6000) == 0
    assert Upscaler(network(), tile=100).tile_for(100, 100) == 0
    assert Upscaler(network(), tile=100).tile_for(100, 101) == 100


class Hungry(nn.Module):
    """Fails as torch does when there is no memory for windows of more than 600 pixels."""

    scale, size_multiple, receptive_radius = 2, 2, 3

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.shape[2] * x.shape[3])
        if self.seen[-1] > 600:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return F.interpolate(x, scale_factor=2)


def test_out_of_memory_halves_the_tile_and_is_remembered(x: Tensor) -> None:
    upscaler = Upscaler(Hungry(), precision="fp32", tile=0)
    wanted = F.interpolate(x[None], scale_factor=2)[0]
    assert torch.equal(upscaler.upscale_tensor(x), wanted)
    hungry = upscaler.engine.network
    assert isinstance(hungry, Hungry)
    seen = hungry.seen
    failed = sum(size > 600 for size in seen)
    seen.clear()
    assert torch.equal(upscaler.upscale_tensor(x), wanted)
    assert sum(size > 600 for size in seen) < failed


def test_out_of_memory_at_the_smallest_tile_is_an_error() -> None:
    class Never(Hungry):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError, match="out of memory"):
        Upscaler(Never(), tile=0).upscale_tensor(torch.rand(3, 9, 9))


class Counting(nn.Module):
    """Notes how many pictures come at once, and has no memory for more than ``most``."""

    scale, size_multiple, receptive_radius = 2, 2, 3

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
        return F.interpolate(x, scale_factor=2)


def test_small_tiles_of_one_size_go_through_the_network_together() -> None:
    x = torch.rand(3, 72, 96)
    upscaler = Upscaler(Counting(10**6), precision="fp32", tile=8)
    assert torch.equal(upscaler.upscale_tensor(x), F.interpolate(x[None], scale_factor=2)[0])
    counting = upscaler.engine.network
    assert isinstance(counting, Counting)
    assert sum(counting.seen) == 9 * 12
    assert sorted(counting.seen) == [4, 14, 20, 70]  # corners, sides, inside


def test_no_memory_for_tiles_together_runs_them_one_by_one() -> None:
    x = torch.rand(3, 40, 40)
    upscaler = Upscaler(Counting(1), precision="fp32", tile=8)
    wanted = F.interpolate(x[None], scale_factor=2)[0]
    assert torch.equal(upscaler.upscale_tensor(x), wanted)
    counting = upscaler.engine.network
    assert isinstance(counting, Counting)
    assert sum(each > 1 for each in counting.seen) == 1
    assert sum(each for each in counting.seen if each == 1) == 25


def test_only_the_non_finite_one_of_several_tiles_is_done_again() -> None:
    class OneBad(nn.Module):
        scale, size_multiple, receptive_radius = 2, 1, 0

        def forward(self, x: Tensor) -> Tensor:
            if torch.is_autocast_enabled("cpu") and len(x) > 1:
                x = x.clone()
                x[1] = float("inf")
            return F.interpolate(x, scale_factor=2)

    x = torch.rand(3, 16, 16)
    upscaler = Upscaler(OneBad(), precision="bf16", tile=8)
    assert torch.equal(upscaler.upscale_tensor(x), F.interpolate(x[None], scale_factor=2)[0])
    assert upscaler.redone == 1


# --- numbers ---------------------------------------------------------------------------------


class Overflowing(nn.Module):
    scale, size_multiple, receptive_radius = 2, 1, 0

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            x = x.to(torch.float16) * 1e5
        return F.interpolate(x.float(), scale_factor=2)


def test_a_non_finite_tile_is_done_again_in_float32_and_counted(x: Tensor) -> None:
    upscaler = Upscaler(Overflowing(), precision="bf16", tile=0)
    assert torch.equal(upscaler.upscale_tensor(x), F.interpolate(x[None], scale_factor=2)[0])
    assert upscaler.redone == 1


def test_a_model_that_gives_no_numbers_is_an_error(x: Tensor) -> None:
    net = network()
    nn.init.constant_(net.tail.weight, float("nan"))
    with pytest.raises(AdaPoolError, match="not numbers, in float32 too"):
        Upscaler(net).upscale_tensor(x)


def test_bfloat16_is_near_float32(x: Tensor) -> None:
    net = network()
    exact = Upscaler(net, precision="fp32").upscale_tensor(x)
    reduced = Upscaler(net, precision="bf16").upscale_tensor(x)
    assert 0 < (reduced - exact).abs().max() < 0.02


def test_the_callers_network_is_left_alone() -> None:
    net = network().train()
    upscaler = Upscaler(net)
    assert net.training
    assert not upscaler.engine.network.training


def test_grey_is_the_mean_of_three_equal_channels(x: Tensor) -> None:
    upscaler = Upscaler(network(), precision="fp32", tile=16)
    grey = x[:1]
    three = upscaler.upscale_tensor(grey.expand(3, -1, -1))
    inside = (three > 0).all(0) & (three < 1).all(0)  # clamping comes after the mean
    assert torch.allclose(
        upscaler.upscale_tensor(grey)[0][inside], three.mean(0)[inside], atol=1e-6
    )


def test_a_batch_equals_its_pictures(x: Tensor) -> None:
    upscaler = Upscaler(network())
    batch = torch.stack([x, 1 - x])
    assert torch.equal(upscaler.upscale_tensor(batch)[1], upscaler.upscale_tensor(1 - x))


# --- factors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "passes", "size"),
    [
        (None, 1, (122, 94)),
        (1, 0, (61, 47)),
        (1.5, 1, (92, 71)),
        (2, 1, (122, 94)),
        (3, 2, (183, 141)),
        (4, 2, (244, 188)),
        (0.5, 0, (31, 24)),
        (0.01, 0, (1, 1)),
    ],
)
def test_any_factor_is_reached(
    scale: float | None, passes: int, size: tuple[int, int], x: Tensor
) -> None:
    calls = []

    class Counting(Nearest):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(x.shape)
            return super().forward(x)

    upscaler = Upscaler(Counting(), scale=scale, tile=0)
    upscaler.engine.network.forward = Counting().forward
    assert upscaler.upscale_tensor(x).shape[1:] == size
    assert len(calls) == passes


def test_a_fractional_factor_is_the_networks_result_resized_exactly(x: Tensor) -> None:
    net = network()
    double = Upscaler(net, precision="fp32").upscale_tensor(x)
    wanted = imresize(double, size=(92, 71), rounded=False).clamp(0, 1)
    assert torch.equal(Upscaler(net, precision="fp32", scale=1.5).upscale_tensor(x), wanted)


@pytest.mark.parametrize("scale", [0, -2, float("nan"), float("inf")])
def test_an_impossible_factor_is_refused(scale: float) -> None:
    with pytest.raises(UsageError, match="scale: must be a number above 0"):
        Upscaler(Nearest(), scale=scale)


@pytest.mark.parametrize("tile", [-1, "big"])
def test_an_impossible_tile_is_refused(tile: Any) -> None:
    with pytest.raises(UsageError, match="tile: must be 'auto', 0 or pixels"):
        Upscaler(Nearest(), tile=tile)


# --- progress --------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 3])
def test_progress_rises_to_its_total(scale: float, x: Tensor) -> None:
    told: list[tuple[int, int]] = []
    Upscaler(Nearest(), scale=scale, tile=20).upscale_tensor(x, lambda *now: told.append(now))
    done = [now for now, _ in told]
    assert done == sorted(set(done))
    assert {total for _, total in told} == {done[-1]}
    assert len(told) > 4


def test_a_wish_to_stop_is_heard_before_the_next_tile(x: Tensor) -> None:
    told: list[int] = []
    with pytest.raises(Stopped):
        Upscaler(Nearest(), tile=20).upscale_tensor(
            x, lambda done, _: told.append(done), lambda: len(told) >= 2
        )
    assert 2 <= len(told) < 12


# --- pictures and other kinds ----------------------------------------------------------------


@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("depth", [8, 16])
def test_a_picture_is_quantised_once(x: Tensor, tile: int, depth: int) -> None:
    net = network()
    exact = Upscaler(net, precision="fp32", tile=0).upscale_tensor(x)
    top = 2**depth - 1
    picture = Picture(x, bit_depth=depth)
    result = Upscaler(net, precision="fp32", tile=tile).upscale_picture(picture)
    assert result.pixels.dtype == (torch.uint8 if depth == 8 else torch.uint16)
    # Half a step of rounding, and what tiles may differ by.
    assert (result.pixels.float() - exact * top).abs().max() <= 0.5 + 1e-4 * top


def test_a_ramp_finer_than_eight_bits_stays_a_ramp() -> None:
    ramp = np.linspace(20000, 20255, 64).astype(np.uint16)  # one 8-bit step in all
    picture = from_array(np.broadcast_to(ramp[None, :, None], (16, 64, 3)))
    result = to_array(Upscaler(Nearest()).upscale_picture(picture))
    assert np.array_equal(result[0, ::2, 0], ramp)


def test_the_ground_of_a_cut_out_does_not_show_at_its_edge() -> None:
    pixels = torch.zeros(3, 24, 24)
    pixels[1] = 1  # green where nothing is seen
    alpha = torch.zeros(1, 24, 24)
    pixels[:, 6:18, 6:18], alpha[:, 6:18, 6:18] = torch.tensor([1.0, 0, 0])[:, None, None], 1.0

    class Bicubic(Nearest):
        receptive_radius = 2

        def forward(self, x: Tensor) -> Tensor:
            return enlarge(x, 2)

    result = Upscaler(Bicubic()).upscale_picture(Picture(pixels, alpha))
    assert result.alpha is not None
    visible = result.alpha[0] > 0
    assert result.pixels[1][visible].max() == 0
    wanted = imresize(alpha, 2, rounded=False).clamp(0, 1)
    assert (result.alpha.float() / 255 - wanted).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1", "CMYK", "I;16"])
def test_pil_images_come_back_as_pil_images(mode: str) -> None:
    image = Image.new(mode, (6, 4))
    result = Upscaler(network())(image)
    kinds = {"P": "RGB", "1": "L", "CMYK": "RGB"}
    assert result.mode == kinds.get(mode, mode)
    assert result.size == (12, 8)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 2), (4, 6, 3), (4, 6, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_arrays_come_back_as_such_arrays(shape: tuple[int, ...], dtype: Any) -> None:
    image = np.ones(shape, dtype)
    if np.issubdtype(dtype, np.integer):
        image *= np.iinfo(dtype).max
    result = Upscaler(Nearest())(image)
    assert result.dtype == dtype
    assert result.shape == (8, 12, *shape[2:])
    assert np.allclose(result, image.max())


def test_what_is_no_picture_is_refused() -> None:
    upscaler = Upscaler(Nearest())
    with pytest.raises(TypeError, match="PIL image, array or tensor, got str"):
        upscaler("photo.png")
    with pytest.raises(ValueError, match=r"C 1 or 3, got \(4, 5, 5\)"):
        upscaler.upscale_tensor(torch.rand(4, 5, 5))
    with pytest.raises(ValueError, match=r"not empty.*got \(3, 0, 5\)"):
        upscaler.upscale_tensor(torch.rand(3, 0, 5))
    with pytest.raises(TypeError, match=r"float type in 0\.\.1, got torch.uint8"):
        upscaler.upscale_tensor(torch.zeros(3, 5, 5, dtype=torch.uint8))


# --- loading ---------------------------------------------------------------------------------


def test_a_file_is_loaded_by_its_path(tmp_path: Any, x: Tensor) -> None:
    net = network()
    save(tmp_path / "m.safetensors", net, name="m-x2", license="MIT", training={})
    for given in (tmp_path / "m.safetensors", str(tmp_path / "m.safetensors")):
        upscaler = Upscaler.from_pretrained(given, precision="fp32")
        assert torch.allclose(
            upscaler.upscale_tensor(x), Upscaler(net, precision="fp32").upscale_tensor(x)
        )


def test_names_and_paths_that_are_not_there_are_named(tmp_path: Any) -> None:
    with pytest.raises(UnknownModelError, match="model 'no-such-model': is not known"):
        Upscaler.from_pretrained("no-such-model")
    with pytest.raises(MissingFileError, match=r"absent\.safetensors"):
        Upscaler.from_pretrained(tmp_path / "absent.safetensors")


def test_sixteen_bits_are_done_in_float32_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bool] = []

    class Watching(Nearest):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x)

    monkeypatch.setattr("adapool_sr.inference.devices.has_fast_bfloat16", lambda: True)
    for precision, wanted in (("auto", [True, False]), ("bf16", [True, True])):
        seen.clear()
        upscaler = Upscaler(Watching(), precision=precision)
        for dtype in (np.uint8, np.uint16):
            upscaler.upscale_picture(from_array(np.zeros((4, 4, 3), dtype)))
        assert seen == wanted
