"""3x3 convolution with what follows it: native against plain PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from adapool_sr.models import AdaPoolSR
from adapool_sr.nn import blocks
from adapool_sr.ops import build
from adapool_sr.ops.convolve import conv3x3_bf16, fused_conv3x3, has_conv3x3_bf16

# Tiles are of 4x4 pixels, blocks of 12 to 48 tiles; registers hold 4, 8 or 16 channels.
SIZES = [(1, 1), (2, 9), (4, 4), (5, 7), (23, 33), (17, 130)]
CHANNELS = [(32, 32), (16, 16), (32, 12), (3, 5), (24, 40), (64, 48), (1, 1), (16, 27)]
bfloat16 = pytest.mark.skipif(
    not has_conv3x3_bf16(), reason="a processor without bfloat16, or another torch"
)
native = pytest.mark.skipif(build.load().kernel != "native", reason="no native kernels here")


def case(channels: tuple[int, int], size: tuple[int, int], batch: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(0)
    (c, k), (height, width) = channels, size
    return {
        "x": torch.randn(batch, c, height, width),
        "weight": torch.randn(k, c, 3, 3) / (9 * c) ** 0.5,
        "bias": torch.randn(k),
        "add": torch.randn(batch, k, height, width),
    }


def truth(x: Tensor, weight: Tensor, bias: Tensor | None, add: Tensor | None, relu: bool) -> Tensor:
    bias = None if bias is None else bias.double()
    y = F.conv2d(x.double(), weight.double(), bias, padding=1)
    y = y if add is None else y + add.double()
    return y.relu() if relu else y


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("more", ["", "bias", "bias add", "add relu", "bias add relu"])
def test_it_equals_convolution_addition_and_relu(
    channels: tuple[int, int], layout: torch.memory_format, more: str
) -> None:
    for size in SIZES:
        tensors = case(channels, size)
        x = tensors["x"].to(memory_format=layout)
        bias, add = (tensors[key] if key in more else None for key in ("bias", "add"))
        relu = "relu" in more
        y = fused_conv3x3(x, tensors["weight"], bias, add=add, relu=relu)
        expected = truth(x, tensors["weight"], bias, add, relu)
        assert y.dtype == torch.float32
        torch.testing.assert_close(y.double(), expected, rtol=0, atol=4e-5)


def test_results_are_channels_last() -> None:
    tensors = case((16, 12), (6, 9))
    y = fused_conv3x3(tensors["x"], tensors["weight"])
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types_run_the_reference(dtype: torch.dtype) -> None:
    x, weight, bias, add = (tensor.to(dtype) for tensor in case((8, 8), (6, 9)).values())
    y = fused_conv3x3(x, weight, bias, add=add, relu=True)
    expected = (F.conv2d(x, weight, bias, padding=1) + add).relu()
    torch.testing.assert_close(y, expected)


def test_strided_inputs_are_taken() -> None:
    tensors = case((8, 8), (9, 22))
    x, weight = tensors["x"][..., ::2].transpose(2, 3), tensors["weight"].transpose(2, 3)
    expected = truth(x, weight, None, None, False)
    torch.testing.assert_close(fused_conv3x3(x, weight).double(), expected, rtol=0, atol=4e-5)


def test_nothing_comes_of_nothing() -> None:
    weight = torch.rand(4, 2, 3, 3)
    assert fused_conv3x3(torch.rand(0, 2, 5, 5), weight).shape == (0, 4, 5, 5)


def test_the_result_does_not_depend_on_threads_or_batch() -> None:
    tensors = case((32, 32), (50, 61), batch=3)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(fused_conv3x3(tensors["x"], tensors["weight"]))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    alone = [fused_conv3x3(x[None], tensors["weight"]) for x in tensors["x"]]
    assert torch.equal(results[0], torch.cat(alone))


@native
def test_a_picture_cut_at_whole_tiles_gives_the_same_bits() -> None:
    tensors = case((16, 16), (40, 48), batch=1)
    whole = fused_conv3x3(tensors["x"], tensors["weight"], relu=True)
    part = fused_conv3x3(tensors["x"][..., 8:, 12:].clone(), tensors["weight"], relu=True)
    assert torch.equal(part[..., 4:, 4:], whole[..., 12:, 16:])


def test_nan_spoils_no_other_tile() -> None:
    x = torch.rand(1, 8, 12, 12)
    x[0, 3, 5, 6] = float("nan")  # reaches the tile it lies in alone
    spoilt = fused_conv3x3(x, torch.rand(8, 8, 3, 3), relu=True).isnan()
    assert spoilt[..., 4:7, 5:8].all()
    spoilt[..., 4:8, 4:8] = False
    assert not spoilt.any()


@native
def test_the_native_kernel_is_what_runs() -> None:
    assert "CPU: registered" in torch._C._dispatch_dump("adapool::fused_conv3x3")


@native
@pytest.mark.parametrize("isa", build.ISAS)
def test_every_instruction_set_agrees(isa: str) -> None:
    code = (
        "import torch; from adapool_sr.ops.convolve import fused_conv3x3\n"
        "torch.manual_seed(0)\n"
        "for c, k in ((32, 32), (16, 16), (24, 12), (5, 7)):\n"
        "    x, w = torch.randn(2, c, 19, 30), torch.randn(k, c, 3, 3) / (9 * c) ** 0.5\n"
        "    b, a = torch.randn(k), torch.randn(2, k, 19, 30)\n"
        "    y = fused_conv3x3(x, w, b, add=a, relu=True)\n"
        "    plain = torch.conv2d(x.double(), w.double(), b.double(), padding=1)\n"
        "    assert (y - (plain + a).relu()).abs().max() < 4e-5\n"
    )
    env = {**os.environ, "ADAPOOL_ISA": isa}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


@pytest.mark.parametrize("namespace", ["adapool", "adapool_reference"])
def test_the_operator_passes_torchs_own_check(namespace: str) -> None:
    operator = getattr(torch.ops, namespace).fused_conv3x3.default
    sample = (*case((4, 6), (5, 7)).values(), True)
    torch.library.opcheck(operator, sample, test_utils=("test_schema", "test_faketensor"))
    sums = getattr(torch.ops, namespace).conv3x3_weight_gradient.default
    sample = (sample[0], sample[3])
    torch.library.opcheck(sums, sample, test_utils=("test_schema", "test_faketensor"))


@pytest.mark.parametrize(
    ("x", "weight", "bias", "add"),
    [
        ((3, 4, 4), (5, 3, 3, 3), None, None),
        ((1, 3, 4, 4), (5, 3, 5, 5), None, None),
        ((1, 3, 4, 4), (5, 4, 3, 3), None, None),
        ((1, 3, 4, 4), (5, 3, 3, 3), (3,), None),
        ((1, 3, 4, 4), (5, 3, 3, 3), (5,), (1, 5, 4, 5)),
    ],
)
def test_what_does_not_fit_is_refused(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    bias: tuple[int, ...] | None,
    add: tuple[int, ...] | None,
) -> None:
    rest = [None if shape is None else torch.rand(shape) for shape in (bias, add)]
    with pytest.raises(ValueError, match="must be"):
        fused_conv3x3(torch.rand(x), torch.rand(weight), rest[0], add=rest[1])


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("more", ["", "bias", "bias add relu"])
def test_gradients_are_those_of_the_layers(channels: tuple[int, int], more: str) -> None:
    for size in SIZES:
        tensors = {
            key: tensor
            for key, tensor in case(channels, size, batch=3).items()
            if key in ("x", "weight") or key in more
        }
        single = {key: tensor.clone().requires_grad_() for key, tensor in tensors.items()}
        double = {key: tensor.double().requires_grad_() for key, tensor in tensors.items()}
        y = fused_conv3x3(
            single["x"],
            single["weight"],
            single.get("bias"),
            add=single.get("add"),
            relu="relu" in more,
        )
        expected = truth(
            double["x"], double["weight"], double.get("bias"), double.get("add"), False
        )
        if "relu" in more:  # the same side of 0, where rounding decides
            expected = expected * (y > 0)
        grad = torch.randn_like(y)
        y.backward(grad)  # type: ignore[no-untyped-call]
        expected.backward(grad.double())  # type: ignore[no-untyped-call]
        for key, tensor in single.items():
            wanted = double[key].grad
            assert tensor.grad is not None
            assert wanted is not None
            error = (tensor.grad - wanted).abs().max() / wanted.abs().max()
            assert error < 2e-5, (size, key)


def test_gradients_do_not_depend_on_threads() -> None:
    tensors = case((32, 32), (48, 52), batch=3)
    threads = torch.get_num_threads()
    grad = torch.randn(3, 32, 48, 52)
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            weight = tensors["weight"].clone().requires_grad_()
            fused_conv3x3(tensors["x"], weight).backward(grad)  # type: ignore[no-untyped-call]
            assert weight.grad is not None
            results.append(weight.grad)
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert torch.equal(results[0], other)


def test_only_what_is_wanted_has_a_gradient() -> None:
    tensors = case((8, 8), (9, 9))
    weight, x = tensors["weight"].requires_grad_(), tensors["x"]
    fused_conv3x3(x, weight, tensors["bias"]).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert x.grad is None
    assert tensors["bias"].grad is None


def test_gradients_can_be_differentiated_again() -> None:
    tensors = case((3, 4), (5, 6), batch=1)
    for dtype in (torch.float32, torch.float64):
        x, weight = (tensors[key].to(dtype).requires_grad_() for key in ("x", "weight"))
        y = fused_conv3x3(x, weight, relu=True)
        (first,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), weight)
        plain = F.conv2d(x, weight, padding=1).relu()
        (wanted,) = torch.autograd.grad(plain.square().sum(), x, create_graph=True)
        (wanted,) = torch.autograd.grad(wanted.square().sum(), weight)
        torch.testing.assert_close(second, wanted, rtol=1e-4, atol=1e-4)


def test_double_precision_gradients_pass_gradcheck() -> None:
    tensors = [tensor.double().requires_grad_() for tensor in case((2, 3), (3, 4), 1).values()]

    def function(x: Tensor, weight: Tensor, bias: Tensor, add: Tensor) -> Tensor:
        return fused_conv3x3(x, weight, bias, add=add, relu=True)

    assert torch.autograd.gradcheck(function, tuple(tensors))


@pytest.mark.parametrize("block", ["residual", "plain"])
@pytest.mark.parametrize("skip", [True, False])
def test_a_network_gives_what_its_layers_give(
    monkeypatch: pytest.MonkeyPatch, block: str, skip: bool
) -> None:
    torch.manual_seed(0)
    network = AdaPoolSR(2, (16, 24), (2, 1), skip=skip, block=block).eval()
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    calls = []
    fused = fused_conv3x3

    def counted(*args: Tensor, **more: Tensor) -> Tensor:
        calls.append(1)
        return fused(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(blocks, "fused_conv3x3", counted)
    x = torch.rand(1, 3, 21, 34)
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "_is_plain", lambda conv, x: False)
        expected = network(x)
        expected.square().sum().backward()
        grads = {name: value.grad for name, value in network.named_parameters()}
        network.zero_grad()
    assert not calls
    result = network(x)
    assert len(calls) == 9  # six in the blocks, down, fuse, tail
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
    result.square().sum().backward()
    for name, value in network.named_parameters():
        torch.testing.assert_close(value.grad, grads[name], rtol=1e-3, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(network(x), result, rtol=0, atol=1e-5)
        assert len(calls) == 18
        with torch.autocast("cpu", torch.bfloat16):
            network(x)
        assert len(calls) == 18


@bfloat16
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_in_bfloat16_it_equals_convolution_addition_and_relu(
    channels: tuple[int, int], layout: torch.memory_format
) -> None:
    for size in SIZES:
        tensors = {name: value.bfloat16() for name, value in case(channels, size).items()}
        x, weight = tensors["x"].to(memory_format=layout), tensors["weight"]
        for bias in (None, tensors["bias"]):
            for relu in (False, True):
                result = conv3x3_bf16(x, weight, bias, relu=relu).double()
                expected = truth(x, weight, bias, None, relu)
                torch.testing.assert_close(result, expected, rtol=2**-8, atol=1e-5)
                # Rounded before the addition, too, where PyTorch doesn't add on the way.
                add = tensors["add"].contiguous(memory_format=torch.channels_last)
                least = 1e-5 if layout == torch.channels_last else 2**-6
                result = conv3x3_bf16(x, weight, bias, add=add, relu=relu).double()
                expected = truth(x, weight, bias, add, relu)
                torch.testing.assert_close(result, expected, rtol=2**-8, atol=least)


@bfloat16
@pytest.mark.parametrize("head", ["plain", "contrast"])
@pytest.mark.parametrize("block", ["plain", "residual"])
def test_a_network_in_bfloat16_gives_what_its_layers_give(
    block: str, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = AdaPoolSR(2, (16, 24), (2, 1), block=block, head=head).eval()
    torch.nn.init.normal_(network.tail.weight, std=0.1)
    calls = []

    def counted(*tensors: Tensor, **options: Any) -> Tensor:
        calls.append(1)
        return conv3x3_bf16(*tensors, **options)

    monkeypatch.setattr(blocks, "conv3x3_bf16", counted)
    x = torch.rand(1, 3, 21, 34)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(x).requires_grad
        with torch.inference_mode():
            with monkeypatch.context() as patch:
                patch.setattr(blocks, "has_conv3x3_bf16", lambda: False)
                expected = network(x)
            assert not calls
            torch.testing.assert_close(network(x), expected, rtol=0, atol=0.02)
    count = 8 + (head == "contrast")  # six in the blocks, down, fuse
    assert len(calls) == count
    with torch.inference_mode():
        halved = network.bfloat16()(x.bfloat16())
    assert len(calls) == 2 * count
    torch.testing.assert_close(halved.float(), expected.float(), rtol=0, atol=0.05)


# forward mode compiles its decompositions with it
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")
def test_a_network_can_be_transformed() -> None:
    network = AdaPoolSR(2, (8, 8), (1, 1))
    torch.nn.init.normal_(network.tail.weight)
    x = torch.rand(2, 3, 8, 8)

    def loss(x: Tensor) -> Tensor:
        result: Tensor = network(x).square().sum()
        return result

    leaf = x.clone().requires_grad_()
    loss(leaf).backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None
    torch.testing.assert_close(torch.func.grad(loss)(x), leaf.grad, rtol=1e-3, atol=1e-3)
    each = torch.func.vmap(torch.func.grad(lambda one: loss(one[None])))(x)
    torch.testing.assert_close(each, leaf.grad, rtol=1e-3, atol=1e-3)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))  # type: ignore[no-untyped-call]
        tangent = torch.autograd.forward_ad.unpack_dual(loss(dual)).tangent  # type: ignore[no-untyped-call]
    torch.testing.assert_close(tangent, leaf.grad.sum(), rtol=1e-3, atol=1e-3)
