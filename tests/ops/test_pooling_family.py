"""The whole family against the truth: every rank, method, granularity, similarity and distance."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pooling_truth as truth
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pooling_truth import Window, assert_near, mixed, relu_like
from torch import Tensor

from adapool_sr import ops
from adapool_sr.ops import PoolMasks, library

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]

SPACES: dict[int, tuple[tuple[int, ...], list[Window]]] = {
    1: (
        (9,),
        [((2,), (2,), (0,), True), ((3,), (2,), (1,), False), ((4,), (3,), (2,), True)],
    ),
    2: ((5, 6), [((2, 2), (2, 2), (0, 0), True), ((3, 2), (2, 1), (1, 0), False)]),
    3: (
        (3, 4, 5),
        [
            ((2, 2, 2), (2, 2, 2), (0, 0, 0), True),
            ((2, 3, 2), (1, 2, 3), (0, 1, 1), False),
        ],
    ),
}
CASES = [(rank, window) for rank, (_, windows) in SPACES.items() for window in windows]

# (function, its options, the truth's method, whether it weighs vectors)
SINGLES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("empool", {}, "em", {}),
    ("empool", {"granularity": "vector"}, "em", {}),
    ("edscwpool", {}, "dsc", {}),
    *(
        ("edscwpool", {"granularity": "vector", "similarity": name}, name, {"vector": True})
        for name in ("dsc", "cosine", "pce")
    ),
    *(
        (
            "idwpool",
            {"granularity": grain, "distance": name, "delta": 0.5, "zero_distance": zero},
            name,
            {"vector": grain == "vector", "delta": 0.5, "drop": zero == "drop"},
        )
        for grain, name, zero in itertools.product(
            ("channel", "vector"), ("l1", "l2", "huber", "chebyshev"), ("limit", "drop")
        )
    ),
]
IDS = ["-".join([name, *map(str, options.values())]) for name, options, _, _ in SINGLES]


@pytest.fixture(params=truth.NAMESPACES)
def namespace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    truth.use_namespace(request.param, monkeypatch)


def function(name: str, rank: int) -> Any:
    return getattr(ops, f"{name}{rank}d")


def words(window: Window) -> dict[str, Any]:
    return dict(zip(("kernel_size", "stride", "padding", "ceil_mode"), window, strict=True))


def well_apart(*shape: int, dtype: torch.dtype) -> Tensor:
    """Values that a half-precision float holds, no two alike in a window: no distance is near 0."""
    n = int(np.prod(shape))
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    return ((order * 37 % 101 - 50).double() / 16).reshape(shape).to(dtype)


# --- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("name", "options", "method", "rule"), SINGLES, ids=IDS)
def test_each_method_is_its_formula_in_every_rank(
    name: str, options: dict[str, Any], method: str, rule: dict[str, Any], dtype: torch.dtype
) -> None:
    for rank, window in CASES:
        x = well_apart(2, 3, *SPACES[rank][0], dtype=dtype)
        values, mask = truth.pool(x.double().numpy(), window, method, **rule)
        y, found = function(name, rank)(x, *window, **options, return_masks=True)
        # Of an inverse distance the rounding of the mean is a larger part.
        factor = 20 if name == "idwpool" else 1
        assert_near(y / factor, values / factor, dtype)
        assert_near(found / factor, mask / factor, dtype)
        assert torch.equal(function(name, rank)(x, *window, **options), y)


@pytest.mark.parametrize("granularity", ["channel", "vector"])
@pytest.mark.parametrize(("rank", "window"), CASES, ids=str)
def test_adapool_and_unpooling_are_their_formulas_in_every_rank(
    rank: int, window: Window, granularity: str, namespace: None
) -> None:
    size, vector = SPACES[rank][0], granularity == "vector"
    ones = (1,) * rank
    for dtype in DTYPES:
        x = relu_like(2, 3, *size, dtype=dtype) if rank > 1 else mixed(2, 3, *size, dtype=dtype)
        yd, md = truth.pool(x.double().numpy(), window, "dsc", vector)
        ym, mm = truth.pool(x.double().numpy(), window, "em")
        beta = torch.tensor([0.25, 0.5, 1.0], dtype=dtype).view(3, *ones)
        b = beta.double().numpy()
        y, masks = function("adapool", rank)(
            x, beta, *window, granularity=granularity, return_masks=True
        )
        assert_near(y, b * yd + (1 - b) * ym, dtype)
        assert_near(masks.edscw, md, dtype)
        assert_near(masks.em, mm, dtype)
        both = b * masks.edscw.double().numpy() + (1 - b) * masks.em.double().numpy()
        for gain in (1.0, "area"):
            expected = truth.unpool(y.double().numpy(), both, size, window, gain)
            unpool = function("adaunpool", rank)
            assert_near(unpool(y, masks, gain=gain), expected, dtype)
            again = unpool(
                y, like=x, beta=beta, granularity=granularity, gain=gain, **words(window)
            )
            assert_near(again, expected, dtype)
        expected = truth.unpool(y.double().numpy(), masks.edscw.double().numpy(), size, window, 1.0)
        found = unpool(y, masks.edscw, output_size=size, **words(window))
        assert_near(found, np.broadcast_to(expected, found.shape), dtype)


@pytest.mark.parametrize("name", ["adapool", "edscwpool", "empool", "idwpool"])
def test_one_dimension_is_two_with_one_row_is_three_with_one_slice(name: str) -> None:
    x = mixed(2, 3, 9, dtype=torch.float32).requires_grad_()
    found = []
    for rank in (1, 2, 3):
        flat = (1,) * (rank - 1)
        arguments = (0.3,) if name == "adapool" else ()
        window = ((*flat, 3), (*flat, 2), (*(0 for _ in flat), 1), True)
        view = x.view(2, 3, *flat, 9)
        y, masks = function(name, rank)(view, *arguments, *window, return_masks=True)
        mask = masks.edscw if isinstance(masks, PoolMasks) else masks
        (grad,) = torch.autograd.grad(y.square().sum() + mask.square().sum(), x)
        found.append([y.flatten(), mask.flatten(), grad.flatten()])
    for other in found[1:]:
        assert all(map(torch.equal, other, found[0]))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_flat_maps_stay_flat_and_batches_may_be_absent_or_empty(rank: int) -> None:
    size, windows = SPACES[rank]
    for window, granularity in itertools.product(windows, ("channel", "vector")):
        if not window[3]:
            continue  # without ceil_mode positions may lie in no window
        x = torch.full((3, *size), 0.7, dtype=torch.float64)
        options = {"granularity": granularity, "return_masks": True}
        y, masks = function("adapool", rank)(x, 0.3, *window, **options)
        torch.testing.assert_close(function("adaunpool", rank)(y, masks, gain="area"), x)
        y, masks = function("adapool", rank)(x.new_empty(0, *x.shape), 0.3, *window, **options)
        assert function("adaunpool", rank)(y, masks).shape == (0, *x.shape)
        assert function("idwpool", rank)(x.new_empty(0, *x.shape), *window).shape[0] == 0


# --- layouts, threads ------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["channel", "vector"])
@pytest.mark.parametrize("rank", [2, 3])
def test_layout_threads_and_repeats_do_not_change_a_bit(rank: int, granularity: str) -> None:
    size, (window, other) = SPACES[rank]
    last = torch.channels_last if rank == 2 else torch.channels_last_3d
    x = mixed(2, 21, *(4 * n for n in size), dtype=torch.float32)
    views = [x, x.contiguous(memory_format=last), torch.stack([x, -x], -1)[..., 0]]
    threads = torch.get_num_threads()
    for geometry in (window, other):
        found = []
        for view, count in [*((v, threads) for v in views), (x, 1), (x, 3)]:
            torch.set_num_threads(count)
            leaf = view.detach().requires_grad_()
            beta = torch.full((21, *(1,) * rank), 0.3, requires_grad=True)
            y, masks = function("adapool", rank)(
                leaf, beta, *geometry, granularity=granularity, return_masks=True
            )
            z, mask = function("idwpool", rank)(
                leaf, *geometry, granularity=granularity, return_masks=True
            )
            outputs = [y, masks.edscw, z, mask]
            seeds = [t.detach() for t in outputs]
            found.append([*outputs, *torch.autograd.grad(outputs, (leaf, beta), seeds)])
        torch.set_num_threads(threads)
        assert found[1][0].is_contiguous(memory_format=last)
        for each in found[1:]:
            assert all(map(torch.equal, each, found[0]))


# --- extremes --------------------------------------------------------------------------------

EXTREMES = {
    "huge": [1e30, -1e30, 1e30, 5e29],
    "huge beside one": [1e30, 1.0, -1.0, 0.0],
    "cancelling": [1.0, -1.0, 2.0, -2.0],
    "denormal": [1e-40, 2e-40, -3e-41, 0.0],
    "squares vanish": [1e-25, 3e-25, 2e-25, 1e-25],
    "zeros": [0.0, 0.0, 0.0, 0.0],
    "flat": [0.1, 0.1, 0.1, 0.1],
    "a zero distance": [1.0, 2.0, 3.0, 2.0],
}


@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize(("name", "options", "method", "rule"), SINGLES, ids=IDS)
def test_finite_input_gives_finite_results_and_gradients(
    name: str, options: dict[str, Any], method: str, rule: dict[str, Any], kind: str
) -> None:
    x = torch.tensor(EXTREMES[kind]).view(1, 1, 2, 2)
    x = torch.cat([x, x.flip(-1), mixed(1, 1, 2, 2, dtype=torch.float32)], 1).requires_grad_()
    y, mask = function(name, 2)(x, **options, return_masks=True)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert bool(y.isfinite().all())
    assert bool(grad.isfinite().all())
    torch.testing.assert_close(mask.sum((2, 3)), torch.ones(mask.shape[:2]))
    window: Window = ((2, 2), (2, 2), (0, 0), False)
    values, expected = truth.pool(x.detach().double().numpy(), window, method, **rule)
    scale = float(np.abs(values).max())
    assert np.abs(y.detach().double().numpy() - values).max() <= 3e-6 * scale + 1e-44
    if name != "idwpool":  # whose weights near a zero distance are the mean's rounding
        np.testing.assert_allclose(mask.detach().numpy(), expected, rtol=5e-3, atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize(("name", "options", "method", "rule"), SINGLES, ids=IDS)
def test_nan_and_infinity_show_in_their_windows_and_nowhere_else(
    name: str, options: dict[str, Any], method: str, rule: dict[str, Any], bad: float
) -> None:
    x = mixed(1, 3, 7, 8, dtype=torch.float32)
    window: Window = ((3, 3), (2, 2), (1, 1), True)
    clean = function(name, 2)(x, *window, **options)
    x[0, 1, 2, 5] = bad
    x.requires_grad_()
    y = function(name, 2)(x, *window, **options)
    touched = torch.zeros(y.shape, dtype=torch.bool)
    reached = torch.zeros(x.shape, dtype=torch.bool)
    channels = [0, 1, 2] if rule.get("vector") else [1]
    for cell, members in truth.cells((7, 8), window):
        if (2, 5) in [pixel for _, pixel in members]:
            for channel in channels:
                touched[0, channel][truth.everywhere(cell)] = True
                for _, pixel in members:
                    reached[0, channel][truth.everywhere(pixel)] = True
    assert torch.equal(~y.isfinite(), touched)
    assert torch.equal(y[~touched], clean[~touched])
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert bool((grad.isfinite() | reached).all())


def test_the_two_rules_for_a_distance_of_zero() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 2.0]).view(1, 1, 4).requires_grad_()
    for rule, expected in (("limit", [0, 0.5, 0, 0.5]), ("drop", [0.5, 0, 0.5, 0])):
        y, mask = ops.idwpool1d(x, 4, zero_distance=rule, return_masks=True)
        assert mask.flatten().tolist() == expected
        # Such weights are constants for the gradient.
        (grad,) = torch.autograd.grad(y.sum() + mask.square().sum(), x)
        assert grad.flatten().tolist() == expected
    flat = ops.idwpool1d(torch.ones(1, 1, 4), 4, zero_distance="drop", return_masks=True)
    assert flat[1].flatten().tolist() == [0.25] * 4


# --- native and reference on random calls ----------------------------------------------------


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    rank = draw(st.integers(1, 3))

    def each(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.integers(least, most)) for _ in range(rank))

    kernel = each(1, 3)
    small = draw(st.booleans())  # the windows that kernels are written for
    return {
        "rank": rank,
        "window": ((2,) * rank, (2,) * rank, (0,) * rank, draw(st.booleans()))
        if small
        else (
            kernel,
            each(1, 3),
            tuple(draw(st.integers(0, k // 2)) for k in kernel),
            draw(st.booleans()),
        ),
        "shape": (draw(st.integers(1, 2)), draw(st.integers(1, 19)), *each(3, 7)),
        "dtype": draw(st.sampled_from(DTYPES)),
        "layout": draw(st.sampled_from(["contiguous", "last", "strided"])),
        "granularity": draw(st.sampled_from(["channel", "channel", "vector"])),
        "weight_grad": draw(st.booleans()),
        "beta": draw(st.sampled_from(["float", "channel", "map", "batch"])),
        "gain": draw(st.sampled_from([1.0, "area"])),
        "seed": draw(st.integers(0, 99)),
    }


def run_call(call: dict[str, Any]) -> list[Tensor]:
    """Pool with masks, unpool by them and by the map; results and all gradients."""
    rank, dtype, window = call["rank"], call["dtype"], call["window"]
    x = mixed(*call["shape"], seed=call["seed"], dtype=dtype)
    if call["layout"] == "last":
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    elif call["layout"] == "strided":
        x = torch.stack([x, -x], -1)[..., 0]
    x.requires_grad_()
    out = truth.output_size(call["shape"][2:], window)
    shapes = {
        "channel": (call["shape"][1], *(1,) * rank),
        "map": out,
        "batch": (call["shape"][0], 1, *out),
    }
    beta: Any = 0.3
    if call["beta"] != "float":
        beta = torch.full(shapes[call["beta"]], 0.3, dtype=dtype, requires_grad=True)
    common = {"granularity": call["granularity"], "weight_grad": call["weight_grad"]}
    y, masks = function("adapool", rank)(x, beta, *window, **common, return_masks=True)
    unpool = function("adaunpool", rank)
    kept = unpool(y, masks, gain=call["gain"])
    again = unpool(y, like=x, beta=beta, gain=call["gain"], **common, **words(window))
    outputs = [y, masks.edscw, masks.em, kept, again]
    seeds = [t.detach() for t in outputs]
    leaves = [x, beta] if isinstance(beta, Tensor) else [x]
    return [*seeds, *torch.autograd.grad(outputs, leaves, seeds)]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(call=calls())
def test_native_and_reference_agree_on_random_calls(call: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for namespace in library.NAMESPACES:
            truth.use_namespace(namespace, patch)
            found.append(run_call(call))
    # Sums of halves in another order round elsewhere.
    tolerance = 40 * truth.TOLERANCE[call["dtype"]]
    for a, b in zip(*found, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        worst = (a.double() - b.double()).abs().max()
        assert worst <= tolerance * max(1.0, float(b.double().abs().max())), call
