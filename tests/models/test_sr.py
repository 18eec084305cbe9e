from collections.abc import Sequence
from typing import Any

import pytest
import torch

from adapool_sr.imaging.resize import enlarge
from adapool_sr.models import AdaPoolSR
from adapool_sr.nn.blocks import ContrastConv2d, PlainBlock, ResidualBlock

SHAPES: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None]] = [
    ((6, 8), (0, 1), None),
    ((5, 7), (1, 2), None),
    ((5, 7), (1, 0), (2,)),
    ((4, 6, 8), (0, 1, 1), None),
    ((4, 6, 8), (1, 0, 1), (1, 2)),
]


def randomised(
    scale: int = 2,
    widths: Sequence[int] = (6, 8),
    blocks: Sequence[int] = (0, 1),
    **arguments: Any,
) -> AdaPoolSR:
    """A network whose last layer is not zero, in float64."""
    torch.manual_seed(3)
    network = AdaPoolSR(scale, widths, blocks, **arguments).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return network


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (7, 9), (8, 12)])
def test_any_size_is_enlarged_by_the_scale(scale: Any, size: Any) -> None:
    network = randomised(scale, (4, 6, 8), (0, 0, 1))
    out = network(torch.rand(2, 3, *size, dtype=torch.double))
    assert out.shape == (2, 3, scale * size[0], scale * size[1])
    assert out.isfinite().all()


def test_untrained_network_is_the_bicubic_enlargement() -> None:
    x = torch.rand(1, 3, 9, 6)
    torch.testing.assert_close(AdaPoolSR(3, (4, 6), (0, 1))(x), enlarge(x, 3))


