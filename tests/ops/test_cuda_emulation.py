"""The CUDA kernels' own code, run on the CPU by a loop over blocks and threads (cuda_emulator.py).

It proves the arithmetic, the index maps, the plan of launches and slices, and the host's side: all
but what a device does with it. Fresh memory is filled with NaN, so that a forgotten cell shows.
"""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from cuda_emulator import LIBRARY, NAMESPACE, Emulation, build_library, find_compiler
from pooling_calls import (
    EXTREMES,
    FORMATS,
    GEOMETRIES,
    PAIRS,
    TOLERANCE,
    Maps,
    assert_near,
    assert_same,
    formatted,
    run,
)
from torch import Tensor

from adapool_sr.ops import library

pytestmark = pytest.mark.slow

reference: Any = torch.ops.adapool_reference
emulated: Any = getattr(torch.ops, NAMESPACE)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C++ compiler")
    return build_library(tmp_path_factory.mktemp("emulation"), compiler)


@pytest.fixture
def emulation(path: Path) -> Iterator[Emulation]:
    torch.manual_seed(0)
    found = Emulation(path)
    found.counts()
    yield found
    found.set()


def assert_equals_reference(emulation: Emulation, maps: Maps, note: object) -> None:
    for name, arguments in maps.calls():
        emulation.counts()
        got = run(emulated, name, arguments)
        assert emulation.counts()[0] > 0, f"{name} ran the reference"
        assert_near(name, got, run(reference, name, arguments), note)


