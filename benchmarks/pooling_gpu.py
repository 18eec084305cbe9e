"""Builds, checks and times the CUDA kernels: all that a machine with a card is needed for.

    make bench-gpu                  (or: python benchmarks/pooling_gpu.py --json out.json)

1. Builds the kernels for the card (without nvcc: takes build/adapool_cuda.so, see ``make cuda``).
2. Times every operator over 2x2 windows in both layouts: medians of CUDA events, contenders in
   turn, and the bytes that must be moved over the bandwidth of a copy measured in the same run.
3. Runs tests/ops/test_cuda.py, a skip being a failure, and compute-sanitizer where there is one.
4. Times ``torch.compile`` of the reference.

Prints tables, writes JSON, and ends with status 1 where a check failed. Takes less than 8 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adapool_sr.ops import build_cuda, reference
from adapool_sr.ops.build import BuildError

ROOT = Path(__file__).resolve().parents[1]
PREBUILT = ROOT / "build" / "adapool_cuda.so"
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
COMPILE_SECONDS = 120
WINDOW = ([2, 2], [2, 2], [0, 0], False)

native: Any = torch.ops.adapool


@dataclass(frozen=True)
class Contender:
    """Something to time.

    Attributes:
        run: it.
        moved: bytes that it must read and write.
    """

    run: Callable[[], object]
    moved: int


def goal(operation: str, dtype: str, card: str) -> float | None:
    """Least part of the copy's bandwidth that is wanted."""
    if operation not in ("forward", "backward"):
        return None
    if dtype == "float32":
        return 0.8 if operation == "forward" else 0.7
    return 0.6 if "H200" in card else 0.8


def size_of(*tensors: Tensor) -> int:
    """Bytes."""
    return sum(t.numel() * t.element_size() for t in tensors)


def contenders(x: Tensor) -> dict[str, Contender]:
    """What is timed, by operation."""
    beta = torch.full((1, x.shape[1], 1, 1), 0.4, dtype=x.dtype, device=x.device)
    y, edscw, em = native.ada_pool_masks(x, beta, *WINDOW, True)
    v, g, size = torch.randn_like(x), torch.randn_like(y), list(x.shape[2:])
    target = torch.empty_like(x)
    window = (*WINDOW, True)
    idw = ("l2", 1.0, False, False)
    masks = (y, edscw, em, beta, size, *WINDOW, 0.0)
    like = (y, x, beta, *window, 0.0)
    one, four = size_of(y), size_of(x)

    def contend(name: str, *arguments: Any, moved: int) -> Contender:
        operator = getattr(native, name).default
        return Contender(lambda: operator(*arguments), moved)

    none = (None, None)
    return {
        "copy": Contender(lambda: target.copy_(x), 2 * four),
        "forward": contend("ada_pool", x, beta, *window, moved=four + one),
        "backward": contend("ada_pool_backward", g, *none, x, beta, *window, moved=2 * four + one),
        "backward, constant weights": contend(
            "ada_pool_backward", g, *none, x, beta, *WINDOW, False, moved=2 * four + one
        ),
        "forward with masks": contend("ada_pool_masks", x, beta, *window, moved=3 * four + one),
        "backward with masks": contend(
            "ada_pool_backward", g, edscw, em, x, beta, *window, moved=4 * four + one
        ),
        "unpool by masks": contend("ada_unpool", *masks, moved=3 * four + one),
        "its backward": contend("ada_unpool_backward", v, *masks, moved=5 * four + 2 * one),
        "unpool like": contend("ada_unpool_like", *like, moved=2 * four + one),
        "like's backward": contend("ada_unpool_like_backward", v, *like, moved=3 * four + 2 * one),
        "edscw": contend("edscw_pool", x, *window, moved=four + one),
        "edscw backward": contend("edscw_pool_backward", g, None, x, *window, moved=2 * four + one),
        "em": contend("em_pool", x, *window, moved=four + one),
        "em backward": contend("em_pool_backward", g, None, x, *window, moved=2 * four + one),
        "idw": contend("idw_pool", x, *window, *idw, moved=four + one),
        "idw backward": contend(
            "idw_pool_backward", g, None, x, *window, *idw, moved=2 * four + one
        ),
        "ada 3x3 stride 2": contend(
            "ada_pool", x, beta, [3, 3], [2, 2], [1, 1], False, True, moved=four + one
        ),
        "F.avg_pool2d": Contender(lambda: F.avg_pool2d(x, 2), four + one),
        "F.max_pool2d": Contender(lambda: F.max_pool2d(x, 2), four + one),
    }