@pytest.mark.parametrize(("widths", "blocks", "encoder"), SHAPES)
@pytest.mark.parametrize("axis", [0, 1])
def test_receptive_radius_is_exact(widths: Any, blocks: Any, encoder: Any, axis: int) -> None:
    """Nothing further than the radius matters, and something at the radius does."""
    network = randomised(2, widths, blocks, encoder=encoder)
    radius, period = network.receptive_radius, network.size_multiple
    length = 2 * (radius + period) + period
    reached = 0
    for position in range(length // 2, length // 2 + period):
        shape = (3, length, period) if axis == 0 else (3, period, length)
        x = torch.rand(1, *shape, dtype=torch.double, requires_grad=True)
        row = network(x).select(2 + axis, 2 * position)
        weights = torch.rand_like(row)
        (row * weights).sum().backward()
        assert x.grad is not None
        touched = x.grad.abs().sum(dim=(0, 1, 3 - axis)).nonzero().flatten()
        reach = int((touched - position).abs().max())
        assert reach <= radius
        reached = max(reached, reach)
    assert reached == radius


def test_default_network_fits_the_tiny_budget() -> None:
    network = AdaPoolSR()
    assert sum(p.numel() for p in network.parameters()) <= 150_000
    assert network.receptive_radius <= 48


@pytest.mark.parametrize("beta", ["scalar", "channel", "map"])
@pytest.mark.parametrize("block", ["residual", "plain"])
def test_every_parameter_learns(beta: str, block: str) -> None:
    network = randomised(2, (4, 5), (1, 1), beta=beta, block=block, encoder=(1,))
    network(torch.rand(1, 3, 8, 8, dtype=torch.double)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("beta", ["channel", "map"])
def test_pooled_maps_may_have_other_widths_than_the_blocks(skip: bool, beta: str) -> None:
    network = randomised(
        2, (4, 6, 8), (1, 1, 1), skip=skip, beta=beta, encoder=(1, 1), pooled_widths=(9, 7)
    )
    seen: list[int] = []
    for pool in network.pools:
        pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    for unpool in network.unpools:
        unpool.register_forward_hook(lambda *arguments: seen.append(arguments[2].shape[1]))
    out = network(torch.rand(1, 3, 9, 13, dtype=torch.double))
    assert out.shape == (1, 3, 18, 26)
    assert seen == [9, 7, 7, 9]
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["bodies.0.0.conv1.weight"] == (4, 4, 3, 3)
    assert shapes["bodies.2.0.conv1.weight"] == (8, 8, 3, 3)
    assert shapes["encoders.1.0.conv1.weight"] == (7, 7, 3, 3)
    out.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_pooled_maps_are_as_wide_as_the_blocks_unless_said() -> None:
    network = AdaPoolSR(2, (4, 6, 8), (0, 0, 1))
    assert network.config["pooled_widths"] == [4, 6]
    told = AdaPoolSR(2, (4, 6, 8), (0, 0, 1), pooled_widths=(4, 6))
    assert {k: v.shape for k, v in told.state_dict().items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }


@pytest.mark.parametrize("skip", [True, False])
def test_unpooled_branch_reaches_the_output(skip: bool) -> None:
    network = randomised(skip=skip)
    x = torch.rand(1, 3, 8, 8, dtype=torch.double)
    whole = network(x)
    network.unpools[0].register_forward_hook(lambda *args: torch.zeros_like(args[2]))
    assert not torch.allclose(network(x), whole)


def test_channels_last_gives_the_same() -> None:
    network = randomised().float()
    x = torch.rand(2, 3, 11, 14)
    plain = network(x)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    last = network(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-5, atol=1e-5)


def test_bfloat16_weights_keep_the_enlarged_input_in_float32() -> None:
    network = AdaPoolSR(2, (4, 6), (0, 1)).bfloat16()  # its residual is zero
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(network(x), enlarge(x, 2))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(AdaPoolSR(2, (4, 6), (0, 1))(x), enlarge(x, 2))


def test_constructor_arguments_are_kept_and_make_the_same_network() -> None:
    network = AdaPoolSR(
        3,
        (4, 6, 8),
        (1, 0, 2),
        False,
        "map",
        (0, 1),
        "plain",
        head="contrast",
        sharpness=4,
        pooled_widths=(5, 7),
    )
    twin = AdaPoolSR(**network.config)
    assert twin.config == network.config
    assert {k: v.shape for k, v in twin.state_dict().items()} == {
        k: v.shape for k, v in network.state_dict().items()
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0}, "scale: got 0"),
        ({"scale": 9}, "scale: got 9"),
        ({"widths": (8,)}, "widths: got"),
        ({"widths": (8, 0)}, "widths: got"),
        ({"blocks": (1,)}, "blocks: got"),
        ({"blocks": (0, -1)}, "blocks: got"),
        ({"beta": "pixel"}, "beta: got 'pixel'"),
        ({"encoder": (1, 1)}, "encoder: got"),
        ({"encoder": (-1,)}, "encoder: got"),
        ({"head": "edge"}, "head: got 'edge', must be one of 'plain', 'contrast'"),
        ({"sharpness": 0}, "sharpness: got 0, must be positive"),
        ({"sharpness": float("nan")}, "sharpness: got nan"),
        ({"pooled_widths": (8, 8)}, r"pooled_widths: got \(8, 8\), must be 1 positive channels"),
        ({"pooled_widths": (0,)}, "pooled_widths: got"),
        ({"pooled_widths": 5}, "pooled_widths: got 5, must be 1 positive"),
        ({"pooled_widths": ["a"]}, r"pooled_widths: got \('a',\)"),
        ({"pooled_widths": [1.5]}, r"pooled_widths: got \(1.5,\)"),
        ({"widths": 24}, "widths: got 24, must be two or more"),
        ({"widths": "ab"}, "widths: got 'ab'"),
        ({"blocks": [1, "b"]}, "blocks: got"),
        ({"encoder": 0}, "encoder: got 0, must be 1 counts"),
        ({"scale": "two"}, "scale: got 'two'"),
        ({"sharpness": "high"}, "sharpness: got 'high'"),
        ({"block": "dense"}, "block: got 'dense', must be one of 'residual', 'plain'"),
    ],
)
def test_impossible_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaPoolSR(**arguments)


