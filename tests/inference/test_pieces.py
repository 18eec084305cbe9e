from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adapool_sr.files.errors import UsageError
from adapool_sr.imaging.resize import imresize
from adapool_sr.inference.crops import Crop
from adapool_sr.inference.sizes import Size
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.images import Picture, quantise
from adapool_sr.models.sr import AdaPoolSR


def network(scale: int = 2, widths: tuple[int, ...] = (6, 8)) -> AdaPoolSR:
    torch.manual_seed(0)
    net = AdaPoolSR(scale=scale, widths=widths, blocks=[0] * (len(widths) - 1) + [1])
    nn.init.normal_(net.tail.weight, std=0.05)
    return net.eval()


NET = network()


def upscaler(net: nn.Module = NET, **options: Any) -> Upscaler:
    return Upscaler(net, **{"precision": "fp32", **options})


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 61, 47, generator=torch.Generator().manual_seed(1))


# --- strength --------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [2, 1.5, 3, 0.5])
@pytest.mark.parametrize("channels", [1, 3])
def test_strength_0_is_our_bicubic_bit_for_bit(scale: float, channels: int, x: Tensor) -> None:
    x = x[:channels]
    run = upscaler(scale=scale, strength=0)
    run.engine.network = nn.Identity()  # a call would fail: Identity does not enlarge
    bicubic = imresize(x, size=run.size_of(61, 47), rounded=False).clamp(0, 1)
    assert torch.equal(run.upscale_tensor(x), bicubic)
    for depth in (8, 16):
        picture = run.upscale_picture(Picture(x, bit_depth=depth))
        assert torch.equal(picture.pixels, quantise(bicubic, depth))


def test_strength_1_is_the_networks_result_bit_for_bit(x: Tensor) -> None:
    assert torch.equal(upscaler(strength=1).upscale_tensor(x), upscaler().upscale_tensor(x))


@pytest.mark.parametrize("strength", [0.3, 1.7])
@pytest.mark.parametrize("scale", [2, 3])
def test_between_them_results_are_blended_in_float(
    strength: float, scale: float, x: Tensor
) -> None:
    net, bicubic = (upscaler(scale=scale, strength=s).upscale_tensor(x) for s in (1, 0))
    wanted = (bicubic + strength * (net - bicubic)).clamp(0, 1)
    result = upscaler(scale=scale, strength=strength, tile=16).upscale_tensor(x)
    assert torch.allclose(result, wanted, atol=1e-5)
    assert (net - bicubic).abs().max() > 0.03


@pytest.mark.parametrize("strength", [-0.1, 2.1, float("nan")])
def test_an_impossible_strength_is_refused(strength: float) -> None:
    with pytest.raises(UsageError, match="strength: must be 0 to 2"):
        upscaler(strength=strength)


# --- crops -----------------------------------------------------------------------------------

