"""Times the loader against what a training step eats, and the blocks of the degradation.

    python benchmarks/loader.py --root photos              (default: datasets/samples)
    python benchmarks/loader.py --root photos --kornia     (pip install kornia==0.9.0)

Prints samples a second of batches of 16 patches of 96x96 pixels: of the exact bicubic and of the
second-order degradation, with 0, 1 and 2 workers, beside those that a training step of tiny-x2
takes in, and the ratio. Loaders and steps take turns, so that whatever slows the machine slows them
all; medians. On a machine that does other work too use --busy: one thread, processor time, and the
training process alone (no workers), for threads that wait for a core say nothing of the code. With
--kornia also one patch through kornia's blocks and through those that are used.
Writes the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2 as typed_cv2
import numpy as np
import torch
from torch import Tensor

from adapool_sr.data import SRDataModule
from adapool_sr.training.main import build, fast_bf16

cv2: Any = typed_cv2
ROOT = Path(__file__).resolve().parents[1]
KINDS: dict[str, Any] = {
    "bicubic": "bicubic",
    "second order, photo": "second_order",
    "second order, realesrgan": {"kind": "second_order", "preset": "realesrgan"},
}
BATCH = 16
Clock = Callable[[], float]


def step_of(config: Path, root: str) -> Callable[[dict[str, Tensor]], None]:
    """One training step of a configuration's network, optimizer included."""
    words = ["-c", str(config), f"--data.root={root}", "--data.holdout=null"]
    module: Any = build([*words, "--trainer.logger=false"], quiet=True).model
    optimizer = torch.optim.AdamW(module.network.parameters(), fused=True)

    def step(batch: dict[str, Tensor]) -> None:
        lr, hr = (batch[key].float().div_(255) for key in ("lr", "hr"))
        lr = lr.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bf16()):
            loss = module.loss(module.network(lr), hr)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def rate(work: Callable[[], object], samples: int, clock: Clock) -> float:
    """Samples a second of one piece of work."""
    begun = clock()
    work()
    return samples / (clock() - begun)


def loaders(root: str, most: int) -> dict[tuple[str, int], Iterator[dict[str, Tensor]]]:
    """An endless loader of each kind and number of workers; each has given a batch."""
    found: dict[tuple[str, int], Iterator[dict[str, Tensor]]] = {}
    for kind, degradation in KINDS.items():
        for workers in range(most + 1):
            data = SRDataModule(
                root, batch_size=BATCH, workers=workers, degradation=degradation, seed=0
            )
            data.setup("fit")
            batches = iter(data.train_dataloader())
            next(batches)
            found[kind, workers] = batches
    return found


def measure(root: str, config: Path, rounds: int, batches: int, busy: bool) -> dict[str, Any]:
    """Medians of samples a second: of the step, and of every loader."""
    step = step_of(config, root)
    clock: Clock = time.process_time if busy else time.perf_counter
    found = loaders(root, 0 if busy else 2)
    batch = next(found["bicubic", 0])
    step(batch)
    steps: list[float] = []
    rates: dict[tuple[str, int], list[float]] = {key: [] for key in found}
    for _ in range(rounds):
        steps.append(rate(lambda: [step(batch) for _ in range(5)], 5 * BATCH, clock))
        for key, loader in found.items():
            # What the workers have made ahead, two batches each, is taken before.
            for _ in range(2 * key[1]):
                next(loader)

            def take(loader: Iterator[dict[str, Tensor]] = loader) -> None:
                for _ in range(batches):
                    next(loader)

            rates[key].append(rate(take, batches * BATCH, clock))
    eaten = statistics.median(steps)
    print(f"a training step of {config.stem} eats {eaten:.0f} samples/s")
    print(f"{'degradation':<26}{'workers':>8}{'samples/s':>12}{'times':>8}")
    rows = []
    for (kind, workers), values in rates.items():
        value = statistics.median(values)
        print(f"{kind:<26}{workers:>8}{value:>12.0f}{value / eaten:>7.1f}x")
        rows.append({"degradation": kind, "workers": workers, "rate": value})
    return {"step": eaten, "loaders": rows}


