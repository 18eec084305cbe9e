"""The pooling modules: what they hold, and that they are the functions."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapool_sr import nn as package
from adapool_sr.nn import AdaPool2d, AdaUnpool2d, EDSCWPool2d, EMPool2d
from adapool_sr.ops import PoolMasks, adapool2d, adaunpool2d, edscwpool2d, empool2d


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def test_the_package_exports_the_modules_by_name() -> None:
    for name in ("AdaPool2d", "AdaUnpool2d", "EDSCWPool2d", "EMPool2d"):
        assert name in package.__all__
        assert issubclass(getattr(package, name), nn.Module)


@pytest.mark.parametrize("window", [(2,), (3, 2, 1, True), ((2, 3), (1, 2), (1, 0))])
def test_modules_are_the_functions(window: tuple[Any, ...]) -> None:
    x = image(2, 3, 7, 9)
    y, masks = AdaPool2d(*window, beta=0.25, return_masks=True)(x)
    expected, expected_masks = adapool2d(x, 0.25, *window, return_masks=True)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(masks.edscw, expected_masks.edscw)
    torch.testing.assert_close(AdaPool2d(*window, beta=0.25)(x), expected)
    torch.testing.assert_close(AdaUnpool2d()(y, masks), adaunpool2d(y, masks, gain="area"))
    torch.testing.assert_close(AdaUnpool2d(gain=1.0)(y, masks), adaunpool2d(y, masks))
    again = AdaUnpool2d(*window)(y, like=x, beta=torch.tensor(0.25))
    torch.testing.assert_close(again, adaunpool2d(y, masks, gain="area"))
    for module, function in ((EDSCWPool2d, edscwpool2d), (EMPool2d, empool2d)):
        y, mask = module(*window, return_masks=True)(x)
        torch.testing.assert_close((y, mask), function(x, *window, return_masks=True))
        assert torch.equal(module(*window)(x), y)
        u = AdaUnpool2d(*window)(y, mask, output_size=(7, 9))
        assert u.shape == x.shape


@pytest.mark.parametrize("shape", [(), (3, 1, 1), (4, 3), (3, 4, 3)])
def test_a_learnable_beta_is_a_logit(shape: tuple[int, ...]) -> None:
    start = torch.linspace(0.1, 0.9, max(1, int(torch.Size(shape).numel()))).reshape(shape)
    pool = AdaPool2d(beta=start)
    assert [name for name, _ in pool.named_parameters()] == ["logit"]
    assert not list(pool.buffers())
    assert pool.beta is not None
    torch.testing.assert_close(pool.beta.detach(), start)
    torch.autograd.backward(pool(image(2, 3, 8, 6)).square().sum())
    assert pool.logit is not None
    assert pool.logit.grad is not None
    assert pool.logit.grad.shape == shape
    assert bool((pool.logit.grad != 0).all())


def test_a_fixed_beta_is_a_buffer_that_may_be_zero_or_one() -> None:
    x = image(1, 3, 4, 4)
    for value, function in ((0.0, empool2d), (1.0, edscwpool2d)):
        pool = AdaPool2d(beta=value, learnable=False)
        assert not list(pool.parameters())
        assert {name: float(b) for name, b in pool.named_buffers()} == {"fixed_beta": value}
        torch.testing.assert_close(pool(x), function(x))


def test_a_predicted_beta_comes_with_the_call() -> None:
    pool, predict = AdaPool2d(beta=None, return_masks=True), nn.Conv2d(3, 1, 1, stride=2)
    assert pool.beta is None
    assert not pool.state_dict()
    x = image(2, 3, 8, 6)
    beta = predict(x).sigmoid()
    y, masks = pool(x, beta)
    assert torch.equal(y, adapool2d(x, beta))
    torch.autograd.backward(AdaUnpool2d()(y, masks).square().sum())
    assert predict.weight.grad is not None
    assert bool((predict.weight.grad != 0).any())
    with pytest.raises(ValueError, match="with the module or with the call, got neither"):
        pool(x)
    with pytest.raises(ValueError, match="with the module or with the call, got both"):
        AdaPool2d()(x, beta)


def test_state_travels_and_the_callers_tensor_is_not_shared() -> None:
    start = torch.full((3, 1, 1), 0.2)
    pool = AdaPool2d(beta=start, learnable=False)
    start.fill_(0.9)
    assert pool.beta is not None
    assert torch.equal(pool.beta, torch.full((3, 1, 1), 0.2))
    first, second = AdaPool2d(beta=0.3), AdaPool2d(beta=0.6)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(image(1, 1, 4, 4)), first(image(1, 1, 4, 4)))
    twin = copy.deepcopy(first)
    assert torch.equal(twin(image(1, 1, 4, 4)), first(image(1, 1, 4, 4)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_beta_follows_the_inputs_dtype(dtype: torch.dtype) -> None:
    pool = AdaPool2d(return_masks=True)
    x = image(1, 2, 4, 4, dtype=dtype)
    y, masks = pool(x)
    assert y.dtype == masks.beta.dtype == dtype
    u = AdaUnpool2d()(y, like=x, beta=pool.beta)
    assert u.dtype == dtype
    torch.autograd.backward(u.sum())
    assert pool.logit is not None
    assert pool.logit.grad is not None
    assert pool.logit.grad.dtype == torch.float32


def test_under_autocast_a_network_runs_in_the_convolutions_dtype() -> None:
    convolution, pool, unpool = nn.Conv2d(2, 4, 1), AdaPool2d(return_masks=True), AdaUnpool2d()
    with torch.autocast("cpu", torch.bfloat16):
        y, masks = pool(convolution(image(1, 2, 4, 4)))
        u = unpool(y, masks)
    assert y.dtype == u.dtype == torch.bfloat16
    torch.autograd.backward(u.sum())
    assert pool.logit is not None
    assert pool.logit.grad is not None


def test_weight_grad_reaches_the_functions() -> None:
    x = image(1, 2, 4, 4).requires_grad_()
    grads = []
    for exact in (True, False):
        pool = AdaPool2d(weight_grad=exact, return_masks=True)
        y, masks = pool(x)
        assert isinstance(masks, PoolMasks)
        grads.append(torch.autograd.grad(y.square().sum(), x, retain_graph=True)[0])
        unpool = AdaUnpool2d(weight_grad=exact)
        u = unpool(y.detach(), like=x, beta=0.5)
        (through,) = torch.autograd.grad(u.square().sum(), x)
        assert bool((through != 0).any()) == exact
        for module in (EDSCWPool2d, EMPool2d):
            grads.append(torch.autograd.grad(module(weight_grad=exact)(x).square().sum(), x)[0])
    for a, b in zip(grads[:3], grads[3:], strict=True):
        assert not torch.allclose(a, b)


@pytest.mark.parametrize(
    ("beta", "learnable", "error", "words"),
    [
        (1.5, True, ValueError, "beta must lie strictly between 0 and 1 if learnable, got 1.5"),
        (0.0, True, ValueError, "strictly between 0 and 1 if learnable, got 0.0"),
        (torch.tensor([0.5, 1.0]), True, ValueError, "strictly between 0 and 1"),
        (-0.1, False, ValueError, "beta must lie from 0 to 1, got -0.1"),
        (float("nan"), False, ValueError, "beta must lie from 0 to 1, got nan"),
        ("0.5", True, TypeError, "beta must be a float, a float tensor or None, got '0.5'"),
        (torch.tensor(1), False, TypeError, "beta must be a float tensor, got torch.int64"),
    ],
)
def test_a_start_value_that_cannot_be_is_refused(
    beta: Any, learnable: bool, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        AdaPool2d(beta=beta, learnable=learnable)


def test_unpooling_refuses_a_beta_beside_masks() -> None:
    y, masks = AdaPool2d(return_masks=True)(image(1, 1, 4, 4))
    with pytest.raises(ValueError, match="beta goes with like"):
        AdaUnpool2d()(y, masks, beta=0.5)
    with pytest.raises(ValueError, match="needs either masks or like, got both"):
        AdaUnpool2d()(y, masks, like=image(1, 1, 4, 4), beta=0.5)


def test_modules_print_their_arguments() -> None:
    assert repr(AdaPool2d(3, 2, 1)) == (
        "AdaPool2d(kernel_size=3, stride=2, padding=1, ceil_mode=False, beta=(), learnable=True)"
    )
    assert "beta=per call, learnable=False" in repr(AdaPool2d(beta=None))
    assert "gain='area'" in repr(AdaUnpool2d())


def test_a_module_compiles_without_a_graph_break() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = AdaPool2d(ceil_mode=True, return_masks=True)
            self.unpool = AdaUnpool2d()

        def forward(self, x: Tensor) -> Tensor:
            y, masks = self.pool(x.relu())
            u: Tensor = self.unpool(y.tanh(), masks)
            return u

    network, x = Small(), image(2, 3, 7, 9)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), network(x))
    torch.autograd.backward(compiled(x).square().sum())
    assert network.pool.logit is not None
    assert network.pool.logit.grad is not None
    torch._dynamo.reset()
