"""Gradients, first and second, against finite differences and against autograd of plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pooling_truth as truth
import pytest
import torch
from pooling_truth import WINDOWS, Window, mixed, relu_like
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from adapool_sr.ops import adapool2d, adaunpool2d, edscwpool2d, empool2d, reference

CASES = [(WINDOWS[i], seed) for i in (0, 1, 3, 5, 7) for seed in range(10)]


@pytest.fixture(autouse=True, params=truth.NAMESPACES)
def namespace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    truth.use_namespace(request.param, monkeypatch)


def away_from_kinks(*shape: int, seed: int) -> Tensor:
    """Values of both signs, none near 0, where the score has a kink (as it has at a mean of 0)."""
    x = mixed(*shape, seed=seed)
    return x + 0.3 * x.sign()


def check(function: Callable[..., Any], *inputs: Tensor, fast: bool = True) -> None:
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    assert gradcheck(function, leaves, fast_mode=fast)


@pytest.mark.parametrize(("window", "seed"), CASES, ids=str)
def test_pool_gradients_are_exact_those_of_masks_and_beta_included(
    window: Window, seed: int
) -> None:
    x = away_from_kinks(2, 2, 6, 5, seed=seed)
    beta = torch.rand((2, 1, 1), generator=torch.Generator().manual_seed(seed)).double()

    def pool_all(x: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        y, masks = adapool2d(x, beta, *window, return_masks=True)
        return y, masks.edscw, masks.em, masks.beta

    check(pool_all, x, beta)
    check(lambda x, beta: adapool2d(x, beta, *window), x, beta)
    check(lambda x: edscwpool2d(x, *window, return_masks=True), x)
    check(lambda x: empool2d(x, *window, return_masks=True), x)


@pytest.mark.parametrize(("window", "seed"), CASES, ids=str)
def test_unpool_gradients_are_exact(window: Window, seed: int) -> None:
    x = away_from_kinks(2, 2, 6, 5, seed=seed)
    out = truth.output_size((6, 5), window)
    beta = torch.rand((1, 1, *out), generator=torch.Generator().manual_seed(seed)).double()
    y, masks = adapool2d(x, beta, *window, return_masks=True)
    kernel, stride, padding, ceil_mode = window

    def by_masks(y: Tensor, edscw: Tensor, em: Tensor, beta: Tensor) -> Tensor:
        kept = masks._replace(edscw=edscw, em=em, beta=beta)
        return adaunpool2d(y, kept, gain="area")

    def by_one_mask(y: Tensor, mask: Tensor) -> Tensor:
        return adaunpool2d(
            y,
            mask,
            kernel_size=kernel,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            output_size=(6, 5),
            gain=2.5,
        )

    def by_like(y: Tensor, x: Tensor, beta: Tensor) -> Tensor:
        return adaunpool2d(
            y,
            like=x,
            beta=beta,
            kernel_size=kernel,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            gain="area",
        )

    check(by_masks, y, masks.edscw, masks.em, masks.beta)
    check(by_one_mask, y, masks.em)
    check(by_like, y, x, beta)


@pytest.mark.parametrize(
    "shape", [(), (1,), (2, 1, 1), (2, 1, 1, 1), (3, 2), (2, 3, 2), (2, 1, 3, 2), (3, 1), (1, 2)]
)
def test_betas_gradient_is_summed_over_what_it_was_broadcast_along(shape: tuple[int, ...]) -> None:
    x = away_from_kinks(2, 2, 6, 4, seed=0)
    beta = torch.rand(shape, generator=torch.Generator().manual_seed(1)).double()
    check(lambda b: adapool2d(x, b), beta, fast=False)
    y = mixed(2, 2, 3, 2)
    check(lambda b: adaunpool2d(y, like=x, beta=b), beta, fast=False)
    beta.requires_grad_()
    g = mixed(2, 2, 3, 2, seed=3)
    found = torch.autograd.grad(adapool2d(x, beta), beta, g)[0]
    expected = (g * (edscwpool2d(x) - empool2d(x))).sum_to_size(shape)
    torch.testing.assert_close(found, expected)


def test_the_full_jacobian_is_right() -> None:
    for window in (WINDOWS[0], WINDOWS[3]):
        x = away_from_kinks(1, 1, 5, 4, seed=4)
        beta = torch.tensor(0.3, dtype=torch.float64)
        check(lambda x, b, w=window: adapool2d(x, b, *w, return_masks=True)[0], x, beta, fast=False)


def test_gradients_are_finite_and_right_on_relu_maps() -> None:
    x = relu_like(2, 3, 8, 8).requires_grad_()
    g = mixed(2, 3, 4, 4, seed=1)
    (found,) = torch.autograd.grad(adapool2d(x, 0.4), x, g)
    assert bool(found.isfinite().all())
    # Beside values, a zero's score has a kink; the gradient there is the mean of both sides. In a
    # window of zeros it is g/K.
    largest = F.max_pool2d(x.detach(), 2)
    even = (g / 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    zeros = (largest == 0).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert bool(zeros.any())
    torch.testing.assert_close(found[zeros], even[zeros])
    step = 1e-7
    for index in zeros.logical_not().nonzero().tolist()[::5]:
        ends = []
        for side in (step, -step):
            moved = x.detach().clone()
            moved[tuple(index)] += side
            ends.append(float((adapool2d(moved, 0.4) * g).sum()))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert float(found[tuple(index)]) == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_gradients_are_those_of_autograd_through_the_reference(window: Window) -> None:
    x, beta = mixed(2, 3, 7, 6).requires_grad_(), torch.full((1, 3, 1, 1), 0.3).double()
    beta.requires_grad_()
    outputs = adapool2d(x, beta, *window, return_masks=True)
    found = [outputs[0], outputs[1].edscw, outputs[1].em]
    expected = reference.ada_pool_masks(x, beta, *window, True)
    seeds = [mixed(*t.shape, seed=i) for i, t in enumerate(found)]
    torch.testing.assert_close(
        torch.autograd.grad(found, (x, beta), seeds),
        torch.autograd.grad(expected, (x, beta), seeds),
        rtol=1e-11,
        atol=1e-12,
    )


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_the_proportional_rule_holds_the_weights_constant(window: Window) -> None:
    x, beta = mixed(2, 3, 7, 6).requires_grad_(), torch.tensor(0.3).double().requires_grad_()
    y, masks = adapool2d(x, beta, *window, weight_grad=False, return_masks=True)
    seed = mixed(*y.shape, seed=1)
    found = torch.autograd.grad(y, (x, beta), seed, retain_graph=True)
    # dx is then the unpooling of the gradient.
    torch.testing.assert_close(found[0], adaunpool2d(seed, masks).detach())
    exact = adapool2d(x, beta, *window)
    expected = torch.autograd.grad(exact, (x, beta), seed)
    torch.testing.assert_close(found[1], expected[1])
    assert window[0] == (1, 1) or not torch.allclose(found[0], expected[0])
    through_masks = torch.autograd.grad(masks.em.square().sum() + masks.edscw.sum(), x)[0]
    assert torch.equal(through_masks, torch.zeros_like(x))
    for function in (edscwpool2d, empool2d):
        y, mask = function(x, *window, weight_grad=False, return_masks=True)
        (single,) = torch.autograd.grad(y, x, seed)
        kernel, stride, padding, ceil_mode = window
        back = adaunpool2d(
            seed,
            mask.detach(),
            kernel_size=kernel,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            output_size=(7, 6),
        )
        torch.testing.assert_close(single, back)


@pytest.mark.parametrize("weight_grad", [True, False])
@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[3]], ids=str)
def test_second_derivatives_are_right(window: Window, weight_grad: bool) -> None:
    x = away_from_kinks(1, 2, 5, 4, seed=1).requires_grad_()
    beta = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    y, masks = adapool2d(x.detach(), 0.3, *window, return_masks=True)
    kernel, stride, padding, ceil_mode = window

    def pool_all(x: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        y, masks = adapool2d(x, beta, *window, return_masks=True)
        return y, masks.edscw, masks.em

    def by_masks(y: Tensor, edscw: Tensor, em: Tensor, beta: Tensor) -> Tensor:
        kept = masks._replace(edscw=edscw, em=em, beta=beta.expand(1, 1, 1, 1))
        return adaunpool2d(y, kept, gain="area")

    def by_like(y: Tensor, x: Tensor, beta: Tensor) -> Tensor:
        return adaunpool2d(
            y,
            like=x,
            beta=beta,
            kernel_size=kernel,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            gain="area",
        )

    y = y.requires_grad_()
    if weight_grad:
        assert gradgradcheck(pool_all, (x, beta), fast_mode=True)
        assert gradgradcheck(lambda x: edscwpool2d(x, *window), (x,), fast_mode=True)
        assert gradgradcheck(lambda x: empool2d(x, *window), (x,), fast_mode=True)
        leaves = [t.detach().requires_grad_() for t in (y, masks.edscw, masks.em, beta)]
        assert gradgradcheck(by_masks, leaves, fast_mode=True)
        assert gradgradcheck(by_like, (y, x, beta), fast_mode=True)
        return
    # The proportional rule is no derivative of the output, but it has one of its own in g and β.
    g = mixed(*y.shape, seed=5).requires_grad_()

    def rule(g: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
        pooled = adapool2d(x, beta, *window, weight_grad=False)
        return torch.autograd.grad(pooled, (x, beta), g, create_graph=True)

    assert gradcheck(rule, (g, beta), fast_mode=True)


def test_third_derivatives_come_out_too() -> None:
    x = away_from_kinks(1, 1, 2, 2, seed=2)

    def third(t: Tensor) -> Tensor:
        t = t.requires_grad_()
        value = adapool2d(x * t, 0.3).sum()
        for _ in range(3):
            (value,) = torch.autograd.grad(value, t, create_graph=True)
        return value

    def second(t: float) -> float:
        leaf = torch.tensor(t, dtype=torch.float64, requires_grad=True)
        value = adapool2d(x * leaf, 0.3).sum()
        for _ in range(2):
            (value,) = torch.autograd.grad(value, leaf, create_graph=True)
        return float(value.detach())

    found = float(third(torch.tensor(1.2, dtype=torch.float64)).detach())
    assert found == pytest.approx((second(1.2001) - second(1.1999)) / 2e-4, rel=1e-5)


def test_half_precision_gradients_are_those_of_float32_rounded() -> None:
    for dtype in (torch.float16, torch.bfloat16):
        x = mixed(2, 3, 8, 6, dtype=dtype).requires_grad_()
        beta = torch.full((3, 1, 1), 0.25, dtype=dtype, requires_grad=True)
        g = mixed(2, 3, 4, 3, seed=1, dtype=dtype)
        found = torch.autograd.grad(adapool2d(x, beta), (x, beta), g)
        wide = [t.detach().float().requires_grad_() for t in (x, beta)]
        expected = torch.autograd.grad(adapool2d(wide[0], wide[1]), wide, g.float())
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == dtype
            torch.testing.assert_close(a, b.to(dtype), rtol=truth.TOLERANCE[dtype], atol=1e-4)


# torch.func.jvp compiles its decompositions with it
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")
def test_torch_func_transforms_work() -> None:
    x, b = mixed(3, 2, 4, 4), torch.tensor(0.3, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        y, masks = adapool2d(x, b, return_masks=True)
        return adaunpool2d(y.sin(), masks, gain="area").square().sum()

    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(loss))(x), expected)
    tangent = torch.func.jvp(loss, (x,), (x,))[1]
    torch.testing.assert_close(tangent, (expected * x).sum())
    batched = x.movedim(1, -1).contiguous().movedim(-1, 1)[:, None]  # channels innermost
    torch.testing.assert_close(
        torch.func.vmap(lambda t: adapool2d(t, b))(batched), adapool2d(x, b)[:, None]
    )
