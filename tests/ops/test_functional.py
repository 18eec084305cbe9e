"""Values and facts of the pooling functions, on the reference and on every kernel."""

from __future__ import annotations

import math

import numpy as np
import pooling_truth as truth
import pytest
import torch
from pooling_truth import WINDOWS, Window, assert_near, mixed, relu_like
from torch import Tensor

from adapool_sr.ops import adapool2d, edscwpool2d, empool2d

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True, params=truth.NAMESPACES)
def namespace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    truth.use_namespace(request.param, monkeypatch)


def windows_of(mask: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """A mask as (N, C, oH, oW, K)."""
    n, c, h, w = mask.shape
    cut = mask.reshape(n, c, h // kernel[0], kernel[0], w // kernel[1], kernel[1])
    return cut.permute(0, 1, 2, 4, 3, 5).flatten(-2)


# --- against the truth -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("make", [mixed, relu_like])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_pools_are_the_formulas(window: Window, make, dtype: torch.dtype) -> None:  # type: ignore[no-untyped-def]
    x = make(2, 3, 7, 6, dtype=dtype)
    array = x.double().numpy()
    (yd, md), (ym, mm) = (truth.pool(array, window, method) for method in ("edscw", "em"))
    beta = torch.tensor([0.25, 0.5, 1.0], dtype=dtype).view(3, 1, 1)
    b = beta.double().numpy()
    y, masks = adapool2d(x, beta, *window, return_masks=True)
    assert_near(y, b * yd + (1 - b) * ym, dtype)
    assert_near(masks.edscw, md, dtype)
    assert_near(masks.em, mm, dtype)
    for function, values, mask in ((edscwpool2d, yd, md), (empool2d, ym, mm)):
        y, found = function(x, *window, return_masks=True)
        assert_near(y, values, dtype)
        assert_near(found, mask, dtype)
        assert torch.equal(function(x, *window), y)


@pytest.mark.parametrize(
    "shape", [(), (1,), (3, 1, 1), (2, 1, 1, 1), (4, 3), (3, 4, 3), (2, 1, 4, 3), (4, 1), (1, 3)]
)
def test_beta_broadcasts_to_the_output(shape: tuple[int, ...]) -> None:
    x = mixed(2, 3, 8, 6, dtype=torch.float32)
    beta = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    expected = beta * edscwpool2d(x) + (1 - beta) * empool2d(x)
    torch.testing.assert_close(adapool2d(x, beta), expected)


def test_beta_one_is_edscw_beta_zero_is_em_and_linear_between() -> None:
    x = mixed(2, 3, 8, 6)
    yd, ym = edscwpool2d(x), empool2d(x)
    assert torch.equal(adapool2d(x, 1), yd)
    assert torch.equal(adapool2d(x, 0.0), ym)
    torch.testing.assert_close(adapool2d(x, 0.3), 0.3 * yd + 0.7 * ym)
    torch.testing.assert_close(adapool2d(x, -1.5), -1.5 * yd + 2.5 * ym)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[1], WINDOWS[3]], ids=str)
def test_result_keeps_dtype_and_memory_format(window: Window, dtype: torch.dtype) -> None:
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = mixed(2, 8, 7, 9, dtype=dtype).contiguous(memory_format=memory_format)
        y, masks = adapool2d(x, 0.5, *window, return_masks=True)
        for tensor in (y, masks.edscw, masks.em):
            assert tensor.dtype == dtype
            assert tensor.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[1], WINDOWS[3]], ids=str)
@pytest.mark.parametrize("channels", [1, 3, 40])
def test_layout_does_not_change_a_bit(window: Window, channels: int, dtype: torch.dtype) -> None:
    x = mixed(2, channels, 19, 21, dtype=dtype)
    strided = torch.stack([x, -x], -1)[..., 0]
    sliced = torch.cat([-x, x], 1)[:, channels:]
    last = x.to(memory_format=torch.channels_last)
    expected = adapool2d(x, 0.3, *window, return_masks=True)
    for view in (strided, sliced, last, x.transpose(2, 3).contiguous().transpose(2, 3)):
        y, masks = adapool2d(view, 0.3, *window, return_masks=True)
        assert torch.equal(y, expected[0])
        assert torch.equal(masks.edscw, expected[1].edscw)
        assert torch.equal(masks.em, expected[1].em)


