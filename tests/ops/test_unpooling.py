"""Unpooling: by kept masks, by one mask, and by the encoder's map."""

from __future__ import annotations

import itertools

import numpy as np
import pooling_truth as truth
import pytest
import torch
from pooling_truth import WINDOWS, Window, assert_near, mixed, relu_like
from torch import Tensor

from adapool_sr.ops import adapool2d, adaunpool2d, edscwpool2d, empool2d
from adapool_sr.ops.checks import Gain

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
GAINS: list[Gain] = [1.0, 4.0, "area"]


@pytest.fixture(autouse=True, params=truth.NAMESPACES)
def namespace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    truth.use_namespace(request.param, monkeypatch)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_unpooling_is_the_formula(window: Window, gain: Gain, dtype: torch.dtype) -> None:
    x = relu_like(2, 3, 7, 6, dtype=dtype)
    beta = torch.tensor([0.25, 0.5, 1.0], dtype=dtype).view(3, 1, 1)
    pooled, masks = adapool2d(x, beta, *window, return_masks=True)
    y = mixed(*pooled.shape, seed=2, dtype=dtype)
    b = beta.double().numpy()
    for source in (masks.edscw, masks.em):
        values = source.double().numpy()
        expected = truth.unpool(y.double().numpy(), values, (7, 6), window, gain)
        found = adaunpool2d(
            y,
            source,
            kernel_size=window[0],
            stride=window[1],
            padding=window[2],
            ceil_mode=window[3],
            output_size=(7, 6),
            gain=gain,
        )
        assert_near(found, expected, dtype)
    both = b * masks.edscw.double().numpy() + (1 - b) * masks.em.double().numpy()
    expected = truth.unpool(y.double().numpy(), both, (7, 6), window, gain)
    assert_near(adaunpool2d(y, masks, gain=gain), expected, dtype)


@pytest.mark.parametrize("beta_shape", [(), (3, 1, 1), (2, 1, -1, -1)])
@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_like_gives_the_result_and_gradients_of_kept_masks(
    window: Window, gain: Gain, beta_shape: tuple[int, ...]
) -> None:
    out = truth.output_size((7, 6), window)
    shape = tuple(out[i - 2] if n == -1 else n for i, n in enumerate(beta_shape))
    beta = torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def run(like: bool) -> list[Tensor]:
        x = mixed(2, 3, 7, 6).requires_grad_()
        b = beta.clone().requires_grad_()
        y, masks = adapool2d(x, b, *window, return_masks=True)
        z = y.tanh()
        if like:
            kernel, stride, padding, ceil_mode = window
            u = adaunpool2d(
                z,
                like=x,
                beta=b,
                kernel_size=kernel,
                stride=stride,
                padding=padding,
                ceil_mode=ceil_mode,
                gain=gain,
            )
        else:
            u = adaunpool2d(z, masks, gain=gain)
        seed = mixed(*u.shape, seed=4)
        return [u, *torch.autograd.grad(u, (x, b, z), seed)]

    for kept, again in zip(run(False), run(True), strict=True):
        torch.testing.assert_close(again, kept, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_with_gain_one_unpooling_is_the_adjoint_of_pooling(window: Window) -> None:
    x, v = mixed(2, 3, 7, 6), mixed(2, 3, 7, 6, seed=1)
    pooled, masks = adapool2d(x, 0.3, *window, return_masks=True)
    y = mixed(*pooled.shape, seed=2)
    left = (adaunpool2d(y, masks) * v).sum()
    # Σ w v with w held: the weights of x, laid out window by window.
    w = 0.3 * masks.edscw + 0.7 * masks.em
    right = 0.0
    for cell, members in truth.cells((7, 6), window):
        for place, pixel in members:
            y_w = y[truth.everywhere(cell)] * w[truth.everywhere(place)]
            right += float((y_w * v[truth.everywhere(pixel)]).sum())
    assert float(left) == pytest.approx(right, rel=1e-12)


def test_gain_one_keeps_a_windows_sum_and_gain_k_its_mean() -> None:
    x = mixed(2, 3, 8, 6)
    y, masks = adapool2d(x, 0.3, return_masks=True)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(adaunpool2d(y, masks), 2) * 4, y)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(adaunpool2d(y, masks, gain=4), 2), y)