def pairs_of_blocks() -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Kornia's blocks and those that are used, on one 128x128 patch."""
    import kornia

    random = np.random.default_rng(0)
    pixels = cv2.GaussianBlur(random.integers(0, 256, (128, 128, 3), np.uint8), (0, 0), 2)
    work = pixels.astype(np.float32)
    batch = torch.from_numpy(work[..., ::-1].transpose(2, 0, 1)[None] / 255).contiguous()
    kernel = np.full((13, 13), 1 / 169, np.float32)
    torch_kernel = torch.from_numpy(kernel)[None]
    quality = torch.tensor([60.0])
    settings = [cv2.IMWRITE_JPEG_QUALITY, 60, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
    settings.append(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)

    def encoded() -> Any:
        return cv2.imdecode(cv2.imencode(".jpg", pixels, settings)[1], cv2.IMREAD_COLOR)

    def differentiable() -> Any:
        return kornia.enhance.jpeg_codec_differentiable(batch, quality)

    return {
        "Gaussian blur 13": (
            lambda: kornia.filters.gaussian_blur2d(batch, (13, 13), (2.0, 2.0)),
            lambda: cv2.GaussianBlur(work, (13, 13), 2.0),
        ),
        "any kernel 13": (
            lambda: kornia.filters.filter2d(batch, torch_kernel),
            lambda: cv2.filter2D(work, -1, kernel),
        ),
        "area to 64": (
            lambda: kornia.geometry.resize(batch, (64, 64), "area"),
            lambda: cv2.resize(work, (64, 64), interpolation=cv2.INTER_AREA),
        ),
        "Gaussian noise": (
            lambda: batch + 0.1 * torch.randn_like(batch),
            lambda: work + cv2.randn(np.empty((128, 384), np.float32), 0, 25).reshape(128, 128, 3),
        ),
        "JPEG 60": (differentiable, encoded),
    }


def blocks(rounds: int, clock: Clock) -> list[dict[str, Any]]:
    """Microseconds of each pair of blocks; prints how far the two JPEGs differ."""
    pairs = pairs_of_blocks()
    rows = []
    print(f"{'block':<20}{'kornia µs':>12}{'used µs':>12}")
    for name, functions in pairs.items():
        times: list[list[float]] = [[], []]
        for number in range(-3, rounds * 10):
            for place, function in enumerate(functions):
                begun = clock()
                function()
                if number >= 0:
                    times[place].append((clock() - begun) * 1e6)
        theirs, ours = map(statistics.median, times)
        print(f"{name:<20}{theirs:>12.0f}{ours:>12.0f}")
        rows.append({"block": name, "kornia": theirs, "used": ours})
    theirs_jpeg, real = (function() for function in pairs["JPEG 60"])
    bgr = theirs_jpeg[0].permute(1, 2, 0).numpy()[..., ::-1] * 255
    print(
        f"kornia's JPEG differs from the encoder's by {np.abs(bgr - real).mean():.2f} grey levels"
    )
    return rows


def main() -> None:
    """Parse the flags, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--root", default=str(ROOT / "datasets" / "samples"))
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "sr_x2_tiny.yaml")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=20, help="of a round (default: 20)")
    parser.add_argument("--busy", action="store_true", help="one thread, processor time")
    parser.add_argument("--kornia", action="store_true", help="compare kornia's blocks too")
    parser.add_argument("--json", type=Path, default=Path("build/bench/loader.json"))
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    if arguments.busy:
        torch.set_num_threads(1)
        cv2.setNumThreads(0)
    print(f"cores {os.cpu_count()}, load {os.getloadavg()[0]:.1f}, torch {torch.__version__}")
    busy = arguments.busy
    result = measure(arguments.root, arguments.config, arguments.rounds, arguments.batches, busy)
    if arguments.kornia:
        result["blocks"] = blocks(
            arguments.rounds, time.process_time if busy else time.perf_counter
        )
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written: {arguments.json}")


if __name__ == "__main__":
    main()