def test_an_unbatched_map_is_a_batch_of_one_and_stays_as_it_is() -> None:
    x = mixed(3, 7, 6)
    before = x.clone()
    y, masks = adapool2d(x, torch.tensor(0.3).double(), 3, 2, 1, True, return_masks=True)
    batched, batched_masks = adapool2d(x[None], 0.3, 3, 2, 1, True, return_masks=True)
    torch.testing.assert_close(y, batched[0])
    torch.testing.assert_close(masks.edscw, batched_masks.edscw[0])
    assert masks.beta.shape == (1, 1, 1)
    assert empool2d(x).shape == (3, 3, 3)
    assert edscwpool2d(x, return_masks=True)[1].shape == (3, 6, 6)
    assert x.shape == (3, 7, 6)
    assert torch.equal(x, before)


@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[3]], ids=str)
def test_an_empty_batch_gives_an_empty_result(window: Window) -> None:
    x = torch.zeros(0, 3, 8, 6, requires_grad=True)
    beta = torch.full((3, 1, 1), 0.5, requires_grad=True)
    y, masks = adapool2d(x, beta, *window, return_masks=True)
    assert y.shape[:2] == (0, 3)
    assert masks.em.shape[0] == 0
    torch.autograd.backward(y.sum())
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert beta.grad is not None
    assert torch.equal(beta.grad, torch.zeros(3, 1, 1))


def test_inputs_are_never_modified() -> None:
    x, beta = relu_like(2, 3, 7, 6, dtype=torch.float32), torch.tensor(0.3)
    x0, beta0 = x.clone(), beta.clone()
    x.requires_grad_()
    y, masks = adapool2d(x, beta, ceil_mode=True, return_masks=True)
    torch.autograd.backward(y.sum() + masks.em.square().sum())
    assert torch.equal(x, x0)
    assert torch.equal(beta, beta0)


# --- the facts -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_weights_of_a_window_are_positive_bounded_and_sum_to_one(
    window: Window, dtype: torch.dtype
) -> None:
    kernel = window[0]
    x = relu_like(2, 3, 7, 6, dtype=dtype) - 0.2 * mixed(2, 3, 7, 6, seed=5, dtype=dtype).relu()
    _, masks = adapool2d(x, 0.5, *window, return_masks=True)
    inside = windows_of(torch.from_numpy(truth.pool(x.double().numpy(), window, "em")[1]), kernel)
    count = (inside > 0).sum(-1, keepdim=True)
    ulp = torch.finfo(dtype).eps
    for mask in (masks.edscw, masks.em):
        cut = windows_of(mask, kernel)
        assert bool((cut[inside > 0] > 0).all())
        assert bool((cut[inside == 0] == 0).all())
        torch.testing.assert_close(
            cut.sum(-1),
            torch.ones_like(cut[..., 0]),
            rtol=0,
            atol=4 * ulp * math.prod(kernel),
        )
    low, high = 1 / (1 + (count - 1) * math.e), math.e / (math.e + count - 1)
    cut = windows_of(masks.edscw, kernel)
    assert bool(((cut >= low * (1 - 4 * ulp)) | (inside == 0)).all())
    assert bool((cut <= high * (1 + 4 * ulp)).all())


def test_the_result_lies_within_its_window() -> None:
    x = mixed(4, 8, 16, 16, dtype=torch.float32) * 10
    y = adapool2d(x, 0.4)
    top = torch.nn.functional.max_pool2d(x, 2)
    bottom = -torch.nn.functional.max_pool2d(-x, 2)
    slack = 1e-6 * x.abs().max()
    assert bool((y <= top + slack).all())
    assert bool((y >= bottom - slack).all())


