"""Times every pooling against PyTorch's own, a copy, and the reference, eager and compiled.

    make bench                              (or: python benchmarks/pooling.py --markdown)

Prints a row for each method, layout, dtype and operation, medians in milliseconds, and writes the
same as JSON; --markdown prints the README's table at the end. The contenders of a row take turns in
every round, so that whatever slows the machine slows them all. A backward pass gets a gradient in
the input's own layout: ``.sum().backward()`` would send an expanded one, which PyTorch's own
pooling takes badly. ``like`` is the unpooling that recomputes weights. GB/s is what an operation
must read and write over its time, to be held against the copy's. Run it on a quiet machine (the
load at the start is stored), or with --busy: one thread, processor time. --only takes words that a
row must contain: --only ada float32.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pooling_rows import COLUMNS, DTYPES, METHODS, SHAPES, Function, Row, Setting, Shape
from torch import Tensor
from torch.nn import functional as F

from adapool_sr import ops
from adapool_sr.ops import build

# What takes a hundred times as long needs no warm-up, and is not run again after so many seconds.
ENOUGH = 0.5

# --- timing ----------------------------------------------------------------------------------


def measure(
    functions: dict[str, Function], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median milliseconds of each function, run in turn for so many rounds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(-1, rounds):  # round -1 warms up
        for name, function in functions.items():
            if name == "reference" and (number < 0 or sum(times[name]) > ENOUGH):
                continue
            begun = clock()
            function()
            if number >= 0:
                times[name].append(clock() - begun)
    return {name: statistics.median(found) * 1e3 for name, found in times.items()}


def _repeated(function: Function, times: int) -> Function:
    def run() -> None:
        for _ in range(times):
            function()

    return run


def overheads(rounds: int, clock: Callable[[], float]) -> dict[str, dict[str, float]]:
    """Microseconds of a call on a map of 1x8x16x16, in inference and in a training step."""
    x, times = torch.randn(1, 8, 16, 16), 200
    leaf, beta = x.clone().requires_grad_(), torch.full((8, 1, 1), 0.5)
    leaf_beta, grad = beta.clone().requires_grad_(), torch.randn(1, 8, 8, 8)

    def step(forward: Callable[[], Tensor]) -> Function:
        def run() -> None:
            leaf.grad = leaf_beta.grad = None
            forward().backward(grad)  # type: ignore[no-untyped-call]

        return run

    with torch.no_grad():
        calls: dict[str, Function] = {
            "avg_pool2d": lambda: F.avg_pool2d(x, 2),
            "adapool2d": lambda: ops.adapool2d(x, beta),
            "empool2d": lambda: ops.empool2d(x),
        }
        inference = measure({k: _repeated(f, times) for k, f in calls.items()}, rounds, clock)
    steps = {
        "avg_pool2d": step(lambda: F.avg_pool2d(leaf, 2)),
        "adapool2d": step(lambda: ops.adapool2d(leaf, leaf_beta)),
        "empool2d": step(lambda: ops.empool2d(leaf)),
    }
    training = measure({k: _repeated(f, times) for k, f in steps.items()}, rounds, clock)
    per_call = {"inference": inference, "training step": training}
    return {k: {n: round(v / times * 1e3, 2) for n, v in d.items()} for k, d in per_call.items()}


def training(rounds: int, clock: Callable[[], float]) -> dict[str, dict[str, float]]:
    """What a pool and an unpool keep for the backward pass, and their training time, both ways."""
    x = torch.randn(SHAPES[0].size)
    leaf, beta = x.clone().requires_grad_(), torch.tensor(0.5, requires_grad=True)

    def masks() -> Tensor:
        y, kept = ops.adapool2d(leaf, beta, return_masks=True)
        return ops.adaunpool2d(y, kept, gain="area")

    def like() -> Tensor:
        return ops.adaunpool2d(ops.adapool2d(leaf, beta), like=leaf, beta=beta, gain="area")

    found = {}
    ways: dict[str, Callable[[], Tensor]] = {"masks": masks, "like": like}
    for name, way in ways.items():
        kept: dict[int, int] = {}

        def keep(t: Tensor, kept: dict[int, int] = kept) -> Tensor:
            kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            u = way()
        beside_x = sum(n for at, n in kept.items() if at != leaf.untyped_storage().data_ptr())
        del u
        found[name] = {"kept_megabytes_beside_x": round(beside_x / 2**20, 1)}

    def step(way: Callable[[], Tensor]) -> Function:
        def run() -> None:
            leaf.grad = beta.grad = None
            way().backward(x)  # type: ignore[no-untyped-call]

        return run

    times = measure({name: step(way) for name, way in ways.items()}, rounds, clock)
    for name, value in times.items():
        found[name]["milliseconds"] = round(value, 2)
    return found


# --- the table -------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [n for n in cpuinfo.read_text().splitlines() if n.startswith("model name")]
        name = names[0].partition(":")[2].strip() if names else name
    status = build.load()
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "kernels": f"{status.kernel} {status.isa}".strip(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2),
    }


def _line(row: Row) -> str:
    found = row.milliseconds
    head = f"{row.shape:<8}{row.method:<7}{row.layout:<15}{row.dtype:<10}{row.operation:<20}"
    cells = "".join(f"{f'{found[c]:.2f}' if c in found else '':>11}" for c in COLUMNS)
    ratios = [row.ratio(c) for c in ("avg", "max", "copy")]
    tail = "".join(f"{f'{r:.2f}x' if r is not None else '':>8}" for r in ratios)
    return f"{head}{cells}{tail}{row.moved / row.ours() / 1e6:>8.1f}"


def markdown(rows: list[Row], calls: dict[str, dict[str, float]]) -> str:
    """The README's table: AdaPool's rows."""
    lines = [
        "| windows, layout, dtype | operation | AdaPool | of avg_pool | of max_pool | PyTorch |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.method != "ada":
            continue
        ratios = [f"{r:.2f}x" if (r := row.ratio(c)) is not None else "" for c in ("avg", "max")]
        slow = row.milliseconds.get("reference")
        lines.append(
            f"| {row.shape}, {row.layout}, {row.dtype} | {row.operation} | {row.ours():.2f} ms | "
            f"{ratios[0]} | {ratios[1]} | {f'{slow:.0f} ms' if slow else ''} |"
        )
    for kind, found in calls.items():
        more = found["adapool2d"] - found["avg_pool2d"]
        lines.append(
            f"| 1x8x16x16, {kind} | a call | {found['adapool2d']:.0f} µs | +{more:.0f} µs | | |"
        )
    return "\n".join(lines)


def _dtypes(shape: Shape, all_of_them: bool) -> dict[str, torch.dtype]:
    if all_of_them or shape is SHAPES[0]:
        return {k: v for k, v in DTYPES.items() if all_of_them or k != "float16"}
    return {"float32": torch.float32}


def run(
    arguments: argparse.Namespace, clock: Callable[[], float]
) -> tuple[list[Row], list[dict[str, Any]]]:
    """Measure every row that is wanted; prints each as it is done."""
    rows, written = [], []
    heads = "".join(f"{name:>11}" for name in COLUMNS)
    print(f"{'':<60}{heads}{'/avg':>8}{'/max':>8}{'/copy':>8}{'GB/s':>8}")
    for shape in SHAPES:
        dtypes = _dtypes(shape, arguments.all)
        for (dtype, kind), (layout, form) in itertools.product(
            dtypes.items(), shape.formats().items()
        ):
            setting = Setting(shape, form, kind)
            copied = 2 * setting.x.numel() * setting.x.element_size()
            for method in METHODS:
                compiled = arguments.compile and shape is SHAPES[0] and dtype == "float32"
                compiled = compiled and (method == "ada" or arguments.all)
                for row in setting.rows(method, layout, dtype, compiled):
                    if any(word not in row.words() for word in arguments.only):
                        continue
                    if not arguments.reference:
                        row.functions.pop("reference", None)
                    row.milliseconds = measure(row.functions, arguments.rounds, clock)
                    row.functions = {}
                    rows.append(row)
                    written.append(row.as_dict(copied))
                    print(_line(row), flush=True)
    return rows, written


def main() -> None:
    """Parse the flags, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=11, help="runs of each (default: 11)")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="rows with these words"
    )
    parser.add_argument("--all", action="store_true", help="every dtype; compile every method")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--no-reference", dest="reference", action="store_false")
    parser.add_argument("--markdown", action="store_true", help="print the README's table too")
    parser.add_argument("--json", type=Path, default=Path("build/bench/pooling.json"))
    parser.add_argument("--busy", action="store_true", help="one thread, processor time")
    arguments = parser.parse_args()
    if arguments.busy:
        torch.set_num_threads(1)
    clock = time.thread_time if arguments.busy else time.perf_counter
    found = machine()
    print(", ".join(f"{name} {value}" for name, value in found.items()))
    sizes = ", ".join(f"{s.name} over {'x'.join(map(str, s.size))}" for s in SHAPES)
    print(f"{sizes}; medians in milliseconds")
    rows, written = run(arguments, clock)
    calls = overheads(arguments.rounds, clock)
    print(f"microseconds a call, 1x8x16x16: {calls}")
    ways = training(arguments.rounds, clock)
    print(f"pool and unpool in training, {SHAPES[0].size}: {ways}")
    if arguments.markdown:
        print(markdown(rows, calls))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "machine": found,
        "clock": clock.__name__,
        "shapes": {s.name: s.size for s in SHAPES},
        "rounds": arguments.rounds,
        "rows": written,
        "microseconds_a_call": calls,
        "training": ways,
    }
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {arguments.json}")


if __name__ == "__main__":
    main()
