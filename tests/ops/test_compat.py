"""The authors' names and signatures give the paper's formulas."""

from __future__ import annotations

import doctest
import inspect
from typing import Any

import numpy as np
import pooling_truth as truth
import pytest
import torch
from pooling_truth import mixed
from torch import Tensor

from adapool_sr import nn as ours
from adapool_sr.ops import compat

RANKS = {1: (8,), 2: (4, 6), 3: (4, 2, 6)}


def window(rank: int, kernel: int = 2, stride: int = 2) -> truth.Window:
    return (kernel,) * rank, (stride,) * rank, (0,) * rank, False


def parts(x: Tensor, rank: int) -> tuple[Any, ...]:
    """y and mask of both methods."""
    array = x.detach().numpy()
    return (*truth.pool(array, window(rank), "dsc"), *truth.pool(array, window(rank), "em"))


def beta_of(rank: int) -> Tensor:
    out = [n // 2 for n in RANKS[rank]]
    return torch.rand(out, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_names_and_signatures_are_the_authors() -> None:
    pools = "(x, {}kernel_size=2, stride=None, return_mask=False{})"
    for rank in RANKS:
        expected = {
            "adapool": pools.format("beta=None, ", ", native=False"),
            **dict.fromkeys(("edscwpool", "empool", "idwpool"), pools.format("", "")),
        }
        for name, words in expected.items():
            signature = inspect.signature(getattr(compat, f"{name}{rank}d"))
            bare = [
                p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()
            ]
            assert str(inspect.Signature(bare)) == words
        module = inspect.signature(getattr(compat, f"AdaPool{rank}d"))
        assert [*module.parameters] == [
            "kernel_size", "beta", "stride", "beta_trainable", "return_mask", "device", "dtype",
            "native",
        ]  # fmt: skip
    assert [*inspect.signature(compat.adaunpool).parameters] == ["x", "mask", "interpolate"]


@pytest.mark.parametrize("rank", RANKS)
def test_functions_are_the_formulas(rank: int) -> None:
    x, beta = mixed(2, 3, *RANKS[rank]), beta_of(rank)
    b = beta.numpy()
    yd, md, ym, mm = parts(x, rank)
    y, mask = getattr(compat, f"adapool{rank}d")(x, beta, return_mask=True)
    np.testing.assert_allclose(y.numpy(), b * yd + (1 - b) * ym)
    np.testing.assert_allclose(mask[0].numpy(), md)
    np.testing.assert_allclose(mask[1].numpy(), mm)
    assert mask[2] is not None
    for name, values, weights in (("edscwpool", yd, md), ("empool", ym, mm)):
        y, found = getattr(compat, f"{name}{rank}d")(x, return_mask=True)
        np.testing.assert_allclose(y.numpy(), values)
        np.testing.assert_allclose(found.numpy(), weights)
    values, weights = truth.pool(x.numpy(), window(rank), "l2")
    np.testing.assert_allclose(getattr(compat, f"idwpool{rank}d")(x).numpy(), values, rtol=1e-6)
    overlapping = getattr(compat, f"adapool{rank}d")(x, torch.full((1,) * rank, 0.5).double(), 2, 1)
    expected = truth.pool(x.numpy(), window(rank, 2, 1), "em")[0] / 2
    expected = expected + truth.pool(x.numpy(), window(rank, 2, 1), "dsc")[0] / 2
    np.testing.assert_allclose(overlapping.numpy(), expected)


@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("native", [False, True])
def test_unpooling_spreads_by_the_mask(rank: int, native: bool) -> None:
    x, beta = mixed(2, 3, *RANKS[rank]), beta_of(rank)
    y, mask = getattr(compat, f"adapool{rank}d")(x, beta, return_mask=True, native=native)
    _, md, _, mm = parts(x, rank)

    def enlarged(t: Any) -> Any:
        for axis in range(-rank, 0):
            t = np.repeat(t, 2, axis)
        return t

    wide = enlarged(beta.numpy())
    expected = enlarged(y.numpy()) * (wide * md + (1 - wide) * mm)
    np.testing.assert_allclose(compat.adaunpool(y, mask).numpy(), expected)
    large = torch.from_numpy(enlarged(y.numpy()))
    np.testing.assert_allclose(compat.adaunpool(large, mask, interpolate=False).numpy(), expected)
    module = getattr(compat, f"AdaUnpool{rank}d")
    np.testing.assert_allclose(module(mask)(y).numpy(), expected)
    np.testing.assert_allclose(module()(y, mask).numpy(), expected)


@pytest.mark.parametrize("native", [False, True])
def test_beta_and_input_get_their_gradients(native: bool) -> None:
    x, beta = mixed(1, 2, 4, 6).requires_grad_(), beta_of(2).requires_grad_()

    def both(x: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
        y, mask = compat.adapool2d(x, beta, return_mask=True, native=native)
        return y, compat.adaunpool(y, mask)

    assert torch.autograd.gradcheck(both, (x, beta))


def test_modules_keep_beta_within_bounds_and_it_learns_again() -> None:
    x = mixed(1, 2, 4, 6, dtype=torch.float32)
    pool = compat.AdaPool2d(beta=(2, 3))
    assert bool(((pool.beta > 0) & (pool.beta < 1)).all())
    with torch.no_grad():
        pool.beta.copy_(torch.tensor([[-1.0, 0.5, 2.0]] * 2))
    twice = pool(x) + pool(-x)
    torch.autograd.backward(twice.sum())
    assert pool.beta.tolist() == [[0.0, 0.5, 1.0]] * 2
    assert pool.beta.grad is not None
    assert bool((pool.beta.grad != 0).all())
    fixed = compat.AdaPool2d(beta=torch.full((1, 1), 2.0), beta_trainable=False, native=True)
    assert [*fixed.state_dict()] == ["beta"]
    assert not [*fixed.parameters()]
    torch.testing.assert_close(fixed(x), compat.EDSCWPool2d()(x))
    assert compat.AdaPool1d(beta=4)(mixed(1, 2, 8, dtype=torch.float16)).dtype == torch.float16
    for name in ("EDSCWPool", "EMPool", "IDWPool"):
        for rank, size in RANKS.items():
            _, mask = getattr(compat, f"{name}{rank}d")(return_mask=True)(mixed(1, 2, *size))
            assert mask.shape == (1, 2, *size)


def test_a_checkpoint_of_theirs_drives_our_modules() -> None:
    x = mixed(1, 2, 4, 6, dtype=torch.float32)
    old = compat.AdaPool2d(beta=torch.tensor([[0.2, 0.9, 0.5], [0.4, 0.3, 0.7]]))
    state = {f"pool.{key}": value for key, value in old.state_dict().items()}
    for learnable in (True, False):
        new = torch.nn.ModuleDict({"pool": ours.AdaPool2d(beta=old.beta, learnable=learnable)})
        new.load_state_dict(compat.convert_state_dict(state, learnable=learnable))
        torch.testing.assert_close(new["pool"](x), old(x))
    outside = compat.convert_state_dict({"beta": torch.tensor([-3.0, 0.0, 1.0, 4.0])})
    torch.testing.assert_close(
        outside["logit"].sigmoid(), torch.tensor([0.001, 0.001, 0.999, 0.999])
    )
    named = compat.convert_state_dict({"a.beta": x, "b.beta": x}, names=["a"], learnable=False)
    assert sorted(named) == ["a.fixed_beta", "b.beta"]
    with pytest.raises(KeyError, match=r"c\.beta"):
        compat.convert_state_dict({"a.beta": x}, names=["c"])


def test_what_cannot_be_is_said() -> None:
    x = torch.zeros(1, 2, 4, 6)
    with pytest.raises(ValueError, match="beta must be a tensor of the output's size"):
        compat.adapool2d(x)
    with pytest.raises(ValueError, match="return_mask needs a stride like kernel_size"):
        compat.empool2d(x, 3, 1, return_mask=True)
    with pytest.raises(TypeError, match="beta must be a tensor or the output's size, got None"):
        compat.AdaPool2d()
    with pytest.raises(ValueError, match="mask must be what pooling returned, got None"):
        compat.AdaUnpool2d()(x)
    with pytest.raises(TypeError, match="mask must be a tensor or a triple, got str"):
        compat.adaunpool(x, "mask")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="as many dimensions as the mask"):
        compat.adaunpool(x, torch.zeros(1, 2, 8))
    with pytest.raises(ValueError, match="x must have the mask's size"):
        compat.adaunpool(x, torch.zeros(1, 2, 8, 12), interpolate=False)


def test_the_examples_in_the_documentation_run() -> None:
    names = {"torch": torch, **vars(compat)}
    runner = doctest.DocTestRunner()
    for module in (compat.functions, compat.modules, compat.checkpoints):
        for example in doctest.DocTestFinder().find(module, extraglobs=names):
            runner.run(example)
    assert runner.summarize().attempted >= 15
    assert runner.summarize().failed == 0
