"""The native kernels over any window, rank, dtype and layout, against the reference."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from adapool_sr.ops import build

native: Any = torch.ops.adapool
reference: Any = torch.ops.adapool_reference

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# Of the largest value of each result, or of 1: results are rounded to their dtype once.
TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 3e-5,
    torch.bfloat16: 1.6e-2,
    torch.float16: 2e-3,
}
# A distance of IDW divides: where a value lies near the mean, its rounding counts for more.
IDW_FACTOR = 20

Call = tuple[str, tuple[Any, ...]]


@pytest.fixture(autouse=True)
def kernels() -> None:
    if os.environ.get("ADAPOOL_NATIVE") == "0":
        pytest.skip("ADAPOOL_NATIVE=0")
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("no C++ compiler")
    assert build.load().kernel == "native", build.load().why


def run(ops: Any, name: str, arguments: tuple[Any, ...]) -> list[Tensor]:
    result = getattr(ops, name)(*arguments)
    return [result] if isinstance(result, Tensor) else list(result)


def bits(t: Tensor) -> Tensor:
    """The same memory as integers, which compare NaN as they are; -0 counts as 0."""
    t = torch.where(t == 0, 0, t).contiguous()
    return t.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[t.element_size()])


def last(t: Tensor) -> Tensor:
    """The same values with the channels innermost, where there is such a format."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return t.contiguous(memory_format=formats[t.dim()]) if t.dim() in formats else t


def strided(t: Tensor) -> Tensor:
    return t.repeat_interleave(2, -1)[..., ::2]


def changed(arguments: tuple[Any, ...], how: Any) -> tuple[Any, ...]:
    return tuple(how(v) if isinstance(v, Tensor) else v for v in arguments)