def test_predicted_beta_follows_the_picture_and_each_size() -> None:
    network = randomised(2, (4, 6), (0, 1), beta="map")
    seen: list[torch.Tensor] = []
    network.unpools[0].register_forward_pre_hook(
        lambda module, inputs, named: seen.append(named["beta"]), with_kwargs=True
    )
    network(torch.rand(2, 3, 7, 10, dtype=torch.double))
    assert seen[0].shape == (2, 1, 4, 5)
    assert ((seen[0] > 0) & (seen[0] < 1)).all()
    assert seen[0].std() > 0


def test_plain_blocks_start_near_the_identity() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 16, 9, 9)
    y = PlainBlock(16)(x)
    away = (y - x)[..., 2:-2, 2:-2].square().mean().sqrt()
    assert 0 < away < 0.8 * x.std()


@pytest.mark.parametrize("skip", [True, False])
def test_a_contrast_head_passes_brightness_through(skip: bool) -> None:
    network = randomised(2, (4, 6, 8), (1, 0, 1), skip=skip, encoder=(1, 0), head="contrast")
    x = torch.rand(1, 3, 7, 9, dtype=torch.double)
    torch.testing.assert_close(network(x + 0.3), network(x) + 0.3, rtol=0, atol=1e-12)
    plain = randomised(2, (4, 6, 8), (1, 0, 1), skip=skip, encoder=(1, 0))
    assert (plain(x + 0.3) - plain(x) - 0.3).abs().max() > 1e-3


def test_a_contrast_head_in_bfloat16_hardly_sees_brightness() -> None:
    torch.manual_seed(0)
    head = ContrastConv2d(3, 8).bfloat16()
    flat = torch.ones(1, 3, 5, 5, dtype=torch.bfloat16)
    bias = head.bias
    assert bias is not None
    assert (head(flat) - bias.view(1, 8, 1, 1)).abs().max() < 0.004
    assert head(torch.rand(1, 3, 5, 5).bfloat16()).std() > 0.05


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("block", ["residual", "plain"])
@pytest.mark.parametrize("beta", ["channel", "map"])
def test_sharpness_changes_the_weights_of_adapool_alone(skip: bool, block: str, beta: str) -> None:
    """With poolings that are linear, networks of two sharpnesses start as the same function."""
    outputs = []
    sharp_weights = []
    for sharpness in (1.0, 16.0):
        torch.manual_seed(5)
        network = AdaPoolSR(
            2,
            (4, 6, 8),
            (1, 0, 1),
            skip,
            beta,
            (1, 2),
            block,
            sharpness=sharpness,
            pooled_widths=(5, 6),
        ).double()
        torch.nn.init.normal_(network.tail.weight)
        x = torch.rand(1, 3, 16, 16, dtype=torch.double)
        network.unpools[0].register_forward_hook(
            lambda module, inputs, y: sharp_weights.append((y / y.mean()).std().item())
        )
        adapool = network(x)
        for level in range(2):
            network.pools[level] = _Average(network.pools[level].beta)
            network.unpools[level] = _Repeat()
        outputs.append(network(x))
        assert (adapool - outputs[-1]).abs().max() > 1e-6
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-9, atol=1e-9)
    assert sharp_weights[1] > sharp_weights[0]


class _Average(torch.nn.Module):
    def __init__(self, beta: Any) -> None:
        super().__init__()
        self.beta = beta

    def forward(self, x: torch.Tensor, beta: torch.Tensor | None = None) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 2, ceil_mode=True)


class _Repeat(torch.nn.Module):
    def forward(self, y: torch.Tensor, *, like: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
        return y.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_blocks_leave_their_input_as_it_is() -> None:
    for block in (PlainBlock(4), ResidualBlock(4)):
        x = torch.rand(1, 4, 6, 6)
        kept = x.clone()
        block(x)
        assert torch.equal(x, kept)