def measure(functions: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds on the device of each function, run in turn for so many rounds."""
    pairs: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {n: [] for n in functions}
    for number in range(-3, rounds):  # the first ones warm up
        for name, function in functions.items():
            begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            begin.record()
            function()
            end.record()
            if number >= 0:
                pairs[name].append((begin, end))
    torch.cuda.synchronize()
    return {n: statistics.median(a.elapsed_time(b) for a, b in found) for n, found in pairs.items()}


def time_operators(shape: list[int], rounds: int, card: str) -> list[dict[str, Any]]:
    """Measure every operation, layout and dtype; prints each row as it is done."""
    rows = []
    heads = f"{'ms':>9}{'GB/s':>8}{'of copy':>9}{'goal':>6}"
    print(f"{'operation':<28}{'layout':<15}{'dtype':<10}{heads}", flush=True)
    for dtype_name, dtype in DTYPES.items():
        for layout, memory_format in FORMATS.items():
            x = torch.randn(shape, device="cuda").to(dtype).contiguous(memory_format=memory_format)
            found = contenders(x)
            times = measure({name: c.run for name, c in found.items()}, rounds)
            copy = found["copy"].moved / times["copy"]
            for name, milliseconds in times.items():
                rate = found[name].moved / milliseconds
                wanted = goal(name, dtype_name, card)
                row = {
                    "operation": name,
                    "layout": layout,
                    "dtype": dtype_name,
                    "milliseconds": round(milliseconds, 4),
                    "gigabytes_per_second": round(rate / 1e6, 1),
                    "of_copy": round(rate / copy, 3),
                    "goal": wanted,
                }
                rows.append(row)
                word = (
                    "" if wanted is None else f"{'met' if rate / copy >= wanted else 'MISSED':>8}"
                )
                cells = f"{milliseconds:>9.4f}{rate / 1e6:>8.0f}{rate / copy:>9.2f}"
                print(f"{name:<28}{layout:<15}{dtype_name:<10}{cells}{wanted or '':>6}{word}")
            del x, found
            torch.cuda.empty_cache()
    return rows


def compiled_contenders(x: Tensor) -> Iterator[tuple[str, Callable[[], Any], Callable[[], Any]]]:
    """Name, our kernel, and ``torch.compile`` of the reference."""
    beta = torch.full((1, x.shape[1], 1, 1), 0.4, dtype=x.dtype, device=x.device)
    window = (*WINDOW, True)
    g = torch.randn_like(F.avg_pool2d(x, 2))
    pool, backward = torch.compile(reference.ada_pool), torch.compile(reference.ada_pool_backward)
    arguments = (g, None, None, x, beta, *window)
    yield (
        "forward",
        lambda: native.ada_pool(x, beta, *window),
        lambda: pool(x, beta, *window),
    )
    yield (
        "backward",
        lambda: native.ada_pool_backward(*arguments),
        lambda: backward(*arguments),
    )


def time_compiled(shape: list[int], rounds: int, to: Path) -> None:
    """Ours against ``torch.compile`` of the reference; writes each row as it is done."""
    rows: list[dict[str, Any]] = []
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        x = torch.randn(shape, device="cuda").to(dtype)
        for operation, ours, theirs in compiled_contenders(x):
            row: dict[str, Any] = {"operation": operation, "dtype": name}
            try:
                with torch.no_grad():
                    found = measure({"native": ours, "compiled": theirs}, rounds)
                row |= {k: round(v, 4) for k, v in found.items()}
                row["times"] = round(found["compiled"] / found["native"], 2)
                print(
                    f"torch.compile, {operation} {name}: {found['compiled']:.3f} ms, "
                    f"native {found['native']:.3f} ms, {row['times']}x",
                    flush=True,
                )
            except Exception as error:  # whatever a compiler throws must not lose the other figures
                row["error"] = str(error)[:300]
                print(f"torch.compile, {operation} {name}: failed: {row['error']}")
            rows.append(row)
            to.write_text(json.dumps(rows))
        torch.cuda.empty_cache()


def time_compiled_apart(shape: list[int], rounds: int, to: Path) -> list[dict[str, Any]]:
    """The same in a process of its own, which may take as long as it should and no longer."""
    to.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--compiled-to", str(to), "--rounds", str(rounds)]
    command += ["--shape", *map(str, shape)]
    try:
        subprocess.run(command, timeout=COMPILE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print(f"torch.compile: stopped after {COMPILE_SECONDS} s")
    rows: list[dict[str, Any]] = json.loads(to.read_text()) if to.exists() else []
    return rows


def call_everything() -> None:
    """Every operator once, over small maps: for compute-sanitizer."""
    sys.path.insert(0, str(ROOT / "tests" / "ops"))
    from pooling_calls import FORMATS as LAYOUTS
    from pooling_calls import GEOMETRIES, Maps, run

    build_cuda.load()
    for window, size, channels in GEOMETRIES:
        for last in LAYOUTS.values():
            for dtype in (*DTYPES.values(), torch.float64):
                maps = Maps(window, size, dtype, last, 2, channels, device="cuda")
                for name, arguments in maps.calls():
                    run(native, name, arguments)
    torch.cuda.synchronize()


def check(name: str, command: list[str], seconds: float) -> dict[str, Any]:
    """Run a command; its last lines, and whether it ended well in time."""
    begun = time.perf_counter()
    env = {**os.environ, "ADAPOOL_REQUIRE_CUDA": "1", "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=seconds
        )
        passed, output = done.returncode == 0, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        passed, output = False, f"took more than {seconds:.0f} s"
    took = round(time.perf_counter() - begun, 1)
    print(f"{name}: {'passed' if passed else 'FAILED'} in {took} s", flush=True)
    if not passed:
        print(output[-4000:], flush=True)
    last = output.strip().splitlines()[-1:] or [""]
    return {"check": name, "passed": passed, "seconds": took, "last_line": last[0][:200]}


def checks() -> list[dict[str, Any]]:
    """The tests on the device, and the sanitizer's."""
    pytest = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/ops/test_cuda.py"]
    found = [check("tests/ops/test_cuda.py", pytest, 200)]
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if not Path(sanitizer).exists():
        print("compute-sanitizer: not found")
        return found
    command = [sanitizer, "--error-exitcode", "9", "--tool", "memcheck", sys.executable]
    return [*found, check("compute-sanitizer", [*command, __file__, "--call-everything"], 120)]


def machine() -> dict[str, Any]:
    """What the figures were taken on; builds and loads the kernels."""
    if not torch.cuda.is_available():
        sys.exit("pooling_gpu: no CUDA device; run it on a machine with an NVIDIA card")
    try:
        build_cuda.find_nvcc()
    except BuildError:
        if PREBUILT.exists():
            os.environ.setdefault("ADAPOOL_CUDA_LIBRARY", str(PREBUILT))
    begun = time.perf_counter()
    status = build_cuda.load()
    if status.kernel != "native":
        sys.exit(f"pooling_gpu: no CUDA kernels: {status.why}")
    properties = torch.cuda.get_device_properties(0)
    return {
        "card": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "kernels": status.why,
        "seconds_to_load": round(time.perf_counter() - begun, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def main() -> None:
    """Parse the flags, build, check, time, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30, help="runs of each (default: 30)")
    parser.add_argument("--shape", type=int, nargs=4, default=[32, 64, 256, 256], metavar="N")
    parser.add_argument("--json", type=Path, default=Path("build/bench/pooling_gpu.json"))
    parser.add_argument("--no-checks", action="store_true", help="time only")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--call-everything", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--compiled-to", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    found = machine()
    if arguments.call_everything:
        return call_everything()
    if arguments.compiled_to:
        return time_compiled(arguments.shape, arguments.rounds, arguments.compiled_to)
    print(", ".join(f"{name} {value}" for name, value in found.items()), flush=True)
    result: dict[str, Any] = {"machine": found, "shape": arguments.shape}
    result["rounds"] = arguments.rounds

    def write() -> None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")

    print(f"2x2 windows over {'x'.join(map(str, arguments.shape))}; medians", flush=True)
    result["rows"] = time_operators(arguments.shape, arguments.rounds, found["card"])
    write()
    result["checks"] = [] if arguments.no_checks else checks()
    write()
    if not arguments.no_compile:
        to = arguments.json.with_suffix(".compiled.json")
        result["compiled"] = time_compiled_apart(arguments.shape, arguments.rounds, to)
        write()
    print(f"written: {arguments.json}")
    if not all(one["passed"] for one in result["checks"]):
        sys.exit("pooling_gpu: a check failed")


if __name__ == "__main__":
    main()