class Case:
    """Random maps, window and rules of one call; the same for the same seed."""

    def __init__(self, seed: int, dtype: torch.dtype) -> None:
        rng = random.Random(seed)
        torch.manual_seed(seed)
        rank = rng.choice([1, 2, 2, 3])
        kernel = [rng.randint(1, 4) for _ in range(rank)] if rng.random() < 0.8 else [2] * rank
        stride = [rng.randint(1, 4) for _ in range(rank)] if rng.random() < 0.7 else kernel
        padding = [rng.randint(0, k // 2) if rng.random() < 0.5 else 0 for k in kernel]
        most = (70, 17, 7)[rank - 1]
        size = [
            max(k - 2 * p, 1) + rng.randint(0, most) for k, p in zip(kernel, padding, strict=True)
        ]
        batch, channels = rng.randint(1, 2), rng.choice([1, 3, 5, 16, 20])
        self.window = (kernel, stride, padding, rng.random() < 0.5)
        self.size, self.dtype = size, dtype
        self.weight_grad, self.gain = rng.random() < 0.7, rng.choice([0.0, 1.5])
        distance = rng.choice(["l1", "l2", "huber", "chebyshev"])
        self.rule = (distance, 0.7, rng.random() < 0.5, False)
        shape = (batch, channels)

        def new(space: list[int]) -> Tensor:
            values = torch.randn(*shape, *space)
            return (values.relu() if rng.random() < 0.3 else values).to(dtype)

        self.x = new(size)
        out = list(reference.em_pool(self.x, *self.window, True).shape[2:])
        mask = [o * k for o, k in zip(out, kernel, strict=True)]
        self.y, self.grad_y, self.grad_u = new(out), new(out), new(size)
        self.grad_edscw, self.grad_em = new(mask), new(mask)
        beta = [rng.choice([1, n]) for n in (*shape, *out)]
        self.beta = torch.rand(beta if rng.random() < 0.5 else [1, channels] + [1] * rank).to(dtype)

    def calls(self) -> Iterator[Call]:
        """Every native operator with these maps."""
        x, y, beta, window = self.x, self.y, self.beta, (*self.window, self.weight_grad)
        grads = (self.grad_y, self.grad_edscw)
        yield "ada_pool", (x, beta, *window)
        yield "ada_pool_masks", (x, beta, *window)
        for masks in ((None, None), (self.grad_edscw, self.grad_em), (None, self.grad_em)):
            yield "ada_pool_backward", (self.grad_y, *masks, x, beta, *window)
        for method, rule in (("edscw", ()), ("em", ()), ("idw", self.rule)):
            yield f"{method}_pool", (x, *window, *rule)
            yield f"{method}_pool_masks", (x, *window, *rule)
            yield f"{method}_pool_backward", (*grads, x, *window, *rule)
            yield f"{method}_pool_backward", (self.grad_y, None, x, *window, *rule)
        _, edscw, em = reference.ada_pool_masks(x, beta, *window)
        for more in ((em, beta), (None, None)):
            unpool = (y, edscw, *more, self.size, *self.window, self.gain)
            yield "ada_unpool", unpool
            yield "ada_unpool_backward", (self.grad_u, *unpool)
        yield "ada_unpool_like", (y, x, beta, *window, self.gain)
        yield "ada_unpool_like_backward", (self.grad_u, y, x, beta, *window, self.gain)

    def __str__(self) -> str:
        return f"{tuple(self.x.shape)} {self.window} {self.dtype} {self.rule}"


def strides(t: Tensor) -> list[int]:
    """Strides where they say something: that of a dimension of size 1 is arbitrary."""
    return [s for s, n in zip(t.stride(), t.shape, strict=True) if n > 1]


def assert_near(got: list[Tensor], wanted: list[Tensor], factor: float, note: object) -> None:
    assert len(got) == len(wanted), note
    for a, b in zip(got, wanted, strict=True):
        assert (a.shape, a.dtype, strides(a)) == (b.shape, b.dtype, strides(b)), note
        if a.numel():
            worst = (a.double() - b.double()).abs().max()
            scale = b.double().abs().max().clamp(min=1)
            assert worst <= factor * TOLERANCE[a.dtype] * scale, note


def check_against_reference(seed: int, dtype: torch.dtype) -> None:
    case = Case(seed, dtype)
    how = last if seed % 2 else lambda t: t
    for name, given in case.calls():
        arguments = changed(given, how)
        got, wanted = run(native, name, arguments), run(reference, name, arguments)
        # Huber's factor and the division by a distance add roundings of their own.
        factor = float(IDW_FACTOR if name.startswith("idw") else 1)
        if any(t.dtype != dtype for t in got):  # float32 sums of half precisions
            factor = max(factor, TOLERANCE[dtype] / TOLERANCE[torch.float32] / 100)
        assert_near(got, wanted, factor, f"{name} of seed {seed}: {case}")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seeds", range(0, 40, 10))
def test_random_windows_equal_the_reference(seeds: int, dtype: torch.dtype) -> None:
    for seed in range(seeds, seeds + 10):
        check_against_reference(seed, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_many_random_windows_equal_the_reference(dtype: torch.dtype) -> None:
    for seed in range(100, 700):
        check_against_reference(seed, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts_of_random_windows_give_the_same_bits(dtype: torch.dtype) -> None:
    for seed in range(30):
        case = Case(seed, dtype)
        for name, arguments in case.calls():
            wanted = run(native, name, arguments)
            for how in (last, strided):
                got = run(native, name, changed(arguments, how))
                for a, b in zip(got, wanted, strict=True):
                    assert torch.equal(bits(a), bits(b)), (name, how.__name__, seed, str(case))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_threads_do_not_change_a_bit_of_random_windows(dtype: torch.dtype) -> None:
    before = torch.get_num_threads()
    cases = [Case(seed, dtype) for seed in range(12)]
    calls = [
        (n, changed(a, last)) if i % 2 else (n, a)
        for i, c in enumerate(cases)
        for n, a in c.calls()
    ]
    try:
        torch.set_num_threads(1)
        alone = [run(native, *call) for call in calls]
        for threads in (2, 3):
            torch.set_num_threads(threads)
            for (name, arguments), wanted in zip(calls, alone, strict=True):
                for a, b in zip(run(native, name, arguments), wanted, strict=True):
                    assert torch.equal(bits(a), bits(b)), (name, threads)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_shares_of_large_overlapping_maps_do_not_change_a_bit(memory_format: str) -> None:
    # One image, so that its rows are shared out: the shares recompute windows that reach into them.
    before = torch.get_num_threads()
    how = last if memory_format == "channels_last" else (lambda t: t)
    x = how(torch.randn(1, 3, 150, 90))
    window = ([5, 3], [2, 1], [2, 1], False, True)
    grad = torch.randn_like(native.em_pool(x, *window))
    try:
        torch.set_num_threads(1)
        alone = native.em_pool_backward(grad, None, x, *window)
        torch.set_num_threads(3)
        assert torch.equal(native.em_pool_backward(grad, None, x, *window), alone)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(
        alone, reference.em_pool_backward(grad, None, x, *window), rtol=2e-5, atol=2e-5
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (4, 1, 2)])
def test_one_dimension_is_two_with_one_row_is_three_with_one_slice(
    kernel: int, stride: int, padding: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    x, beta = torch.randn(2, 5, 37).to(dtype), torch.rand(1, 5, 1).to(dtype)
    rule = ("huber", 0.5, False, False)
    for name in ("ada_pool", "edscw_pool", "em_pool", "idw_pool"):
        results = []
        for more in range(3):
            ones, zeros = [1] * more, [0] * more
            window = ([*ones, kernel], [*ones, stride], [*zeros, padding], True, True)
            maps = [x.view(2, 5, *ones, 37)]
            if name == "ada_pool":
                maps.append(beta.view(1, 5, *ones, 1))
            y = getattr(native, name)(*maps, *window, *(rule if name == "idw_pool" else ()))
            results.append(y.flatten(2))
        assert torch.equal(results[0], results[1]), name
        assert torch.equal(results[0], results[2]), name


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_the_place_in_a_batch_does_not_change_a_bit_of_any_method(memory_format: str) -> None:
    torch.manual_seed(0)
    how = last if memory_format == "channels_last" else (lambda t: t)
    x, window = how(torch.randn(4, 5, 13, 11)), ([3, 3], [2, 2], [1, 1], True, True)
    grad = how(torch.randn_like(native.em_pool(x, *window)))
    for method, rule in (("edscw", ()), ("em", ()), ("idw", ("l2", 1.0, False, False))):
        backward = getattr(native, f"{method}_pool_backward")
        whole = backward(grad, None, x, *window, *rule)
        for n in range(4):
            one = slice(n, n + 1)
            alone = backward(grad[one], None, x[one], *window, *rule)
            assert torch.equal(alone, whole[one]), method


# --- extremes --------------------------------------------------------------------------------

EXTREMES = {
    "large": [1e30, -2e30, 3e29, 1e30, 5e29, 0.0, -1e30, 2e30, 1e28],
    "largest": [3.4e38, 3.4e38, 3.3e38, 3.4e38, 3.2e38, 3.4e38, 3.4e38, 3e38, 3.4e38],
    "small": [1e-30, -2e-30, 3e-31, 1e-30, 5e-31, 0.0, -1e-30, 2e-30, 1e-32],
    "denormal": [1e-39, 2e-39, 3e-39, 0.0, 5e-40, 1e-44, -1e-39, 0.0, 1e-40],
    "mean zero": [1.0, -1.0, 2.0, -2.0, 0.0, 3.0, -3.0, 1e-3, -1e-3],
    "zeros": [0.0, -0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
    "one of many": [0.0, 0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0],
    "mixed": [90.0, 1e-30, -200.0, 89.0, 1e4, -1e4, 0.0, 1e30, 1.0],
}


@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize("method", ["edscw", "em", "idw", "idw huber", "idw drop"])
def test_extremes_of_any_method_equal_the_reference_in_double(method: str, kind: str) -> None:
    x = torch.randn(1, 1, 3, 120) + 0.5
    x[0, 0, :, 60:63] = torch.tensor(EXTREMES[kind]).view(3, 3)
    window = ([3, 3], [3, 3], [0, 0], False, True)
    rule: tuple[Any, ...] = ()
    if method.startswith("idw"):
        rule = ("huber" if "huber" in method else "l2", 1.0, "drop" in method, False)
    name = f"{method[:5].strip() if method.startswith('edscw') else method.split()[0]}_pool"
    y, mask = run(native, f"{name}_masks", (x, *window, *rule))
    wide, wide_mask = run(reference, f"{name}_masks", (x.double(), *window, *rule))
    grad = torch.rand(1, 1, 1, 40) + 0.5
    found = getattr(native, f"{name}_backward")(grad, None, x, *window, *rule)
    assert y.isfinite().all()
    assert mask.isfinite().all()
    assert found.isfinite().all()
    assert torch.equal(y, getattr(native, name)(x, *window, *rule))
    # The rest of the row is not disturbed, and the window itself is right to the mean's rounding.
    elsewhere = torch.arange(40) != 20
    torch.testing.assert_close(
        y[..., elsewhere], wide[..., elsewhere].float(), rtol=1e-4, atol=1e-4
    )
    if method in ("edscw", "em"):  # a distance to the mean may be the mean's rounding alone
        scale = x[0, 0, :, 60:63].abs().max().double()
        slack = 5e-5 * scale + 16 * 2.0**-149
        assert (y[..., 20].double() - wide[..., 20]).abs() <= slack
        where = slice(60, 63)
        torch.testing.assert_close(
            mask[..., where].double(), wide_mask[..., where], rtol=2e-4, atol=2e-4
        )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_a_nan_or_infinity_stays_in_the_windows_that_contain_it(
    memory_format: str, dtype: torch.dtype, value: float
) -> None:
    torch.manual_seed(0)
    how = last if memory_format == "channels_last" else (lambda t: t)
    clean = torch.randn(2, 5, 13, 11).to(dtype)
    spoilt = clean.clone()
    places = [(0, 3, 4, 6), (1, 1, 12, 10), (1, 0, 0, 0)]
    for place in places:
        spoilt[place] = value
    hit = torch.nn.functional.max_pool2d((spoilt != clean).float(), 3, 2, 1, ceil_mode=True) > 0
    window = ([3, 3], [2, 2], [1, 1], True, True)
    for name, rule in (
        ("edscw_pool", ()),
        ("em_pool", ()),
        ("idw_pool", ("l2", 1.0, False, False)),
        ("idw_pool", ("huber", 1.0, True, False)),
    ):
        before = getattr(native, name)(how(clean), *window, *rule)
        after = getattr(native, name)(how(spoilt), *window, *rule)
        assert torch.equal(bits(after)[~hit], bits(before)[~hit]), name
        assert not after[hit].isfinite().any() or name == "em_pool", name


@pytest.mark.parametrize("name", ["ada_pool", "edscw_pool", "em_pool", "idw_pool"])
def test_an_empty_batch_of_any_window_gives_empty_results(name: str) -> None:
    x, beta = torch.empty(0, 3, 8, 8), [torch.rand(1, 3, 1, 1)] if name == "ada_pool" else []
    rule = ("l2", 1.0, False, False) if name == "idw_pool" else ()
    window = ([3, 3], [2, 2], [1, 1], False, True)
    y, mask, *_ = getattr(native, f"{name}_masks")(x, *beta, *window, *rule)
    assert y.shape == (0, 3, 4, 4)
    assert mask.shape == (0, 3, 12, 12)


# --- very large maps -------------------------------------------------------------------------


def available_gigabytes() -> float:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":") for line in file)
    except OSError:
        return 0.0
    return int(fields["MemAvailable"].split()[0]) / 2**20


def nonzero(t: Tensor) -> int:
    """By bands: of the whole, torch makes a copy of int64."""
    bands = (t[:, :, at : at + 512] for at in range(0, t.shape[2], 512))
    return sum(int(torch.count_nonzero(band).item()) for band in bands)


@pytest.mark.slow
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 3)], ids=["2x2", "3x3"])
def test_more_than_2_to_the_31_elements_index_right(kernel: int, stride: int) -> None:
    if available_gigabytes() < 15:
        pytest.skip("needs 15 GB of memory")
    height, width = 46_350, 46_400  # 2^31 + 3 million
    x = torch.zeros(1, 1, height, width, dtype=torch.bfloat16)
    assert x.numel() > 2**31
    rows = height // stride
    places = [(0, 0), (rows // 2, 77), (rows - 1, width // stride - 1)]
    for row, column in places:
        x[0, 0, row * stride, column * stride] = 4.0
    window = ([kernel] * 2, [stride] * 2, [0, 0], False, True)
    y = native.em_pool(x, *window)
    expected = native.em_pool(x[..., :kernel, :kernel], *window).item()
    assert nonzero(y) == len(places)
    for row, column in places:
        assert y[0, 0, row, column].item() == expected
    back = native.em_pool_backward(y, None, x, *window)
    assert back.shape == x.shape
    assert nonzero(back) == len(places) * kernel * kernel
    for row, column in places:
        assert back[0, 0, row * stride, column * stride] != 0