@pytest.mark.parametrize("value", [0.0, 1.0, -3.7, 1e30, 1e-40])
def test_a_flat_window_gives_its_value_and_equal_weights(value: float) -> None:
    x = torch.full((1, 2, 4, 4), value)
    y, masks = adapool2d(x, 0.3, return_masks=True)
    torch.testing.assert_close(y, torch.full_like(y, value), rtol=4e-7, atol=1e-44)
    for mask in (masks.edscw, masks.em):
        torch.testing.assert_close(mask, torch.full_like(mask, 0.25), rtol=2e-7, atol=0)


def test_a_window_of_one_is_the_identity() -> None:
    x = mixed(2, 3, 5, 4, dtype=torch.float32)
    assert torch.equal(edscwpool2d(x, 1), x)
    assert torch.equal(empool2d(x, 1), x)
    torch.testing.assert_close(adapool2d(x, 0.3, 1), x, rtol=2.5e-7, atol=0)


def test_edscw_scales_with_its_input() -> None:
    x = mixed(2, 3, 8, 6)
    for factor in (-2.5, 1e-3, 1e200, -1e-200):
        expected = factor * edscwpool2d(x)
        torch.testing.assert_close(edscwpool2d(factor * x), expected, rtol=1e-12, atol=0)
    x32 = mixed(2, 3, 8, 6, dtype=torch.float32)
    for factor in (-2.5, 1e30, -1e-30):
        expected = factor * edscwpool2d(x32)
        torch.testing.assert_close(edscwpool2d(factor * x32), expected, rtol=2e-5, atol=0)


def test_em_shifts_with_its_input_and_is_at_least_the_mean() -> None:
    x = mixed(2, 3, 8, 6)
    for shift in (3.0, -100.0, 800.0):
        torch.testing.assert_close(empool2d(x + shift), empool2d(x) + shift)
    assert bool((empool2d(x) >= torch.nn.functional.avg_pool2d(x, 2)).all())


def test_the_order_within_a_window_does_not_matter() -> None:
    x = mixed(2, 3, 8, 6)
    cut = x.reshape(2, 3, 4, 2, 3, 2)
    turned = cut.flip(3, 5).flatten(4).flatten(2, 3)
    assert not torch.equal(turned, x)
    torch.testing.assert_close(adapool2d(turned, 0.3), adapool2d(x, 0.3))


def test_a_window_of_zeros_gives_zero_equal_weights_and_an_even_gradient() -> None:
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    y, masks = adapool2d(x, 0.3, return_masks=True)
    assert torch.equal(y, torch.zeros_like(y))
    torch.testing.assert_close(masks.edscw, torch.full_like(masks.edscw, 0.25))
    torch.testing.assert_close(masks.em, torch.full_like(masks.em, 0.25))
    g = torch.tensor([[1.0, -2.0], [3.0, 5.0]]).view(1, 1, 2, 2)
    torch.autograd.backward(y, g)
    torch.testing.assert_close(x.grad, g.repeat_interleave(2, 2).repeat_interleave(2, 3) / 4)


EXTREMES = {
    "huge": [1e30, -1e30, 1e30, 5e29],
    "huge beside one": [1e30, 1.0, -1.0, 0.0],
    "cancelling": [1.0, -1.0, 2.0, -2.0],
    "cancelling huge": [1e30, -1e30, 1e30, -1e30],
    "cancelling tiny": [1e-30, -1e-30, 1e-30, -1e-30],
    "denormal": [1e-40, 2e-40, -3e-41, 0.0],
    "smallest": [2.8e-44, 0.0, 0.0, 0.0],
    "squares vanish": [1e-25, 3e-25, 2e-25, 1e-25],
    "products overflow": [1e5, 2e5, -3e5, 1e5],
    "above exp's range": [1e4, 89.0, 100.0, 88.0],
    "one sign": [-1e30, -2e30, -3.0, -1e-30],
}


