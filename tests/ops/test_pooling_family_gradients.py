"""Gradients of the whole family against finite differences, ten seeds each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pooling_truth import Window, mixed
from test_pooling_family import SINGLES, SPACES, function, words
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

RANKS = [1, 2, 3]
IDS = ["-".join([name, *map(str, options.values())]) for name, options, _, _ in SINGLES]


def away_from_kinks(*shape: int, seed: int) -> Tensor:
    """Values of both signs, none near 0, where scores have a kink (as at a mean of 0)."""
    x = mixed(*shape, seed=seed)
    return (x + 0.3 * x.sign()).requires_grad_()


def case(seed: int) -> tuple[int, Window, Tensor]:
    """A rank, a geometry and a map; all of them come up in ten seeds."""
    rank = RANKS[seed % 3]
    size, windows = SPACES[rank]
    return rank, windows[seed // 3 % 2], away_from_kinks(1, 2, *size, seed=seed)


@pytest.mark.parametrize(("name", "options", "method", "rule"), SINGLES, ids=IDS)
def test_each_methods_gradients_are_exact(
    name: str, options: dict[str, Any], method: str, rule: dict[str, Any]
) -> None:
    for seed in range(10):
        rank, window, x = case(seed)
        pool = function(name, rank)

        def run(x: Tensor, pool: Any = pool, window: Window = window) -> tuple[Tensor, Tensor]:
            y, mask = pool(x, *window, **options, return_masks=True)
            return y, mask

        assert gradcheck(run, (x,), fast_mode=True), seed
        if seed == 0:
            assert gradgradcheck(run, (x,), fast_mode=True)


@pytest.mark.parametrize("similarity", ["channel", "dsc", "cosine", "pce"])
@pytest.mark.parametrize("seed", range(10))
def test_adapool_and_its_unpooling_have_exact_gradients(seed: int, similarity: str) -> None:
    rank, window, x = case(seed)
    options = {"granularity": "channel"}
    if similarity != "channel":
        options = {"granularity": "vector", "similarity": similarity}
    shape = (2, *(1,) * rank)
    beta = torch.rand(shape, generator=torch.Generator().manual_seed(seed)).double()
    beta.requires_grad_()
    unpool = function("adaunpool", rank)

    def kept(x: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        y, masks = function("adapool", rank)(x, beta, *window, **options, return_masks=True)
        return y, masks.edscw, masks.em, unpool(y.tanh(), masks, gain="area")

    def again(y: Tensor, x: Tensor, beta: Tensor) -> Tensor:
        u: Tensor = unpool(y, like=x, beta=beta, gain=1.5, **options, **words(window))
        return u

    assert gradcheck(kept, (x, beta), fast_mode=True)
    y = function("adapool", rank)(x, beta, *window, **options).detach().requires_grad_()
    assert gradcheck(again, (y, x, beta), fast_mode=True)
    if seed == 1:
        assert gradgradcheck(kept, (x, beta), fast_mode=True)
        assert gradgradcheck(again, (y, x, beta), fast_mode=True)


@pytest.mark.parametrize(("name", "options", "method", "rule"), SINGLES, ids=IDS)
def test_the_proportional_rule_holds_the_weights_constant(
    name: str, options: dict[str, Any], method: str, rule: dict[str, Any]
) -> None:
    rank, window, x = case(1)
    y, mask = function(name, rank)(x, *window, **options, weight_grad=False, return_masks=True)
    seed = mixed(*y.shape, seed=3)
    (grad,) = torch.autograd.grad(y, x, seed, retain_graph=True)
    spread = function("adaunpool", rank)(
        seed, mask.detach(), output_size=x.shape[2:], **words(window)
    )
    torch.testing.assert_close(grad, spread)
    (through,) = torch.autograd.grad(mask.square().sum(), x)
    assert torch.equal(through, torch.zeros_like(x))


def test_torch_func_goes_through_every_method() -> None:
    for name, options, _, _ in SINGLES:
        x = away_from_kinks(2, 2, 4, 4, seed=5)

        def loss(x: Tensor, name: str = name, options: Any = options) -> Tensor:
            y: Tensor = function(name, 2)(x, **options)
            return y.square().sum()

        (expected,) = torch.autograd.grad(loss(x), x)
        torch.testing.assert_close(torch.func.grad(loss)(x.detach()), expected)