def test_flat_maps_stay_flat_in_every_geometry() -> None:
    for n, k, s, p in itertools.product(range(5, 12), range(1, 5), range(1, 4), range(2)):
        if 2 * p > k:
            continue
        for ceil_mode in (False, True):
            x = torch.full((1, 1, n, n), 0.7, dtype=torch.float64)
            y, masks = adapool2d(x, 0.3, k, s, p, ceil_mode, return_masks=True)
            u = adaunpool2d(y, masks, gain="area")
            window = ((k, k), (s, s), (p, p), ceil_mode)
            covered = torch.zeros(n, n, dtype=torch.bool)
            for _, members in truth.cells((n, n), window):
                for _, pixel in members:
                    covered[pixel] = True
            torch.testing.assert_close(u[0, 0][covered], x[0, 0][covered])
            assert bool((u[0, 0][~covered] == 0).all())
            assert bool(covered.all()) or not ceil_mode or s > k


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[1], WINDOWS[3]], ids=str)
def test_layout_does_not_change_a_bit_and_is_kept(window: Window, dtype: torch.dtype) -> None:
    x = mixed(2, 8, 19, 21, dtype=dtype)
    kernel, stride, padding, ceil_mode = window

    def run(x: Tensor, format_: torch.memory_format) -> list[Tensor]:
        pooled, masks = adapool2d(x, 0.3, *window, return_masks=True)
        y = mixed(*pooled.shape, seed=2, dtype=dtype).contiguous(memory_format=format_)
        again = adaunpool2d(
            y,
            like=x,
            beta=0.3,
            kernel_size=kernel,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            gain="area",
        )
        return [adaunpool2d(y, masks, gain="area"), again]

    expected = run(x, torch.contiguous_format)
    last = run(x.to(memory_format=torch.channels_last), torch.channels_last)
    for a, b in zip(expected, last, strict=True):
        assert torch.equal(a, b)
        assert a.is_contiguous()
        assert b.is_contiguous(memory_format=torch.channels_last)
        assert b.dtype == dtype
    strided = run(torch.stack([x, -x], -1)[..., 0], torch.contiguous_format)
    crossed = run(x.to(memory_format=torch.channels_last), torch.contiguous_format)
    for other in (strided, crossed):
        assert all(map(torch.equal, other, expected))


