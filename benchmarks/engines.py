"""Times a model in eager torch (float32, bfloat16) and as ONNX in onnxruntime.

    python benchmarks/engines.py                 (or: --name tiny-x2 --size 360 640 --rounds 15)

Prints medians in milliseconds and ratios to float32 in torch, and writes them as JSON. The
contenders take turns in every round, so that whatever slows the machine slows them all. The last
line runs torch right after onnxruntime: threads that spin would slow it. Run it on a quiet machine,
or with ``--busy``: one thread, processor time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from adapool_sr.inference import backends, export
from adapool_sr.models import checkpoint, registry


def contenders(name: str, height: int, width: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    model = checkpoint.load(registry.find(name))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export.export_onnx(path, model, name=name, license=model.spec.license)
        session = backends.load(path).network
    last = torch.channels_last
    x = torch.rand(1, 3, height, width)
    x_last = x.contiguous(memory_format=last)
    network = torch.nn.Sequential(model.network).to(memory_format=last)  # type: ignore[call-overload]

    def half() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return network(x_last)

    return {
        "torch float32": lambda: network(x_last),
        "torch bfloat16": half,
        "onnxruntime float32": lambda: session(x),
        "torch float32 after onnxruntime": lambda: network(x_last),
    }


def measure(
    functions: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Median milliseconds of each function, run in turn for so many rounds and one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    with torch.inference_mode():
        for number in range(rounds + 1):
            for name, function in functions.items():
                begun = clock()
                function()
                if number:
                    times[name].append(1e3 * (clock() - begun))
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Parse the flags, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--name", default="tiny-x2", help="model that ships (default: tiny-x2)")
    parser.add_argument("--size", type=int, nargs=2, default=[360, 640], metavar="N")
    parser.add_argument("--rounds", type=int, default=15, help="runs of each (default: 15)")
    parser.add_argument("--json", type=Path, default=Path("build/bench/engines.json"))
    parser.add_argument("--busy", action="store_true", help="one thread, processor time")
    arguments = parser.parse_args()
    if arguments.busy:
        torch.set_num_threads(1)
    clock = time.thread_time if arguments.busy else time.perf_counter
    load = round(os.getloadavg()[0], 2)
    found = measure(contenders(arguments.name, *arguments.size), arguments.rounds, clock)
    first = next(iter(found.values()))
    height, width = arguments.size
    print(f"{arguments.name}, {width}x{height}, {torch.get_num_threads()} threads, load {load}")
    for name, value in found.items():
        print(f"{name:<34}{value:>9.1f} ms{value / first:>7.2f}x")
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    result = {"model": arguments.name, "size": arguments.size, "load": load, "milliseconds": found}
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {arguments.json}")


if __name__ == "__main__":
    main()