@pytest.mark.parametrize("name", EXTREMES)
def test_finite_input_gives_finite_and_right_results(name: str) -> None:
    values = torch.tensor(EXTREMES[name], dtype=torch.float32)
    # Beside ordinary windows, so that vectors of values are mixed.
    x = mixed(1, 1, 2, 38, dtype=torch.float32)
    x[..., :2, 6:8] = values.view(2, 2)
    x.requires_grad_()
    window = WINDOWS[0]
    y, masks = adapool2d(x, 0.5, return_masks=True)
    array = x.detach().double().numpy()
    (yd, md), (ym, mm) = (truth.pool(array, window, method) for method in ("edscw", "em"))
    largest = float(values.abs().max())
    # A denormal mean has few digits.
    rtol = 5e-3 if largest < 1e-38 else 5e-6
    np.testing.assert_allclose(masks.edscw.detach().numpy(), md, rtol=rtol, atol=1e-30)
    np.testing.assert_allclose(masks.em.detach().numpy(), mm, rtol=5e-6, atol=1e-30)
    error = abs(float(y.detach()[0, 0, 0, 3]) - float((yd + ym)[0, 0, 0, 3] / 2))
    assert error <= 2e-6 * largest + 1e-44
    torch.autograd.backward(y, torch.ones_like(y))
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_the_largest_floats_overflow_nowhere_in_the_reference() -> None:
    top = torch.finfo(torch.float32).max
    for values in ([top] * 4, [-top] * 4, [top, -top, -top, -top], [top, top, -top, 0.0]):
        x = torch.tensor(values).view(1, 1, 2, 2)
        # Through a geometry that no native kernel has: a row of windows of 2x2, stride 1.
        y, masks = adapool2d(x, 0.5, 2, 1, return_masks=True)
        assert bool(y.isfinite().all())
        assert bool(masks.edscw.isfinite().all())
        assert bool(masks.em.isfinite().all())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[1], WINDOWS[3]], ids=str)
def test_nan_and_infinity_show_in_their_windows_and_nowhere_else(
    window: Window, bad: float
) -> None:
    for place in ((2, 3), (0, 0), (6, 18)):
        x = mixed(2, 2, 7, 19, dtype=torch.float32)
        clean, clean_masks = adapool2d(x, 0.5, *window, return_masks=True)
        x[0, 1, *place] = bad
        touched = torch.zeros(clean.shape, dtype=torch.bool)
        for cell, members in truth.cells((7, 19), window):
            touched[0, 1, *cell] = place in [pixel for _, pixel in members]
        x.requires_grad_()
        y, masks = adapool2d(x, 0.5, *window, return_masks=True)
        assert torch.equal(~y.isfinite(), touched)
        assert torch.equal(y[~touched], clean[~touched])
        cut = windows_of(masks.edscw, window[0])
        clean_cut = windows_of(clean_masks.edscw, window[0])
        assert torch.equal(cut[~touched], clean_cut[~touched])
        torch.autograd.backward(y, torch.ones_like(y))
        assert x.grad is not None
        reached = torch.zeros(x.shape, dtype=torch.bool)
        for cell, members in truth.cells((7, 19), window):
            if touched[0, 1, *cell]:
                for _, pixel in members:
                    reached[0, 1, *pixel] = True
        assert bool((x.grad.isfinite() | reached).all())
        assert bool(x.grad[0, 1, *place].isfinite()) == (not bool(touched.any()))


@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[3]], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_repeats_threads_and_batch_position_do_not_change_a_bit(
    window: Window, memory_format: torch.memory_format
) -> None:
    image = mixed(1, 5, 66, 71, dtype=torch.float32)
    x = torch.cat([mixed(3, 5, 66, 71, seed=1, dtype=torch.float32), image])
    x = x.contiguous(memory_format=memory_format)

    def run(x: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        beta = torch.full((1, 5, 1, 1), 0.3, requires_grad=True)
        y, masks = adapool2d(x, beta, *window, return_masks=True)
        grads = torch.autograd.grad((y, masks.em), (x, beta), (y.detach(), masks.em.detach()))
        return [y, masks.edscw, masks.em, *grads]

    first = run(x)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert all(map(torch.equal, run(x), first))
    finally:
        torch.set_num_threads(threads)
    alone = run(image.contiguous(memory_format=memory_format))
    assert all(torch.equal(a[0], b[-1]) for a, b in zip(alone[:4], first[:4], strict=True))