# --- against the reference -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_any_geometry_equals_the_reference(
    emulation: Emulation, rank: int, dtype: torch.dtype
) -> None:
    draw = random.Random(rank)
    for number in range(12 if rank == 2 else 8):
        kernel = [draw.randint(1, 4) for _ in range(rank)]
        stride = [draw.randint(1, 4) for _ in range(rank)]
        padding = [draw.randint(0, k // 2) for k in kernel]
        window = (kernel, stride, padding, draw.random() < 0.5)
        size = [draw.randint(max(k, 2), 8) for k in kernel]
        beta = draw.choice(["scalar", "channel", "batch map", "full"])
        last, relu = rank > 1 and number % 2 == 1, number % 3 == 2
        maps = Maps(window, size, dtype, last, draw.randint(1, 2), draw.randint(1, 4), beta, relu)
        assert_equals_reference(emulation, maps, (window, size, last, beta, relu))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", FORMATS)
def test_wide_accesses_equal_the_reference(
    emulation: Emulation, layout: str, dtype: torch.dtype
) -> None:
    for (size, channels), beta in itertools.product(
        [([2, 8], 4), ([10, 16], 8), ([18, 40], 12)], ["scalar", "channel", "full"]
    ):
        relu = beta == "channel"
        window = (*PAIRS, beta == "scalar")
        maps = Maps(window, size, dtype, FORMATS[layout], 2, channels, beta, relu)
        emulation.counts()
        run(emulated, "ada_pool", (maps.x, maps.beta, *window, True))
        assert emulation.counts() == (1, 1), "not by wide accesses"
        assert_equals_reference(emulation, maps, (size, channels, beta))


def test_every_operator_has_a_way_by_wide_accesses(emulation: Emulation) -> None:
    for last in FORMATS.values():
        maps = Maps((*PAIRS, False), [8, 16], channels_last=last, channels=8)
        for name, arguments in maps.calls():
            emulation.counts()
            run(emulated, name, arguments)
            launches, tiles = emulation.counts()
            masks = "masks" in name or any(t is maps.grad_mask for t in arguments)
            # Masks of one method alone go the other way.
            expected = 0 if masks and (not name.startswith("ada") or arguments[2] is None) else 1
            assert tiles == expected, (name, last, launches)


# --- the same bits ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_order_of_blocks_and_threads_changes_nothing(
    emulation: Emulation, dtype: torch.dtype
) -> None:
    for (window, size, channels), last in itertools.product(GEOMETRIES, FORMATS.values()):
        for name, arguments in Maps(window, size, dtype, last, 3, channels).calls():
            emulation.set(turn=0)
            wanted = run(emulated, name, arguments)
            for turn in (1, 2, 3):
                emulation.set(turn=turn)
                assert_same(run(emulated, name, arguments), wanted, (name, window, turn))


def test_layouts_give_the_same_bits(emulation: Emulation) -> None:
    def last(t: Tensor) -> Tensor:
        return formatted(t, True)

    def strided(t: Tensor) -> Tensor:
        return t.repeat_interleave(2, -1)[..., ::2]

    def shifted(t: Tensor) -> Tensor:  # an address that is no multiple of 16
        memory = t.new_empty(t.numel() + 1)
        return memory[1:].view(t.shape).copy_(t)

    def reformat(value: Any, how: Callable[[Tensor], Tensor]) -> Any:
        return how(value) if isinstance(value, Tensor) and value.numel() > 1 else value

    for window, size, channels in GEOMETRIES:
        for name, arguments in Maps(window, size, channels=channels, beta="full").calls():
            wanted = run(emulated, name, arguments)
            for how in (last, strided, shifted):
                changed = tuple(reformat(v, how) for v in arguments)
                got = run(emulated, name, changed)
                assert_same(got, wanted, (name, how.__name__, window))


@pytest.mark.parametrize("layout", FORMATS)
def test_more_items_than_can_be_numbered_are_done_in_slices(
    emulation: Emulation, layout: str
) -> None:
    for window, size, channels in GEOMETRIES:
        pixels = size[0] * size[1]
        maps = Maps(window, size, channels_last=FORMATS[layout], batch=3, channels=channels)
        for name, arguments in maps.calls():
            emulation.set()
            wanted = run(emulated, name, arguments)
            plain = emulation.counts()[0]
            # Two images at once, and two channels at once.
            for most in (2 * channels * pixels + 1, 2 * pixels + 1):
                emulation.set(most_items=most)
                got = run(emulated, name, arguments)
                assert emulation.counts()[0] >= 2 * plain, (name, window)
                if name.startswith("ada") and name.endswith("backward"):
                    # Sums over space are put together otherwise where channels are cut.
                    torch.testing.assert_close(got[-1], wanted[-1], rtol=1e-5, atol=1e-5)
                    got, wanted_rest = got[:-1], wanted[:-1]
                    assert_same(got, wanted_rest, (name, window, most))
                else:
                    assert_same(got, wanted, (name, window, most))


def test_what_is_too_large_for_slices_runs_the_reference(emulation: Emulation) -> None:
    maps = Maps((*PAIRS, False), [8, 16])
    emulation.set(most_items=100)
    for name, arguments in maps.calls():
        emulation.counts()
        assert_same(run(emulated, name, arguments), run(reference, name, arguments), name)
        assert emulation.counts() == (0, 0)


@pytest.mark.parametrize("layout", FORMATS)
def test_the_place_in_a_batch_changes_nothing(emulation: Emulation, layout: str) -> None:
    for window, size, channels in GEOMETRIES:
        maps = Maps(window, size, channels_last=FORMATS[layout], batch=3, channels=channels)
        arguments = (None, None, maps.x, maps.beta, *window, True)
        whole = run(emulated, "ada_pool_backward", (maps.grad_y, *arguments))
        for n in range(3):
            one = (None, None, maps.x[n : n + 1], maps.beta, *window, True)
            alone = run(emulated, "ada_pool_backward", (maps.grad_y[n : n + 1], *one))
            assert_same(alone, [t[n : n + 1] for t in whole], (window, n))


# --- extremes --------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", FORMATS)
def test_extremes_equal_the_reference_in_double(emulation: Emulation, layout: str) -> None:
    windows = torch.tensor(EXTREMES).view(1, 16, 1, 2, 2).transpose(1, 3)  # (1, 2, 1, 16, 2)
    x = windows.reshape(1, 1, 2, 32).repeat(1, 4, 1, 1)
    x = formatted(x, FORMATS[layout])
    beta, grad = torch.full((1, 1, 1, 1), 0.3), torch.rand(1, 4, 1, 16) + 0.5
    grad = formatted(grad, FORMATS[layout])
    window = (*PAIRS, False, True)
    emulation.counts()
    got = run(emulated, "ada_pool_masks", (x, beta, *window))
    got += run(emulated, "ada_pool_backward", (grad, None, None, x, beta, *window))
    assert emulation.counts()[1] == 2
    wanted = run(reference, "ada_pool_masks", (x.double(), beta.double(), *window))
    double = (grad.double(), None, None, x.double(), beta.double(), *window)
    wanted += run(reference, "ada_pool_backward", double)
    for a, b in zip(got[:-1], wanted[:-1], strict=True):
        assert a.isfinite().all()
        # Relative to the largest of each window: a window of 1e-39 must be as right as one of 1.
        scale = torch.nn.functional.max_pool2d(b.abs(), (b.shape[2], b.shape[3] // 16))
        slack = 5e-5 * scale.repeat_interleave(b.shape[3] // 16, -1) + 4 * 2.0**-149
        assert ((a.double() - b).abs() <= slack).all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("layout", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_nan_or_infinity_stays_in_its_window(
    emulation: Emulation, dtype: torch.dtype, layout: str, value: float
) -> None:
    maps = Maps((*PAIRS, False), [8, 16], dtype, FORMATS[layout], channels=8)
    spoilt = maps.x.clone(memory_format=torch.preserve_format)
    hit = torch.zeros(maps.y.shape, dtype=torch.bool)
    for n, c, h, w in [(0, 3, 4, 6), (1, 7, 7, 15), (1, 0, 2, 1)]:
        spoilt[n, c, h, w] = value
        hit[n, c, h // 2, w // 2] = True
    wide = hit.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for name in ("ada", "edscw", "em", "idw"):
        middle = (maps.beta,) if name == "ada" else ()
        tail = (*maps.window, True, *(("l2", 1.0, False, False) if name == "idw" else ()))
        masks = (None, None) if name == "ada" else (None,)
        both = (spoilt, maps.x)
        dirty, clean = (run(emulated, f"{name}_pool", (t, *middle, *tail)) for t in both)
        assert not dirty[0][hit].isfinite().any(), name
        assert torch.equal(dirty[0][~hit], clean[0][~hit]), name
        dirty, clean = (
            run(emulated, f"{name}_pool_backward", (maps.grad_y, *masks, t, *middle, *tail))
            for t in both
        )
        assert not dirty[0][~spoilt.isfinite()].isfinite().any(), name
        assert torch.equal(dirty[0][~wide], clean[0][~wide]), name


# --- the rest --------------------------------------------------------------------------------


def test_division_by_multiplication_is_exact(emulation: Emulation) -> None:
    draw = random.Random(0)
    largest = 2**31 - 1
    divisors = [1, 2, 3, 5, 7, 64, 127, 128, 641, 65535, 65536, 65537, largest - 1, largest]
    divisors += [draw.randint(1, largest) for _ in range(200)]
    for by in divisors:
        numbers = [0, 1, by - 1, by, min(by + 1, largest), largest - 1, largest]
        numbers += [k * by + d for k in (1, 2, largest // by) for d in (-1, 0)]
        numbers += [draw.randint(0, largest) for _ in range(50)]
        for n in numbers:
            if 0 <= n <= largest:
                assert emulation.divide(n, by) == divmod(n, by)


def test_an_empty_batch_gives_empty_results(emulation: Emulation) -> None:
    x, beta = torch.empty(0, 3, 8, 8), torch.rand(1, 3, 1, 1)
    y, edscw, _ = emulated.ada_pool_masks(x, beta, *PAIRS, False, True)
    assert y.shape == (0, 3, 4, 4)
    assert edscw.shape == (0, 3, 8, 8)


def test_all_operators_but_those_of_vectors_are_registered(emulation: Emulation) -> None:
    registered = {
        name
        for name in (schema.partition("(")[0] for schema in library.SCHEMAS)
        if torch._C._dispatch_has_kernel_for_dispatch_key(f"{NAMESPACE}::{name}", "CPU")
    }
    names = {schema.partition("(")[0] for schema in library.SCHEMAS}
    assert registered == {name for name in names if "." not in name}


@pytest.mark.timeout(900)
def test_the_operators_own_tests_pass(path: Path) -> None:
    """The NumPy truth, the facts, gradcheck and opcheck, through the public functions."""
    names = ["functional", "gradients", "unpooling", "pooling_family", "library", "compat"]
    names += ["pooling_family_gradients", "authors_defects"]
    here = Path(__file__).parent
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "cuda_emulator"]
    # Decompositions are those of the two namespaces that the package has.
    words += ["-k", "not decomposed", *(str(here / f"test_{name}.py") for name in names)]
    done = subprocess.run(
        words,
        env={**os.environ, LIBRARY: str(path), "PYTHONPATH": str(here), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
