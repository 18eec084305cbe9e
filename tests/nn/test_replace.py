"""``replace_pooling`` swaps what a rule names, keeps every size, and says what it did."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from networks import DenseNet, Detector, GroupedResidual, Residual, ResNet
from torch import Tensor, nn

import adapool_sr
from adapool_sr.nn import AdaPool1d, AdaPool2d, AdaPool3d
from adapool_sr.nn.replace import POOLINGS, replace_pooling

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": ResNet,
    "densenet": DenseNet,
    "resnext": lambda: ResNet(GroupedResidual),
    "detector": Detector,
}
STRIDED = (*POOLINGS, nn.Conv2d)


def picture(*size: int) -> Tensor:
    return torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))


def outputs(network: nn.Module, x: Tensor) -> list[Tensor]:
    y = network(x)
    return y if isinstance(y, list) else [y]


@pytest.mark.parametrize("types", [POOLINGS, STRIDED], ids=["pools", "convolutions too"])
@pytest.mark.parametrize("name", NETWORKS)
def test_known_networks_keep_their_sizes_and_train_at_two_sizes(
    name: str, types: tuple[type[nn.Module], ...]
) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    before = {size: [y.shape for y in outputs(network, picture(*size))]
              for size in ((64, 64), (75, 97))}  # fmt: skip
    done = replace_pooling(network, types)
    assert done.changed
    assert not done.left
    pools = [m for m in network.modules() if isinstance(m, AdaPool2d)]
    assert len(pools) == len(done.changed)
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert all(max(m.stride) == 1 for m in convolutions) == (types is STRIDED)
    for size, shapes in before.items():
        network.zero_grad()
        ys = outputs(network, picture(*size))
        assert [y.shape for y in ys] == shapes
        torch.autograd.backward([y.square().mean() for y in ys])
        # A pooling over windows of one position weighs nothing.
        for pool in pools:
            assert pool.logit is not None
            assert pool.logit.grad is not None
            assert bool(pool.logit.grad.isfinite())
            assert bool(pool.logit.grad != 0) or pool.kernel_size == 1


def test_the_report_names_each_place() -> None:
    network = DenseNet()
    done = replace_pooling(network)
    assert [r.name for r in done.changed] == [
        "features.pool0",
        "features.transition1.pool",
        "features.transition2.pool",
    ]
    old = "AvgPool2d(kernel_size=2, stride=2, padding=0)"
    assert done.changed[1].old == old
    assert str(done).splitlines()[1].startswith(f"features.transition1.pool: {old} -> AdaPool2d(")
    assert str(replace_pooling(network)) == "nothing matched"


def test_names_and_types_choose() -> None:
    network = ResNet()
    done = replace_pooling(network, STRIDED, ["layer?.downsample.*", "maxpool"])
    assert [r.name for r in done.changed] == [
        "maxpool",
        *(f"layer{i}.downsample.0" for i in (2, 3, 4)),
    ]
    assert isinstance(network.conv1, nn.Conv2d)
    assert isinstance(network.maxpool, AdaPool2d)
    only = replace_pooling(DenseNet(), (nn.AvgPool2d,))
    assert only.changed[0].name == "features.transition1.pool"


def test_kernel_stride_padding_and_ceil_mode_are_kept() -> None:
    old: list[Any] = [
        nn.MaxPool1d(3, 2, 1),
        nn.MaxPool2d((2, 3), (1, 2), (1, 0), ceil_mode=True),
        nn.AvgPool3d((1, 2, 2), ceil_mode=True),
        nn.AvgPool1d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.MaxPool3d(2),
    ]
    for module in old:
        rank = int(type(module).__name__[-2])
        network = nn.Sequential(copy.deepcopy(module))
        (changed,) = replace_pooling(network).changed
        assert changed.note == ""
        assert type(network[0]) is {1: AdaPool1d, 2: AdaPool2d, 3: AdaPool3d}[rank]
        for size in ((6, 7, 9), (5, 8, 6)):
            x = torch.rand(1, 2, *size[:rank])
            assert network(x).shape == module(x).shape


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [2, (2, 3)])
def test_a_strided_convolution_keeps_its_weights_and_the_size(kernel: int, stride: Any) -> None:
    convolution = nn.Conv2d(3, 5, kernel, stride, kernel // 2, groups=1)
    weight = convolution.weight
    strided = copy.deepcopy(convolution)
    network = nn.Sequential(convolution)
    (changed,) = replace_pooling(network, (nn.Conv2d,), beta=0.25).changed
    assert "stride" in changed.note
    inner = network[0]
    assert isinstance(inner, nn.Sequential)
    assert any(m.weight is weight for m in inner if isinstance(m, nn.Conv2d))
    for size in ((8, 9), (11, 7), (12, 12)):
        x = picture(*size)
        assert network(x).shape == strided(x).shape
    # On a flat map every weighting is the mean.
    flat = torch.ones(1, 3, 12, 12)
    if kernel == 1:
        torch.testing.assert_close(network(flat), strided(flat))


class Subclass(nn.MaxPool2d):
    """Somebody's own."""