OPTIONS: list[dict[str, Any]] = [
    {},
    {"tile": 12},
    {"scale": 1.5},
    {"scale": 3},
    {"scale": 0.6},
    {"scale": 4, "tile": 16},
    {"size": Size(width=100)},
    {"strength": 0.4, "scale": 1.7},
    {"strength": 0},
    {"self_ensemble": True},
    {"self_ensemble": True, "scale": 3},
    {"consistent": True},
    {"consistent": True, "scale": 2.5, "strength": 0.7},
    {"wrap": "xy"},
    {"wrap": "x", "scale": 3, "tile": 20},
    {"wrap": "y", "consistent": True, "strength": 1.4},
    {"wrap": "x", "self_ensemble": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("crop", [(0, 0, 9, 7), (20, 31, 13, 12), (41, 54, 6, 7), (46, 60, 1, 1)])
def test_a_piece_equals_that_region_of_the_full_result(
    options: dict[str, Any], crop: tuple[int, int, int, int], x: Tensor
) -> None:
    run = upscaler(**options)
    piece = Crop(*crop)
    whole, part = run.upscale_tensor(x), run.upscale_tensor(x, crop=piece)
    box = piece.place(run.route(61, 47))
    region = whole[:, box.top : box.bottom, box.left : box.right]
    assert region.numel() > 0
    assert (part - region).abs().max() <= 1e-4


@pytest.mark.parametrize("widths", [(6, 8), (4, 4, 6)])
def test_a_piece_is_made_from_its_surroundings_alone(widths: tuple[int, ...]) -> None:
    net = network(widths=widths)
    seen: list[int] = []
    run = upscaler(net)
    run.engine.network.register_forward_hook(
        lambda _, given, __: seen.append(given[0].shape[2] * given[0].shape[3])
    )
    run.upscale_tensor(torch.rand(3, 300, 300), crop=Crop(100, 120, 8, 8))
    assert sum(seen) <= (8 + 2 * (net.receptive_radius + 2 * net.size_multiple)) ** 2


def test_a_piece_with_alpha_is_cut_from_both(x: Tensor) -> None:
    picture = Picture(x, alpha=(x[:1] > 0.3).float() * x[:1])
    run = upscaler(scale=1.5)
    whole, part = (
        run.upscale_picture(picture),
        run.upscale_picture(picture, crop=Crop(10, 8, 12, 20)),
    )
    assert whole.alpha is not None
    assert part.alpha is not None
    assert torch.equal(part.alpha, whole.alpha[:, 12:42, 15:33])
    assert (part.pixels.int() - whole.pixels[:, 12:42, 15:33].int()).abs().max() <= 1


def test_a_piece_of_every_kind_of_picture_comes_back_as_that_kind(x: Tensor) -> None:
    from PIL import Image

    piece = Crop(1, 2, 3, 4)
    assert upscaler()(Image.new("RGBA", (9, 8)), crop=piece).size == (6, 8)
    assert upscaler()(x.numpy().transpose(1, 2, 0), crop=piece).shape == (8, 6, 3)
    assert upscaler()(x[None], crop=piece).shape == (1, 3, 8, 6)


def test_a_piece_beyond_the_picture_is_refused(x: Tensor) -> None:
    with pytest.raises(UsageError, match=r"crop 40,0,8,8: reaches beyond the picture's 47x61"):
        upscaler().upscale_tensor(x, crop=Crop(40, 0, 8, 8))


# --- wrap ------------------------------------------------------------------------------------

WRAPS: list[tuple[dict[str, Any], tuple[int, int], tuple[int, int]]] = [
    ({}, (24, 32), (1, 0)),
    ({}, (24, 32), (0, 7)),
    ({}, (23, 31), (5, 3)),
    ({"tile": 16}, (23, 31), (5, 3)),
    ({"scale": 4}, (9, 14), (2, 5)),
    ({"scale": 3}, (10, 14), (3, 4)),
    ({"scale": 1.5}, (10, 14), (4, 2)),
    ({"strength": 0.5}, (16, 15), (3, 2)),
    ({"strength": 0}, (16, 15), (3, 2)),
    ({"consistent": True}, (16, 15), (3, 2)),
    ({"self_ensemble": True}, (15, 12), (3, 5)),
    ({"scale": 0.5}, (16, 12), (4, 2)),
    ({}, (1, 1), (0, 0)),
    ({}, (1, 5), (0, 2)),
]


@pytest.mark.parametrize(("options", "size", "by"), WRAPS, ids=str)
def test_rolling_the_input_rolls_the_output(
    options: dict[str, Any], size: tuple[int, int], by: tuple[int, int]
) -> None:
    x = torch.rand(3, *size)
    run = upscaler(wrap="xy", **options)
    result = run.upscale_tensor(x)
    rolled = run.upscale_tensor(x.roll(by, (1, 2)))
    shift = [round(n * run.scale) for n in by]
    assert (rolled - result.roll(shift, (1, 2))).abs().max() <= 1e-5


@pytest.mark.parametrize(("wrap", "dim"), [("x", 2), ("y", 1)])
def test_one_axis_wraps_alone(wrap: Any, dim: int) -> None:
    x = torch.rand(3, 21, 27)
    run = upscaler(wrap=wrap)
    result = run.upscale_tensor(x)
    assert (run.upscale_tensor(x.roll(3, dim)) - result.roll(6, dim)).abs().max() <= 1e-5
    other = 3 - dim
    assert (run.upscale_tensor(x.roll(3, other)) - result.roll(6, other)).abs().max() > 0.01


def test_deep_grids_wrap_too() -> None:
    x = torch.rand(1, 18, 21)
    run = upscaler(network(widths=(4, 4, 6)), wrap="xy")
    assert run.engine.multiple == 4
    result = run.upscale_tensor(x)
    assert (
        run.upscale_tensor(x.roll((3, 5), (1, 2))) - result.roll((6, 10), (1, 2))
    ).abs().max() <= 1e-5


def test_without_wrap_there_is_a_seam() -> None:
    x = torch.rand(3, 24, 32)
    result = upscaler().upscale_tensor(x)
    assert (upscaler().upscale_tensor(x.roll(2, 2)) - result.roll(4, 2)).abs().max() > 0.01


@pytest.mark.parametrize("strength", [1, 0.5])
def test_alpha_and_the_colours_under_it_roll_too(strength: float) -> None:
    x = torch.rand(3, 26, 31)
    alpha = torch.zeros(1, 26, 31)
    alpha[:, 3:14, 20:] = torch.rand(1, 11, 11)
    alpha[:, 8:11, 24:27] = 0
    run = upscaler(wrap="xy", strength=strength)
    result = run.upscale_picture(Picture(x, alpha, bit_depth=16))
    rolled = run.upscale_picture(Picture(x.roll((5, 9), (1, 2)), alpha.roll((5, 9), (1, 2)), 16))
    assert result.alpha is not None
    assert rolled.alpha is not None
    for one, other in ((result.pixels, rolled.pixels), (result.alpha, rolled.alpha)):
        assert (other.int() - one.int().roll((10, 18), (1, 2))).abs().max() <= 1


class Coarse(nn.Module):
    """A network on a grid of 32, as others' are taken to have."""

    scale, size_multiple, receptive_radius = 2, 32, 32
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        Coarse.calls += 1
        return F.interpolate(x, scale_factor=2)


def test_a_coarse_grid_runs_once(x: Tensor) -> None:
    Coarse.calls = 0
    result = upscaler(Coarse(), wrap="xy").upscale_tensor(x)
    assert Coarse.calls == 1
    assert torch.equal(result, F.interpolate(x[None], scale_factor=2)[0])


def test_other_axes_are_refused() -> None:
    with pytest.raises(UsageError, match="wrap: must be x, y or xy, got 'z'"):
        upscaler(wrap="z")


# --- consistency -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 3},
        {"scale": 1.4},
        {"scale": 1},
        {"tile": 16},
        {"strength": 0.5},
        {"strength": 0},
        {"self_ensemble": True},
        {"scale": 2.6},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(61, 47), (8, 8), (1, 1)])
