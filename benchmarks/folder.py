#!/usr/bin/env python3
"""Times a folder run: does reading, the network and writing overlap, and is the time left right?

    python benchmarks/folder.py                       (sample photos, tiny-x2)
    python benchmarks/folder.py --input photos -n tiny --format webp --repeat 1

In every round each of these is run over the same pictures, in one process, after one to warm up:

    run       the folder run, as ``adapool-sr upscale`` does it: its wall time
    network   the network alone, over pictures that are decoded already: its wall time
    stages    decoding, network and encoding one after the other: the processor seconds of each

A run can be no faster than the network alone, nor than all processor seconds divided by the
processors. Prints both bounds, the ratio of the run to the larger one (wanted: 1.1 at most) and
how far the time left was off after ten seconds, and writes runs/folder.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from adapool_sr.cli._common import available_cpus
from adapool_sr.cli._upscale_plan import default_jobs
from adapool_sr.files.writing import make_folder, write_whole
from adapool_sr.inference.batch import Observer, Options, run_plan
from adapool_sr.inference.forecast import survey
from adapool_sr.inference.pace import Pace
from adapool_sr.inference.planning import Job, decide, plan_folder
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.images import read, to_bytes

ROOT = Path(__file__).resolve().parents[1]
WANTED = 1.1
SURE_AFTER = 10.0  # seconds until the time left is to be right within a fifth


@dataclass
class Round:
    """What one round took.

    Attributes:
        run: seconds of the folder run.
        network: seconds of the network alone.
        decoding_cpu: processor seconds of reading and decoding.
        network_cpu: of the network, over all its threads.
        encoding_cpu: of encoding and writing.
        left_error: how far the time left was off ten seconds after the run began, at most until
            five seconds before its end, as a share; None where the run was too short.
    """

    run: float
    network: float
    decoding_cpu: float
    network_cpu: float
    encoding_cpu: float
    left_error: float | None

    def bound(self, processors: int) -> float:
        """Seconds that no run can do better than."""
        cpu = self.decoding_cpu + self.network_cpu + self.encoding_cpu
        return max(self.network, cpu / processors)


class Foreteller(Observer):
    """Notes the time left whenever there is news."""

    def __init__(self, weights: dict[str, float]) -> None:
        self.pace = Pace(weights)
        self.begun = time.monotonic()
        self.told: list[tuple[float, float]] = []

    def _note(self) -> None:
        now, left = time.monotonic(), self.pace.seconds_left
        if left is not None and now - self.begun >= SURE_AFTER:
            self.told.append((now, left))

    def progress(self, job: Job, done: int, total: int) -> None:
        """Note it."""
        self.pace.progress(job.name, done / total)
        self._note()

    def finished(self, job: Job, width: int, height: int) -> None:
        """Note it."""
        self.pace.finished(job.name, width * height)
        self._note()

    def error(self) -> float | None:
        """The largest of all shares; the run has just ended."""
        end = time.monotonic()
        errors = [abs(left / (end - now) - 1) for now, left in self.told if end - now > 5]
        return max(errors, default=None)


def run_folder(source: Path, kind: str | None, upscaler: Upscaler, jobs: int) -> Foreteller:
    """One folder run into a folder that is thrown away."""
    with tempfile.TemporaryDirectory(prefix="folder-") as place:
        out = Path(place) / "out"
        plan = decide(plan_folder(source, out, kind), "refuse", folder=out)
        extents = survey(plan.todo, upscaler)
        observer = Foreteller({name: extent.weight for name, extent in extents.items()})
        report = run_plan(plan, upscaler, Options(jobs=jobs), observer)
        if report.failed:
            sys.exit(f"{report.failed[0][0]}: {report.failed[0][1]}")
    return observer


def time_stages(jobs: Sequence[Job], upscaler: Upscaler) -> tuple[float, float, float, float]:
    """Seconds of the network; processor seconds of decoding, network and encoding."""
    network = decoding_cpu = network_cpu = encoding_cpu = 0.0
    with tempfile.TemporaryDirectory(prefix="folder-") as place:
        for index, job in enumerate(jobs):
            begun = time.process_time()
            picture = read(job.source)
            decoding_cpu += time.process_time() - begun
            begun, wall = time.process_time(), time.perf_counter()
            result = upscaler.upscale_picture(picture)
            network += time.perf_counter() - wall
            network_cpu += time.process_time() - begun
            begun = time.process_time()
            data, _ = to_bytes(result, job.kind, None)
            write_whole(Path(place) / str(index), data)
            encoding_cpu += time.process_time() - begun
    return network, decoding_cpu, network_cpu, encoding_cpu


def one_round(source: Path, kind: str | None, upscaler: Upscaler, jobs: int) -> Round:
    """Run everything once."""
    begun = time.perf_counter()
    observer = run_folder(source, kind, upscaler, jobs)
    run = time.perf_counter() - begun
    error = observer.error()
    planned = plan_folder(source, source.parent / "absent", kind)
    return Round(run, *time_stages(planned, upscaler), error)


def fill(place: Path, source: Path | None, repeat: int) -> Path:
    """A folder with the pictures, several times each."""
    samples = source or ROOT / "datasets" / "samples"
    pictures = [job.source for job in plan_folder(samples, place / "absent", None)]
    folder = place / "in"
    folder.mkdir()
    for number in range(repeat):
        for index, picture in enumerate(pictures):
            if isinstance(picture, Path):
                shutil.copy(picture, folder / f"{number}_{index}{picture.suffix}")
    return folder


def main() -> None:
    """Parse the flags, run the rounds, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--input", type=Path, help="a folder of pictures (default: the samples)")
    parser.add_argument("--repeat", type=int, default=20, help="copies of each picture")
    parser.add_argument("-n", "--name", default="tiny-x2", help="a model that ships")
    parser.add_argument("--format", choices=("png", "jpg", "webp"), help="of the results")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("-j", "--jobs", type=int, default=default_jobs())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=ROOT / "runs" / "folder.json")
    args = parser.parse_args()
    processors = available_cpus()
    torch.set_num_threads(processors)
    upscaler = Upscaler.from_pretrained(args.name, precision=args.precision)
    with tempfile.TemporaryDirectory(prefix="folder-") as place:
        source = fill(Path(place), args.input, args.repeat)
        count = sum(1 for _ in source.iterdir())
        one_round(source, args.format, upscaler, args.jobs)
        rounds = [one_round(source, args.format, upscaler, args.jobs) for _ in range(args.rounds)]
    ratios = [each.run / each.bound(processors) for each in rounds]
    ratio = statistics.median(ratios)
    print(f"{count} pictures, {args.name}, {upscaler.precision}, {processors} processors\n")
    print("| seconds | run | network alone | all processor seconds / processors | ratio |")
    print("|---|---|---|---|---|")
    for each, its in zip(rounds, ratios, strict=True):
        cpu = (each.decoding_cpu + each.network_cpu + each.encoding_cpu) / processors
        print(f"| | {each.run:.2f} | {each.network:.2f} | {cpu:.2f} | {its:.3f} |")
    errors = [each.left_error for each in rounds if each.left_error is not None]
    told = f"{max(errors):.0%}" if errors else "not known, the run is too short (--repeat)"
    print(f"\nratio {ratio:.3f} (wanted: {WANTED} at most); time left off by {told}")
    make_folder(args.json.parent)
    content = {
        "model": args.name,
        "format": args.format,
        "precision": str(upscaler.precision).removeprefix("torch."),
        "processors": processors,
        "jobs": args.jobs,
        "pictures": count,
        "ratio": ratio,
        "wanted": WANTED,
        "time_left_error": max(errors, default=None),
        "rounds": [asdict(each) for each in rounds],
    }
    write_whole(args.json, (json.dumps(content, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
