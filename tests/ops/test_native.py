"""The native kernels against the reference, bit for bit against themselves, and at the extremes."""

from __future__ import annotations

import ctypes
import itertools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adapool_sr.ops import build, library

native: Any = torch.ops.adapool
reference: Any = torch.ops.adapool_reference

WINDOW = ([2, 2], [2, 2], [0, 0])
SIZES = [(1, 5), (2, 2), (9, 7), (8, 66)]
BETAS = ["scalar", "channel", "batch map", "map", "full"]
DTYPES = [torch.float32, torch.bfloat16]
FORMATS = [torch.contiguous_format, torch.channels_last]
# Of the largest value of each result: results are rounded to their dtype once.
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 1.6e-2}


@pytest.fixture(autouse=True)
def kernels() -> None:
    if os.environ.get("ADAPOOL_NATIVE") == "0":
        pytest.skip("ADAPOOL_NATIVE=0")
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("no C++ compiler")
    assert build.load().kernel == "native", build.load().why
    torch.manual_seed(0)


class Maps:
    """Random maps of one pooling call, and that of its backward and of unpooling."""

    def __init__(
        self,
        size: tuple[int, int],
        ceil_mode: bool = False,
        beta: str = "channel",
        dtype: torch.dtype = torch.float32,
        memory_format: torch.memory_format = torch.contiguous_format,
        channels: int = 20,
        batch: int = 2,
    ) -> None:
        self.size, self.ceil_mode = size, ceil_mode
        self.out = tuple((n + ceil_mode) // 2 for n in size)
        mask = tuple(2 * n for n in self.out)

        def new(space: tuple[int, ...]) -> Tensor:
            values = torch.randn(batch, channels, *space).to(dtype)
            return values.contiguous(memory_format=memory_format)

        self.x, self.y, self.grad_u, self.grad_y = map(new, (size, self.out, size, self.out))
        self.grad_edscw, self.grad_em = new(mask), new(mask)
        shape = {
            "scalar": (1, 1, 1, 1),
            "channel": (1, channels, 1, 1),
            "batch map": (batch, 1, *self.out),
            "map": (1, 1, *self.out),
            "full": (batch, channels, *self.out),
        }[beta]
        self.beta = torch.rand(shape).to(dtype)

    def calls(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Every native operator with the arguments that fit these maps."""
        x, y, beta, grad, window = self.x, self.y, self.beta, self.grad_y, (*WINDOW, self.ceil_mode)
        for weight_grad in (True, False):
            yield "ada_pool", (x, beta, *window, weight_grad)
            yield "ada_pool_masks", (x, beta, *window, weight_grad)
            yield "ada_pool_backward", (grad, None, None, x, beta, *window, weight_grad)
            yield "ada_unpool_like", (y, x, beta, *window, weight_grad, 0.0)
            backward = (self.grad_u, y, x, beta, *window, weight_grad, 0.0)
            yield "ada_unpool_like_backward", backward
        masks = (self.grad_edscw, self.grad_em)
        yield "ada_pool_backward", (grad, *masks, x, beta, *window, True)
        yield "ada_pool_backward", (grad, masks[0], None, x, beta, *window, True)
        yield "ada_unpool_like", (y, x, beta, *window, True, 1.5)
        _, edscw, em = reference.ada_pool_masks(x, beta, *window, True)
        for gain, (second, b) in itertools.product((0.0, 1.5), ((em, beta), (None, None))):
            unpool = (y, edscw, second, b, list(self.size), *window, gain)
            yield "ada_unpool", unpool
            yield "ada_unpool_backward", (self.grad_u, *unpool)


def run(ops: Any, name: str, arguments: tuple[Any, ...]) -> list[Tensor]:
    result = getattr(ops, name)(*arguments)
    return [result] if isinstance(result, Tensor) else list(result)


def strides(t: Tensor) -> list[int]:
    """Strides where they say something: that of a dimension of size 1 is arbitrary."""
    return [s for s, n in zip(t.stride(), t.shape, strict=True) if n > 1]


def assert_same(got: list[Tensor], wanted: list[Tensor], note: object) -> None:
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape, note
        assert torch.equal(bits(a), bits(b)), note


def bits(t: Tensor) -> Tensor:
    """The same memory as integers, which compare NaN and -0 as they are."""
    return t.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[t.element_size()])


# --- against the reference -------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
def test_every_operator_equals_the_reference(
    dtype: torch.dtype, memory_format: torch.memory_format, size: tuple[int, int]
) -> None:
    for ceil_mode, beta, channels in itertools.product((False, True), BETAS, (3, 20)):
        if not ceil_mode and min(size) < 2:
            continue
        maps = Maps(size, ceil_mode, beta, dtype, memory_format, channels)
        for name, arguments in maps.calls():
            note = (name, ceil_mode, beta, channels)
            got, wanted = run(native, name, arguments), run(reference, name, arguments)
            assert len(got) == len(wanted), note
            for a, b in zip(got, wanted, strict=True):
                assert (a.shape, a.dtype, strides(a)) == (b.shape, b.dtype, strides(b)), note
                if a.numel():
                    worst = (a.float() - b.float()).abs().max()
                    assert worst <= TOLERANCE[dtype] * b.float().abs().max().clamp(min=1), note


@pytest.mark.parametrize("isa", ["avx2", "baseline"])
def test_a_lower_instruction_set_equals_the_reference(isa: str) -> None:
    if build.load().isa not in build.ISAS[: build.ISAS.index(isa) + 1]:
        pytest.skip(f"this processor has no {isa}")
    program = f"from adapool_sr.ops import build; assert build.load().isa == {isa!r}, build.load()"
    env = {**os.environ, "ADAPOOL_ISA": isa, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", program], env=env, check=True)
    chosen = "(equal and not lower and (9x7 or random) and not many) or exponential or extremes"
    chosen += " or layouts or nan_or_infinity"
    names = ("test_native_windows.py", "test_exponential.py")
    files = [__file__, *(str(Path(__file__).with_name(name)) for name in names)]
    options = ["-q", "-p", "no:cacheprovider", "-m", "not slow", "-k", chosen]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        env=env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout


@pytest.mark.parametrize("isa", ["AVX512", "sse"])
def test_an_unknown_instruction_set_is_refused(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPOOL_ISA", isa)
    monkeypatch.setattr(build, "_status", None)
    with pytest.raises(ValueError, match=f"ADAPOOL_ISA must be one of avx512, .*got '{isa}'"):
        build.load()


def test_results_of_many_megabytes_equal_the_reference() -> None:
    maps = Maps(
        (300, 301), True, channels=24, batch=1
    )  # masks of 8.7 MB ask for larger memory pages
    arguments = (maps.x, maps.beta, *WINDOW, True, True)
    got, wanted = (run(ops, "ada_pool_masks", arguments) for ops in (native, reference))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=2e-5)


def test_mixed_formats_give_each_gradient_its_own_format() -> None:
    maps = Maps((6, 6))
    last = maps.x.contiguous(memory_format=torch.channels_last)
    arguments = (maps.grad_u, maps.y, last, maps.beta, *WINDOW, False, True, 0.0)
    grad_y, grad_x, _ = native.ada_unpool_like_backward(*arguments)
    assert grad_y.is_contiguous()
    assert grad_x.is_contiguous(memory_format=torch.channels_last)
    same = (maps.grad_u, maps.y, maps.x, maps.beta, *WINDOW, False, True, 0.0)
    assert torch.equal(grad_x, native.ada_unpool_like_backward(*same)[1])


def test_weights_that_all_channels_share_run_the_reference() -> None:
    x, beta = torch.randn(2, 3, 8, 8), torch.rand(1, 3, 1, 1)
    window = (*WINDOW, False, True)
    rule = ("l2", 1.0, False, True)
    for name in ("idw_pool", "idw_pool_masks"):
        got, wanted = (run(ops, name, (x, *window, *rule)) for ops in (native, reference))
        assert_same(got, wanted, name)
    y, edscw, em = run(reference, "ada_pool_masks", (x, beta, *window))
    shared = (y, edscw[:, :1], em, beta, [8, 8], *window[:4], 0.0)
    for name, arguments in (("ada_unpool", shared), ("ada_unpool_backward", (x, *shared))):
        assert_same(run(native, name, arguments), run(reference, name, arguments), name)


def test_an_empty_batch_gives_empty_results() -> None:
    x, beta = torch.empty(0, 3, 8, 8), torch.rand(1, 3, 1, 1)
    y, edscw, _ = native.ada_pool_masks(x, beta, *WINDOW, False, True)
    assert y.shape == (0, 3, 4, 4)
    assert edscw.shape == (0, 3, 8, 8)


# --- the same bits ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
def test_threads_do_not_change_a_bit(dtype: torch.dtype) -> None:
    before = torch.get_num_threads()
    both = [
        Maps((40, 41), True, beta, dtype, memory_format)
        for memory_format, beta in zip(FORMATS, ("channel", "full"), strict=True)
    ]
    calls = [call for maps in both for call in maps.calls()]
    try:
        torch.set_num_threads(1)
        one = [run(native, *call) for call in calls]
        torch.set_num_threads(2)
        for (name, arguments), wanted in zip(calls, one, strict=True):
            assert_same(run(native, name, arguments), wanted, name)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
def test_layouts_give_the_same_bits(dtype: torch.dtype) -> None:
    for (size, channels), beta in itertools.product(
        [((9, 7), 3), ((8, 66), 20), ((5, 90), 33)], BETAS
    ):
        maps = Maps(size, True, beta, dtype, channels=channels)

        def reformat(value: Any, how: Callable[[Tensor], Tensor]) -> Any:
            return how(value) if isinstance(value, Tensor) and value.numel() > 1 else value

        def last(t: Tensor) -> Tensor:
            return t.contiguous(memory_format=torch.channels_last)

        def strided(t: Tensor) -> Tensor:
            return t.repeat_interleave(2, -1)[..., ::2]

        for name, arguments in maps.calls():
            wanted = [t.contiguous() for t in run(native, name, arguments)]
            for how in (last, strided):
                changed = tuple(reformat(v, how) for v in arguments)
                got = [t.contiguous() for t in run(native, name, changed)]
                assert_same(got, wanted, (name, how.__name__, size, beta))


@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
def test_the_place_in_a_batch_does_not_change_a_bit(memory_format: torch.memory_format) -> None:
    maps = Maps((9, 50), True, memory_format=memory_format, batch=5)
    whole = run(
        native,
        "ada_pool_backward",
        (maps.grad_y, None, None, maps.x, maps.beta, *WINDOW, True, True),
    )
    for n in range(5):
        one = slice(n, n + 1)
        alone = run(
            native,
            "ada_pool_backward",
            (maps.grad_y[one], None, None, maps.x[one], maps.beta, *WINDOW, True, True),
        )
        for a, b in zip(alone, whole, strict=True):
            assert torch.equal(a, b[one])


# --- extremes --------------------------------------------------------------------------------

EXTREMES = {
    "large": [[1e30, -2e30, 3e29, 1e30], [1e30, 2e30, 1e30, -1e30], [-1e30, 1.0, 2.0, 3.0]],
    "small": [[1e-30, -2e-30, 3e-31, 1e-30], [2e-20, 1e-20, -5e-20, 0.0], [1e-9, 2e-9, 3e-9, 4e-9]],
    "denormal": [
        [1e-39, 2e-39, 3e-39, 4e-39],
        [1e-40, 0.0, 0.0, 0.0],
        [1e-44, 1e-44, 1e-44, 1e-44],
    ],
    "mean zero": [[1.0, -1.0, 2.0, -2.0], [1e20, -1e20, 0.0, 0.0], [3.0, 0.0, -3.0, 0.0]],
    "zeros": [[0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 5.0], [-0.0, 0.0, -0.0, 0.0]],
    "mixed": [[1e30, 1.0, 1e-30, 0.0], [90.0, 0.0, -200.0, 89.0], [-1e4, -1e4, -1e4, 1e4]],
}


def as_map(windows: list[list[float]], filling: float) -> Tensor:
    """Windows side by side in one row of 40, the rest ordinary: (1, 1, 2, 80)."""
    x = torch.full((1, 1, 2, 80), filling)
    x += torch.linspace(0, 1, 80)
    for k, (a, b, c, d) in enumerate(windows):
        at = 7 * k + 2
        x[0, 0, :, 2 * at : 2 * at + 2] = torch.tensor([[a, b], [c, d]])
    return x


@pytest.mark.parametrize("kind", EXTREMES)
def test_extremes_equal_the_reference_in_double(kind: str) -> None:
    x = as_map(EXTREMES[kind], 0.5)
    beta = torch.full((1, 1, 1, 1), 0.3)
    window = (*WINDOW, False, True)
    got = run(native, "ada_pool_masks", (x, beta, *window))
    wanted = run(reference, "ada_pool_masks", (x.double(), beta.double(), *window))
    grad = torch.rand(1, 1, 1, 40) + 0.5
    got += run(native, "ada_pool_backward", (grad, None, None, x, beta, *window))
    double = (grad.double(), None, None, x.double(), beta.double(), *window)
    wanted += run(reference, "ada_pool_backward", double)
    *got, grad_beta = got
    *wanted, grad_beta_wanted = wanted
    # Differences of two results that are nearly equal: their error is that of the results.
    error = (grad_beta.double() - grad_beta_wanted).abs()
    assert (error <= 1e-5 * wanted[0].abs().max()).all()
    for a, b in zip(got, wanted, strict=True):
        assert a.isfinite().all()
        # Relative to the largest of each window: a window of 1e-39 must be as right as one of 1.
        scale = torch.nn.functional.max_pool2d(b.abs(), (1, max(1, a.shape[-1] // 40)))
        scale = scale.repeat_interleave(max(1, a.shape[-1] // 40), -1)[..., : a.shape[-1]]
        slack = 5e-5 * scale + 4 * 2.0**-149  # denormals have few bits to be right in
        assert ((a.double() - b).abs() <= slack).all(), kind


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")], ids=str)
@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
def test_a_nan_or_infinity_stays_in_its_window(
    dtype: torch.dtype, memory_format: torch.memory_format, value: float
) -> None:
    maps = Maps((9, 41), True, "channel", dtype, memory_format)
    places = [(0, 3, 4, 6), (1, 19, 8, 9), (1, 0, 2, 40)]  # inner, last row, last column
    spoilt = maps.x.clone(memory_format=torch.preserve_format)
    hit = torch.zeros(maps.y.shape, dtype=torch.bool)
    for n, c, h, w in places:
        spoilt[n, c, h, w] = value
        hit[n, c, h // 2, w // 2] = True
    window = (*WINDOW, True, True)
    clean = run(native, "ada_pool_masks", (maps.x, maps.beta, *window))
    dirty = run(native, "ada_pool_masks", (spoilt, maps.beta, *window))
    grads = (maps.grad_y, None, None)
    clean.append(native.ada_pool_backward(*grads, maps.x, maps.beta, *window)[0])
    dirty.append(native.ada_pool_backward(*grads, spoilt, maps.beta, *window)[0])
    wide = hit.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for a, b, where in zip(dirty, clean, (hit, wide, wide, wide[..., :9, :41]), strict=True):
        assert torch.equal(bits(a)[~where], bits(b)[~where])
    assert not dirty[0][hit].isfinite().any()
    assert not dirty[3][tuple(zip(*places, strict=True))].isfinite().any()


@pytest.mark.skipif(sys.platform != "linux", reason="names libm by its Linux name")
@pytest.mark.parametrize("value", [0.0, 0.75, 30.25, -1e3])
@pytest.mark.parametrize("memory_format", FORMATS, ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "bfloat16"])
def test_a_flat_window_makes_no_denormal(
    dtype: torch.dtype, memory_format: torch.memory_format, value: float
) -> None:
    """Arithmetic on them takes many times longer, and bfloat16 makes many windows flat."""
    underflow = 0x10 if platform.machine() in ("x86_64", "i686") else 0x8
    flags = ctypes.CDLL("libm.so.6")
    x = torch.full((1, 20, 8, 66), value, dtype=dtype).to(memory_format=memory_format)
    beta = torch.full((1, 20, 1, 1), 0.3, dtype=dtype)
    window = (*WINDOW, False, True)
    y = native.ada_pool(x, beta, *window)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the flags are this thread's
    try:
        flags.feclearexcept(underflow)
        native.ada_pool(x, beta, *window)
        native.ada_unpool_like(y, x, beta, *window, 4.0)
        native.ada_pool_backward(y, None, None, x, beta, *window)
        assert not flags.fetestexcept(underflow)
    finally:
        torch.set_num_threads(threads)


def test_all_native_operators_are_registered() -> None:
    registered = {
        schema.partition("(")[0]
        for schema in library.SCHEMAS
        if torch._C._dispatch_has_kernel_for_dispatch_key(
            f"adapool::{schema.partition('(')[0]}", "CPU"
        )
    }
    # Weights of whole channel vectors stay with the reference.
    assert registered == {
        name
        for schema in library.SCHEMAS
        if not (name := schema.partition("(")[0]).endswith(".vector")
    }