def test_the_shrunk_result_equals_the_input(
    options: dict[str, Any], size: tuple[int, int], x: Tensor
) -> None:
    x = 0.45 + 0.1 * x[:, : size[0], : size[1]]  # no value is cut off at 0 or 1
    result = upscaler(consistent=True, **options).upscale_tensor(x)
    assert result.min() > 0
    assert result.max() < 1
    assert (imresize(result, size=size, rounded=False) - x).abs().max() <= 1e-6
    if options.get("scale") != 1 and size != (1, 1):
        plain = upscaler(**options).upscale_tensor(x)
        assert (imresize(plain, size=size, rounded=False) - x).abs().max() > 1e-3


def test_after_the_rounding_it_still_is_the_input(x: Tensor) -> None:
    # Half a step of rounding is the most that a mean of rounded pixels is likely to err by.
    picture = Picture(quantise(0.3 + 0.4 * x).float() / 255)
    result = upscaler(consistent=True).upscale_picture(picture).pixels
    small = imresize(result.float() / 255, size=(61, 47), rounded=False)
    assert torch.equal(quantise(small), quantise(picture.pixels))


def test_a_result_smaller_than_its_input_is_only_shrunk(x: Tensor) -> None:
    assert torch.equal(
        upscaler(scale=0.5, consistent=True).upscale_tensor(x),
        upscaler(scale=0.5).upscale_tensor(x),
    )


# --- progress --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [o for o in OPTIONS if o.get("strength") != 0], ids=str)
def test_progress_ends_at_its_total(options: dict[str, Any], x: Tensor) -> None:
    told: list[tuple[int, int]] = []
    run = upscaler(**options)
    run.upscale_tensor(torch.stack([x, x]), lambda *now: told.append(now), crop=Crop(3, 4, 9, 9))
    if run.route(61, 47).passes:
        assert told[-1][0] == told[-1][1] > 0
        assert len({total for _, total in told}) == 1
