"""The CUDA kernels on a device: ``pytest -m gpu tests/ops/test_cuda.py``.

Skipped where there is no device or no kernel; ``ADAPOOL_REQUIRE_CUDA=1`` makes that a
failure. What can be proved without a device stands in test_cuda_emulation.py.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pooling_calls import (
    EXTREMES,
    FORMATS,
    GEOMETRIES,
    IDW_FACTOR,
    PAIRS,
    TOLERANCE,
    Maps,
    assert_near,
    assert_same,
    formatted,
    run,
)
from torch import Tensor

from adapool_sr.ops import adapool2d, adaunpool2d, build_cuda, library

pytestmark = pytest.mark.gpu

native: Any = torch.ops.adapool
reference: Any = torch.ops.adapool_reference


def missing() -> str:
    """What is missing for these tests, if anything."""
    if not torch.cuda.is_available():
        return "no CUDA device"
    status = build_cuda.load()
    return "" if status.kernel == "native" else f"no CUDA kernels: {status.why}"


@pytest.fixture(autouse=True)
def cuda() -> None:
    why = missing()
    if why and os.environ.get("ADAPOOL_REQUIRE_CUDA") == "1":
        pytest.fail(f"ADAPOOL_REQUIRE_CUDA=1, but {why}")
    if why:
        pytest.skip(why)
    torch.manual_seed(0)


def sleep(cycles: int) -> None:
    """Keep the current stream busy."""
    torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]


# --- against the reference -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_any_geometry_equals_the_reference(rank: int, dtype: torch.dtype) -> None:
    draw = random.Random(rank)
    for number in range(8):
        kernel = [draw.randint(1, 4) for _ in range(rank)]
        padding = [draw.randint(0, k // 2) for k in kernel]
        window = (kernel, [draw.randint(1, 4) for _ in kernel], padding, draw.random() < 0.5)
        size = [draw.randint(max(k, 2), 12) for k in kernel]
        beta = draw.choice(["scalar", "channel", "batch map", "full"])
        maps = Maps(
            window, size, dtype, rank > 1 and number % 2 == 1, 2, 5, beta, number == 5, "cuda"
        )
        for name, arguments in maps.calls():
            note = (window, size, beta, number)
            wanted = run(reference, name, arguments)
            assert_near(name, run(native, name, arguments), wanted, note)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", FORMATS)
def test_wide_accesses_equal_the_reference(layout: str, dtype: torch.dtype) -> None:
    for size, channels, beta in (
        ([2, 8], 4, "scalar"),
        ([66, 48], 24, "channel"),
        ([256, 256], 8, "full"),
    ):
        window = (*PAIRS, beta == "scalar")
        relu = beta == "channel"
        maps = Maps(window, size, dtype, FORMATS[layout], 3, channels, beta, relu, "cuda")
        for name, arguments in maps.calls():
            wanted = run(reference, name, arguments)
            # Among 400,000 windows are some whose values lie so near their mean that float32 itself
            # is 5e-4 from float64, on the CPU too; a device rounds in another order.
            assert_near(name, run(native, name, arguments), wanted, (size, beta), 10 * IDW_FACTOR)


@pytest.mark.parametrize("layout", FORMATS)
def test_extremes_equal_the_reference_in_double(layout: str) -> None:
    windows = torch.tensor(EXTREMES).view(1, 16, 1, 2, 2).transpose(1, 3)
    x = windows.reshape(1, 1, 2, 32).repeat(1, 4, 1, 1).cuda()
    x = formatted(x, FORMATS[layout])
    beta = torch.full((1, 1, 1, 1), 0.3, device="cuda")
    grad = formatted(torch.rand(1, 4, 1, 16, device="cuda") + 0.5, FORMATS[layout])
    window = (*PAIRS, False, True)
    got = run(native, "ada_pool_masks", (x, beta, *window))
    got += run(native, "ada_pool_backward", (grad, None, None, x, beta, *window))
    double = (x.double(), beta.double(), *window)
    wanted = run(reference, "ada_pool_masks", double)
    wanted += run(reference, "ada_pool_backward", (grad.double(), None, None, *double))
    for a, b in zip(got[:-1], wanted[:-1], strict=True):
        assert a.isfinite().all()
        width = b.shape[3] // 16
        scale = torch.nn.functional.max_pool2d(b.abs(), (b.shape[2], width))
        slack = 5e-5 * scale.repeat_interleave(width, -1) + 4 * 2.0**-149
        assert ((a.double() - b).abs() <= slack).all()


def test_gradients_are_those_of_finite_differences() -> None:
    for window, size, channels in GEOMETRIES:
        x = torch.randn(1, channels, *size, dtype=torch.float64, device="cuda", requires_grad=True)
        beta = torch.rand(channels, 1, 1, dtype=torch.float64, device="cuda", requires_grad=True)

        def pair(x: Tensor, beta: Tensor, window: Any = window) -> Tensor:
            y, masks = adapool2d(x, beta, *window, return_masks=True)
            return adaunpool2d(y, masks, gain="area")

        assert torch.autograd.gradcheck(pair, (x, beta))


@pytest.mark.filterwarnings("default")  # a compiler's are its own
@pytest.mark.parametrize("name", ["ada_pool", "em_pool"])
def test_opcheck(name: str) -> None:
    x = torch.randn(1, 4, 4, 8, device="cuda", requires_grad=True)
    beta = torch.rand(1, 4, 1, 1, device="cuda", requires_grad=True)
    middle = (beta,) if name == "ada_pool" else ()
    torch.library.opcheck(getattr(native, name).default, (x, *middle, *PAIRS, False, True))


# --- the same bits ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("layout", FORMATS)
def test_a_repeat_gives_the_same_bits(layout: str, dtype: torch.dtype) -> None:
    larger = [*GEOMETRIES, ((*PAIRS, False), [128, 256], 16)]
    for window, size, channels in larger:
        maps = Maps(window, size, dtype, FORMATS[layout], 3, channels, device="cuda")
        for name, arguments in maps.calls():
            wanted = run(native, name, arguments)
            for _ in range(2):
                assert_same(run(native, name, arguments), wanted, (name, window))


def test_layouts_give_the_same_bits() -> None:
    def strided(t: Tensor) -> Tensor:
        return t.repeat_interleave(2, -1)[..., ::2]

    def last(t: Tensor) -> Tensor:
        return formatted(t, True)

    def reformat(value: Any, how: Callable[[Tensor], Tensor]) -> Any:
        return how(value) if isinstance(value, Tensor) and value.numel() > 1 else value

    for window, size, channels in GEOMETRIES:
        maps = Maps(window, size, channels=channels, beta="full", device="cuda")
        for name, arguments in maps.calls():
            wanted = run(native, name, arguments)
            for how in (last, strided):
                got = run(native, name, tuple(reformat(v, how) for v in arguments))
                assert_same(got, wanted, (name, how.__name__, window))


# --- streams, graphs, devices ----------------------------------------------------------------


def test_nothing_waits_for_the_device() -> None:
    all_maps = [Maps(w, s, channels=c, device="cuda") for w, s, c in GEOMETRIES]
    calls = [call for maps in all_maps for call in maps.calls()]
    for call in calls:
        run(native, *call)
    torch.cuda.synchronize()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is a prototype, it says
            torch.cuda.set_sync_debug_mode("error")
        for call in calls:
            run(native, *call)
        sleep(500_000_000)
        for call in calls:
            run(native, *call)
        assert not torch.cuda.current_stream().query(), "the host waited"
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_kernels_run_on_the_current_stream() -> None:
    maps = Maps((*PAIRS, False), [64, 64], channels=8, device="cuda")
    arguments = (maps.x, maps.beta, *maps.window, True)
    (wanted,) = run(native, "ada_pool", arguments)
    late = torch.zeros_like(maps.x)
    torch.cuda.synchronize()
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        sleep(100_000_000)  # a kernel on another stream would see the zeros
        late.copy_(maps.x)
        (got,) = run(native, "ada_pool", (late, *arguments[1:]))
    stream.synchronize()
    assert torch.equal(got, wanted)


def test_a_graph_replays_with_new_values() -> None:
    for window, size, channels in GEOMETRIES:
        maps = Maps(window, size, channels=channels, device="cuda")
        other = Maps(window, size, channels=channels, device="cuda")
        for name, arguments in maps.calls():
            run(native, name, arguments)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                results = run(native, name, arguments)
            kept = maps.x.clone()
            maps.x.copy_(other.x)
            graph.replay()
            torch.cuda.synchronize()
            assert_same(results, run(native, name, arguments), (name, window))
            maps.x.copy_(kept)


def test_another_device_than_the_current_one() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one device only")
    for name, arguments in Maps((*PAIRS, False), [8, 16], channels=8, device="cuda:1").calls():
        with torch.cuda.device(0):
            got = run(native, name, arguments)
            assert torch.cuda.current_device() == 0
        assert all(t.device.index == 1 for t in got)
        assert_near(name, got, run(reference, name, arguments), name)


def test_the_current_device_stays() -> None:
    maps = Maps((*PAIRS, False), [8, 16], channels=8, device="cuda")
    before = torch.cuda.current_device()
    run(native, "ada_pool", (maps.x, maps.beta, *maps.window, True))
    assert torch.cuda.current_device() == before


def test_tensors_on_two_devices_are_refused_by_name() -> None:
    x = torch.randn(1, 2, 4, 4, device="cuda")
    with pytest.raises(ValueError, match="beta must be on the device of x, cuda:0, got cpu"):
        adapool2d(x, torch.tensor(0.5))


# --- the rest --------------------------------------------------------------------------------


@pytest.mark.slow
def test_more_than_two_to_the_31_elements() -> None:
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GB of free device memory")
    # Windows of a third image begin behind 2^31 pixels.
    x = torch.randn(3, 64, 4096, 4096, dtype=torch.bfloat16, device="cuda")
    beta = torch.full((1, 1, 1, 1), 0.3, dtype=torch.bfloat16, device="cuda")
    assert x.numel() > 2**31
    for window in ((*PAIRS, False, True), ([3, 3], [2, 2], [1, 1], False, True)):
        whole = native.ada_pool(x, beta, *window)
        for n in range(3):
            assert torch.equal(native.ada_pool(x[n : n + 1], beta, *window), whole[n : n + 1])
        del whole


def test_all_operators_but_those_of_vectors_are_registered() -> None:
    names = [schema.partition("(")[0] for schema in library.SCHEMAS]
    for name in names:
        has = torch._C._dispatch_has_kernel_for_dispatch_key(f"adapool::{name}", "CUDA")
        assert has == ("." not in name), name


@pytest.mark.filterwarnings("default")  # a compiler's are its own
def test_compiled_functions_run_the_kernels() -> None:
    x = torch.randn(2, 8, 16, 16, device="cuda")
    compiled = torch.compile(lambda x: adapool2d(x * 2, 0.4) + 1, fullgraph=True)
    torch.testing.assert_close(compiled(x), adapool2d(x * 2, 0.4) + 1)