@pytest.mark.parametrize(
    ("module", "note"),
    [
        (nn.MaxPool2d(2, dilation=2), "AdaPool has no dilation, got 2"),
        (nn.MaxPool2d(2, return_indices=True), "it returns indices; AdaPool has masks instead"),
        (Subclass(2), "a subclass, whose forward may do more"),
    ],
)
def test_what_cannot_be_replaced_is_left_and_named(module: nn.Module, note: str) -> None:
    network = nn.Sequential(module)
    done = replace_pooling(network)
    assert network[0] is module
    assert not done.changed
    assert [r.note for r in done.left] == [note]
    assert str(done) == f"0: {module!r} left: {note}"


def test_hooks_keep_a_module_where_it_is() -> None:
    network = nn.Sequential(nn.MaxPool2d(2))
    network[0].register_forward_hook(lambda *_: None)
    assert replace_pooling(network).left[0].note == "it has hooks, which would be lost"


def test_other_meanings_of_the_average_are_noted() -> None:
    network = nn.Sequential(nn.AvgPool2d(3, 2, 1), nn.AvgPool2d(2, divisor_override=3))
    notes = [r.note for r in replace_pooling(network).changed]
    assert notes == [
        "the padding no longer counts as zeros",
        "without divisor_override: the weights sum to 1",
    ]


def test_a_shared_module_stays_shared() -> None:
    pool = nn.MaxPool2d(2)
    network = nn.ModuleDict({"a": pool, "b": nn.Sequential(pool)})
    done = replace_pooling(network)
    assert [r.name for r in done.changed] == ["a"]
    assert network["a"] is next(network["b"].children())


def test_device_mode_and_options_are_passed_on() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2)).to("meta").eval()
    replace_pooling(network, beta=1.0, learnable=False, granularity="vector", weight_grad=False)
    pool = network[1]
    assert isinstance(pool, AdaPool2d)
    assert pool.fixed_beta is not None
    assert pool.fixed_beta.device.type == "meta"
    assert not pool.training
    assert (pool.granularity, pool.weight_grad) == ("vector", False)
    assert network(torch.empty(1, 3, 8, 8, device="meta")).shape == (1, 4, 3, 3)


def test_what_cannot_be_asked_for_is_refused() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got str"):
        replace_pooling("resnet")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="types must be pooling or convolution classes"):
        replace_pooling(ResNet(), (nn.Linear,))
    with pytest.raises(ValueError, match="model is itself a MaxPool2d"):
        replace_pooling(nn.MaxPool2d(2))
    network = ResNet(Residual)
    with pytest.raises(ValueError, match="beta must lie strictly between 0 and 1"):
        replace_pooling(network, beta=1.5)
    assert isinstance(network.maxpool, nn.MaxPool2d)


def test_the_package_has_it_at_the_top_without_loading_torch_for_it() -> None:
    assert adapool_sr.replace_pooling is replace_pooling
    assert "replace_pooling" in adapool_sr.__all__
    code = "import sys, adapool_sr; assert 'torch' not in sys.modules; adapool_sr.replace_pooling"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'replace'"):
        adapool_sr.replace  # noqa: B018