def test_one_mask_of_a_single_method_drives_an_unpooling() -> None:
    x = mixed(2, 3, 8, 6)
    for function, beta in ((edscwpool2d, 1.0), (empool2d, 0.0)):
        y, mask = function(x, return_masks=True)
        found = adaunpool2d(y, mask, gain="area")
        _, masks = adapool2d(x, beta, return_masks=True)
        torch.testing.assert_close(found, adaunpool2d(y, masks, gain="area"))
        assert not torch.allclose(found, y.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_one_mask_without_an_output_size_fills_what_its_windows_cover() -> None:
    y, mask = empool2d(mixed(1, 2, 7, 7), 3, 2, return_masks=True)
    assert adaunpool2d(y, mask, kernel_size=3, stride=2).shape == (1, 2, 7, 7)
    y, mask = empool2d(mixed(1, 2, 7, 8), 2, return_masks=True)
    assert adaunpool2d(y, mask).shape == (1, 2, 6, 8)
    assert adaunpool2d(y, mask, kernel_size=2, output_size=(7, 8)).shape == (1, 2, 7, 8)


def test_positions_in_no_window_get_zero() -> None:
    y, masks = adapool2d(mixed(1, 1, 7, 7), 0.5, return_masks=True)
    for gain in GAINS:
        u = adaunpool2d(y, masks, gain=gain)
        assert bool((u[..., 6, :] == 0).all())
        assert bool((u[..., :, 6] == 0).all())
        assert bool((u[..., :6, :6] != 0).all())


def test_an_unbatched_map_unpools_like_a_batch_of_one() -> None:
    x = mixed(3, 7, 6)
    y, masks = adapool2d(x, torch.full((3, 1, 1), 0.3).double(), ceil_mode=True, return_masks=True)
    u = adaunpool2d(y, masks, gain="area")
    batched = adapool2d(x[None], 0.3, ceil_mode=True, return_masks=True)
    torch.testing.assert_close(u, adaunpool2d(*batched, gain="area")[0], rtol=1e-6, atol=1e-7)
    again = adaunpool2d(y, like=x, beta=0.3, ceil_mode=True, gain="area")
    torch.testing.assert_close(again, u, rtol=1e-6, atol=1e-7)
    y, mask = empool2d(x, return_masks=True)
    assert adaunpool2d(y, mask, output_size=(7, 6)).shape == (3, 7, 6)


def test_an_empty_batch_unpools_to_an_empty_result() -> None:
    y, masks = adapool2d(torch.zeros(0, 3, 8, 6), 0.5, return_masks=True)
    assert adaunpool2d(y, masks).shape == (0, 3, 8, 6)
    assert adaunpool2d(y, like=torch.zeros(0, 3, 8, 6), beta=0.5).shape == (0, 3, 8, 6)


def test_with_constant_weights_like_gets_no_gradient_but_beta_does() -> None:
    x = mixed(1, 2, 4, 4).requires_grad_()
    beta = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    y = mixed(1, 2, 2, 2, seed=1).requires_grad_()
    u = adaunpool2d(y, like=x, beta=beta, weight_grad=False)
    grads = torch.autograd.grad(u, (x, beta, y), mixed(1, 2, 4, 4, seed=2))
    assert torch.equal(grads[0], torch.zeros_like(x))
    exact = adaunpool2d(y, like=x, beta=beta)
    expected = torch.autograd.grad(exact, (x, beta, y), mixed(1, 2, 4, 4, seed=2))
    assert not torch.equal(expected[0], torch.zeros_like(x))
    torch.testing.assert_close(grads[1:], expected[1:])


@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[1], WINDOWS[3]], ids=str)
def test_a_nan_spreads_over_its_window_only(window: Window) -> None:
    x = mixed(1, 2, 7, 19, dtype=torch.float32)
    y, masks = adapool2d(x, 0.5, *window, return_masks=True)
    clean = adaunpool2d(y, masks, gain="area")
    y[0, 1, 1, 2] = np.nan
    touched = torch.zeros(clean.shape, dtype=torch.bool)
    for cell, members in truth.cells((7, 19), window):
        if cell == (1, 2):
            for _, pixel in members:
                touched[0, 1, *pixel] = True
    u = adaunpool2d(y, masks, gain="area")
    assert torch.equal(u.isnan(), touched)
    assert torch.equal(u[~touched], clean[~touched])


@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[3]], ids=str)
def test_repeats_threads_and_batch_position_do_not_change_a_bit(window: Window) -> None:
    x = mixed(3, 5, 66, 71, dtype=torch.float32)
    pooled, masks = adapool2d(x, 0.3, *window, return_masks=True)
    y = mixed(*pooled.shape, seed=2, dtype=torch.float32)

    def run() -> list[Tensor]:
        inputs = [t.detach().requires_grad_() for t in (y, masks.edscw, masks.em)]
        kept = masks._replace(edscw=inputs[1], em=inputs[2])
        u = adaunpool2d(inputs[0], kept, gain="area")
        return [u, *torch.autograd.grad(u, inputs, x)]

    first = run()
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert all(map(torch.equal, run(), first))
    finally:
        torch.set_num_threads(threads)
    last = masks._replace(edscw=masks.edscw[2:], em=masks.em[2:])
    assert torch.equal(adaunpool2d(y[2:], last, gain="area")[0], first[0][2])
