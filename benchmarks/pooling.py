"""Times AdaPool and AdaUnpool over 2x2 windows against PyTorch's pooling, a copy and the reference.

    make bench                                   (or: python benchmarks/pooling.py --json out.json)

Prints a table, medians in milliseconds, and writes the same as JSON. The contenders of a row take
turns in every round, so that whatever slows the machine slows them all. A backward pass gets a
gradient in the input's own layout: ``.sum().backward()`` would send an expanded one, which
PyTorch's own pooling takes badly. ``like`` is the unpooling that recomputes weights. Run it on a
quiet machine (the load at the start is stored), or with ``--busy``: one thread, processor time.
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
from torch import Tensor
from torch.nn import functional as F

from adapool_sr import ops
from adapool_sr.ops import build

Contenders = dict[str, Callable[[], object]]

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
WINDOW = ([2, 2], [2, 2], [0, 0], False)
# Columns of the table; a row has some of them.
COLUMNS = ["copy", "adapool", "like", "avg_pool2d", "max_pool2d", "reference"]
RATIOS = ["avg_pool2d", "max_pool2d", "copy"]
# The reference takes a hundred times as long: once in so many rounds is enough.
REFERENCE_EVERY = 5


def _with_backward(forward: Callable[[], Tensor], grad: Tensor, leaves: list[Tensor]) -> object:
    for leaf in leaves:
        leaf.grad = None
    forward().backward(grad)  # type: ignore[no-untyped-call]
    return leaves


def contenders(x: Tensor, beta: Tensor) -> dict[str, Contenders]:
    """What is timed, by operation and name."""
    reference: Any = torch.ops.adapool_reference
    pool_arguments = (beta.view(1, 1, 1, 1), *WINDOW, True)
    size = list(x.shape[2:])
    leaf, leaf_beta = x.clone().requires_grad_(), beta.clone().requires_grad_()
    leaf_arguments = (leaf_beta.view(1, 1, 1, 1), *WINDOW, True)
    grad = torch.randn_like(F.avg_pool2d(x, 2))

    def backward(forward: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: _with_backward(forward, grad, [leaf, leaf_beta])

    def pair() -> Tensor:
        y, masks = ops.adapool2d(x, beta, 2, return_masks=True)
        return ops.adaunpool2d(y, masks, gain="area")

    def pair_like() -> Tensor:
        y = ops.adapool2d(x, beta, 2)
        return ops.adaunpool2d(y, like=x, beta=beta, kernel_size=2, gain="area")

    def pair_reference() -> Any:
        y, edscw, em = reference.ada_pool_masks(x, *pool_arguments)
        return reference.ada_unpool(y, edscw, em, pool_arguments[0], size, *WINDOW, 0.0)

    def pair_max() -> Tensor:
        y, indices = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(y, indices, (2, 2))

    return {
        "forward": {
            "copy": x.clone,
            "adapool": lambda: ops.adapool2d(x, beta, 2),
            "avg_pool2d": lambda: F.avg_pool2d(x, 2),
            "max_pool2d": lambda: F.max_pool2d(x, 2),
            "reference": lambda: reference.ada_pool(x, *pool_arguments),
        },
        "forward with masks": {
            "copy": x.clone,
            "adapool": lambda: ops.adapool2d(x, beta, 2, return_masks=True),
            "max_pool2d": lambda: F.max_pool2d(x, 2, return_indices=True),
            "reference": lambda: reference.ada_pool_masks(x, *pool_arguments),
        },
        "forward + backward": {
            "copy": x.clone,
            "adapool": backward(lambda: ops.adapool2d(leaf, leaf_beta, 2)),
            "avg_pool2d": backward(lambda: F.avg_pool2d(leaf, 2)),
            "max_pool2d": backward(lambda: F.max_pool2d(leaf, 2)),
            "reference": backward(lambda: reference.ada_pool(leaf, *leaf_arguments)),
        },
        "pool, unpool": {
            "copy": x.clone,
            "adapool": pair,
            "like": pair_like,
            "avg_pool2d": lambda: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0),
            "max_pool2d": pair_max,
            "reference": pair_reference,
        },
    }


def measure(functions: Contenders, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of each function, run in turn for so many rounds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(-1, rounds):  # round -1 warms up
        for name, function in functions.items():
            if name == "reference" and number % REFERENCE_EVERY != 0:
                continue
            begun = clock()
            function()
            if number >= 0:
                times[name].append(clock() - begun)
    return {name: statistics.median(found) for name, found in times.items()}


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


def _line(row: dict[str, Any]) -> str:
    """One row of the table."""
    found, ratios = row["milliseconds"], row["ratios"]
    cells = "".join(f"{f'{found[c]:.2f}' if c in found else '':>12}" for c in COLUMNS)
    tail = "".join(f"{f'{ratios[r]:.2f}x' if r in ratios else '':>8}" for r in RATIOS)
    return f"{row['operation']:<20}{row['layout']:<15}{row['dtype']:<10}{cells}{tail}"


def run(shape: tuple[int, ...], rounds: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """Measure every operation, layout and dtype; prints each row as it is done."""
    rows = []
    heads = "".join(f"{name:>12}" for name in COLUMNS)
    print(f"{'operation':<20}{'layout':<15}{'dtype':<10}{heads}{'/avg':>8}{'/max':>8}{'/copy':>8}")
    for (dtype_name, dtype), (format_name, memory_format) in itertools.product(
        DTYPES.items(), FORMATS.items()
    ):
        x = torch.randn(shape).to(dtype).contiguous(memory_format=memory_format)
        for operation, functions in contenders(x, torch.tensor(0.5, dtype=dtype)).items():
            found = measure(functions, rounds, clock)
            ours = min(found[name] for name in ("adapool", "like") if name in found)
            rows.append(
                {
                    "operation": operation,
                    "layout": format_name,
                    "dtype": dtype_name,
                    "milliseconds": {k: round(v * 1e3, 4) for k, v in found.items()},
                    "ratios": {k: round(ours / found[k], 3) for k in RATIOS if k in found},
                }
            )
            print(_line(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Parse the flags, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=31, help="runs of each (default: 31)")
    parser.add_argument("--shape", type=int, nargs=4, default=[8, 64, 128, 128], metavar="N")
    parser.add_argument("--json", type=Path, default=Path("build/bench/pooling.json"))
    parser.add_argument("--busy", action="store_true", help="one thread, processor time")
    arguments = parser.parse_args()
    if arguments.busy:
        torch.set_num_threads(1)
    clock = time.thread_time if arguments.busy else time.perf_counter
    found = machine()
    print(", ".join(f"{name} {value}" for name, value in found.items()))
    print(f"2x2 windows over {'x'.join(map(str, arguments.shape))}; medians in milliseconds")
    rows = run(tuple(arguments.shape), arguments.rounds, clock)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "machine": found,
        "clock": clock.__name__,
        "shape": arguments.shape,
        "rounds": arguments.rounds,
        "rows": rows,
    }
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {arguments.json}")


if __name__ == "__main__":
    main()
