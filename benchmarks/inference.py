#!/usr/bin/env python3
"""Times every shipped model beside Pillow's Lanczos and networks of known quality.

    python benchmarks/inference.py                    (ADAPOOL_DATA=sets for the plot)
    python benchmarks/inference.py --memory           (peak memory of a 24-megapixel photo, too)

The input is a photo of 640x360 pixels (--size for others). All contenders of a scale take turns in
every round, in the same precision and memory format, so that whatever slows the machine slows them
all; medians of the time that passed and of the time that the cores worked. Freed memory is kept, as
the commands do. The peers (FSRCNN, VDSR, EDSR-baseline, SPAN with 48 channels) are written as
plain convolutions and have no weights: they are there for their time, and their quality is what
was published. Prints a table in Markdown,
writes runs/inference.json and, where Set5 is at hand, runs/inference.svg, quality against time.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import PEERS, SPAN_ON_SET5
from PIL import Image
from torch import nn

from adapool_sr.cli._common import available_cpus
from adapool_sr.evaluation import evaluate
from adapool_sr.evaluation.papers import published
from adapool_sr.files.writing import make_folder, write_whole
from adapool_sr.inference.devices import has_fast_bfloat16
from adapool_sr.inference.memory import reuse_memory
from adapool_sr.models import checkpoint, registry

ROOT = Path(__file__).resolve().parents[1]
SIZE = (640, 360)
SAMPLE = ROOT / "datasets" / "samples" / "otters.png"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass
class Row:
    """What is known of one contender at one scale.

    Attributes:
        name: of the model or the peer.
        ours: whether it ships.
        parameters: of the network; 0 for Pillow.
        milliseconds: median of the time that passed.
        processor: median of the time that the cores worked, in milliseconds.
        megapixels: of output, a second.
        psnr: Y-PSNR in dB on Set5, measured (ours) or published; None where neither is known.
    """

    name: str
    ours: bool
    parameters: int
    milliseconds: float
    processor: float
    megapixels: float
    psnr: float | None


def contenders(scale: int, dtype: torch.dtype) -> dict[str, tuple[nn.Module, int]]:
    """The networks of a scale, ready to run, and their channels."""
    found: dict[str, tuple[nn.Module, int]] = {}
    for spec in registry.available():
        if spec.scale == scale:
            found[spec.name] = (checkpoint.load(spec).network, 3)
    if scale > 1:
        for name, peer in PEERS.items():
            found[name] = (peer(scale), peer.channels)
    last = torch.channels_last
    return {
        name: (copy.deepcopy(net).eval().to(dtype).to(memory_format=last), channels)  # type: ignore[call-overload]
        for name, (net, channels) in found.items()
    }


def calls(
    scale: int, dtype: torch.dtype, width: int, height: int
) -> dict[str, Callable[[], object]]:
    """What is timed, by name: from a float32 picture to a float32 picture."""
    # A photo: in noise every edge is as sharp as can be, weights underflow, and arithmetic on
    # what is left of them takes longer.
    with Image.open(SAMPLE) as sample:
        pixels = sample.convert("RGB").resize((width, height))
    colour = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float() / 255
    colour = colour.contiguous(memory_format=torch.channels_last)
    inputs = {3: colour, 1: colour[:, :1].contiguous()}

    def call(network: nn.Module, x: torch.Tensor, ours: bool) -> Callable[[], object]:
        # Ours take float32 and keep the enlarged input in it.
        return lambda: network(x) if ours else network(x.to(dtype)).float()

    found = {
        name: call(network, inputs[channels], name not in PEERS)
        for name, (network, channels) in contenders(scale, dtype).items()
    }
    if scale > 1:
        size = (width * scale, height * scale)
        found["Pillow, Lanczos"] = lambda: pixels.resize(size, Image.Resampling.LANCZOS)
    return found


def times(
    functions: dict[str, Callable[[], object]], rounds: int
) -> dict[str, tuple[float, float]]:
    """Median milliseconds of each, passed and worked, in turns, after a round to warm up."""
    passed: dict[str, list[float]] = {name: [] for name in functions}
    worked: dict[str, list[float]] = {name: [] for name in functions}
    with torch.inference_mode():
        for number in range(-1, rounds):
            for name, function in functions.items():
                begun, begun_work = time.perf_counter(), time.process_time()
                function()
                if number >= 0:
                    passed[name].append(1e3 * (time.perf_counter() - begun))
                    worked[name].append(1e3 * (time.process_time() - begun_work))
    median = statistics.median
    return {name: (median(passed[name]), median(worked[name])) for name in functions}


def quality(scale: int, set5: Path | None) -> dict[str, float]:
    """Y-PSNR on Set5: measured for ours, published for the peers."""
    found = {row.name: row.scores["Set5"][0] for row in published(["Set5"], scale)}
    if scale == 2:
        found["SPAN-48"] = SPAN_ON_SET5
    names = [model.name for model in registry.available() if model.scale == scale]
    if set5 is not None and scale > 1 and names:
        table = evaluate(names, {"Set5": set5}, scale, precision="fp32")
        found |= {row.model: row.psnr for row in table.rows}
    return found


def rows_of(
    scale: int, precision: str, size: tuple[int, int], rounds: int, set5: Path | None
) -> list[Row]:
    """Measure one scale; the quickest first."""
    dtype = DTYPES[precision]
    count = {
        name: sum(parameter.numel() for parameter in network.parameters())
        for name, (network, _) in contenders(scale, dtype).items()
    }
    psnr = quality(scale, set5)
    output = size[0] * size[1] * scale**2 / 1e6
    rows = []
    for name, (passed, worked) in times(calls(scale, dtype, *size), rounds).items():
        ours = name in count and name not in PEERS
        speed = 1e3 * output / passed
        rows.append(Row(name, ours, count.get(name, 0), passed, worked, speed, psnr.get(name)))
    return sorted(rows, key=lambda row: row.milliseconds)


def markdown(rows: list[Row], scale: int, precision: str) -> str:
    """The table of one scale."""
    by_name = {row.name: row.milliseconds for row in rows}
    head = [f"x{scale}, {precision}", "parameters", "ms", "core-ms", "MP/s", "Set5, dB"]
    beside = [name for name in ("FSRCNN", "SPAN-48") if name in by_name]
    lines = [head + [f"time of {name}" for name in beside]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        line = [f"**{row.name}**" if row.ours else row.name]
        line += [f"{row.parameters:,}" if row.parameters else "", f"{row.milliseconds:.0f}"]
        line += [f"{row.processor:.0f}"]
        line += [f"{row.megapixels:.1f}", f"{row.psnr:.2f}" if row.psnr else ""]
        line += [f"{row.milliseconds / by_name[name]:.2f}x" for name in beside]
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# -- the plot ---------------------------------------------------------------------------------


def plot(rows: list[Row], title: str) -> str:
    """Quality against time as SVG: time grows to the right, in powers of two."""
    points = [row for row in rows if row.psnr is not None]
    left, top, width, height = 60, 40, 620, 340
    low_t = math.floor(math.log2(min(row.milliseconds for row in points)))
    high_t = math.ceil(math.log2(max(row.milliseconds for row in points)))
    psnr = [row.psnr for row in points if row.psnr is not None]
    low, high = math.floor(2 * min(psnr)) / 2, math.ceil(2 * max(psnr)) / 2

    def across(milliseconds: float) -> float:
        return left + width * (math.log2(milliseconds) - low_t) / (high_t - low_t)

    def down(value: float) -> float:
        return top + height * (high - value) / (high - low)

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg"'
        f' viewBox="0 0 {left + width + 90} {top + height + 60}"'
        ' font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="22" font-size="15">{title}</text>',
    ]
    for power in range(low_t, high_t + 1):
        x = across(2.0**power)
        parts.append(
            f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{top + height}" stroke="#ddd"/>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{top + height + 20}" text-anchor="middle">{2**power}</text>'
        )
    for step in range(round((high - low) * 2) + 1):
        value = low + step / 2
        y = down(value)
        parts.append(
            f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" stroke="#ddd"/>'
        )
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    for row in points:
        x, y = across(row.milliseconds), down(row.psnr or 0.0)
        colour = "#c0392b" if row.ours else "#555"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{x + 9:.1f}" y="{y + 4:.1f}" fill="{colour}">{row.name}</text>')
    foot = "milliseconds (the quicker the further left); upward: Y-PSNR on Set5 in dB"
    parts.append(f'<text x="{left}" y="{top + height + 44}">{foot}</text></svg>')
    return "\n".join(parts) + "\n"


# -- memory -----------------------------------------------------------------------------------


def peak_memory(name: str) -> float:
    """Peak resident memory in GiB of ``upscale -s 2`` on a photo of 6000x4000 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.jpg"
        with Image.open(SAMPLE) as small:
            small.convert("RGB").resize((6000, 4000)).save(photo, quality=95)
        command = [sys.executable, "-m", "adapool_sr", "upscale", "-i", str(photo), "-q"]
        command += ["-o", str(Path(folder) / "large.png"), "-n", name, "-s", "2"]
        subprocess.run(command, check=True)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("ADAPOOL_DATA")
    add = parser.add_argument
    add("--data", type=Path, default=Path(data) if data else None, help="default: ADAPOOL_DATA")
    add("--precision", choices=list(DTYPES), help="default: what this processor is fast at")
    add("--size", type=int, nargs=2, default=SIZE, metavar="N", help="default: 640 360")
    add("--rounds", type=int, default=11, help="runs of each (default: 11)")
    add("--memory", action="store_true", help="measure the peak memory of tiny-x2 too")
    add("-o", "--output", type=Path, default=ROOT / "runs", help="default: runs")
    args = parser.parse_args()
    reuse_memory()  # as the commands do
    torch.set_num_threads(available_cpus())
    precision: str = args.precision or ("bf16" if has_fast_bfloat16() else "fp32")
    places = [] if args.data is None else [args.data / "eval" / "Set5", args.data / "Set5"]
    set5 = next((place for place in places if place.is_dir()), None)
    make_folder(args.output)
    threads, load = torch.get_num_threads(), os.getloadavg()[0]
    result: dict[str, Any] = {"precision": precision, "threads": threads, "load": load}
    result["size"] = list(args.size)
    width, height = args.size
    print(f"{width}x{height} pixels, {threads} threads, load {load:.1f}, torch {torch.__version__}")
    for scale in sorted({model.scale for model in registry.available()}):
        rows = rows_of(scale, precision, tuple(args.size), args.rounds, set5)
        result[f"x{scale}"] = [asdict(row) for row in rows]
        print(f"\n{markdown(rows, scale, precision)}", flush=True)
        if scale == 2 and set5 is not None:
            title = f"x2, {width}x{height} pixels, {threads} threads, {precision}"
            write_whole(args.output / "inference.svg", plot(rows, title).encode())
    if args.memory:
        result["peak_gib"] = peak_memory("tiny-x2")
        print(f"\npeak memory, 24 megapixels, x2: {result['peak_gib']:.2f} GiB")
    write_whole(args.output / "inference.json", json.dumps(result, indent=1).encode())


if __name__ == "__main__":
    main()
