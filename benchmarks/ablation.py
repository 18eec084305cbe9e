#!/usr/bin/env python3
"""Does AdaPool help? Trains the same network with one pooling after another.

    ADAPOOL_DATA=sets python benchmarks/ablation.py --root photos [--root more]

Every variant has the same network around its pooling, as many parameters as the others within
2 %, and the same processor time: its number of steps is the budget over the time of one of its
steps, measured in turns with those of the others before anything trains, or with the first's
where it joins later. Runs of one seed see the same samples in the same order and start from the
same weights where they have them in common, so that differences are taken within a seed. Each run
is one thread; --jobs of them go side by side. With --device cuda a card makes the steps that the
processor's budget holds, each a captured graph. Results are written after each run and finished
ones skipped: a run that was stopped goes on where it was.

Prints mean and spread of Y-PSNR on Set5, Set14 and the photos that the configuration holds back,
in float32, and writes all of it to runs/ablation.json and runs/ablation.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from poolings import VARIANTS, Variant, draw, network_of, parameters_of
from torch import Tensor

from adapool_sr.data.folders import find_images
from adapool_sr.data.modules import SRDataModule
from adapool_sr.evaluation.measuring import Candidate, measure
from adapool_sr.evaluation.sets import PictureSet, picture_sets
from adapool_sr.files.errors import AdaPoolError, MissingFileError
from adapool_sr.files.writing import write_whole
from adapool_sr.models import AdaPoolSR
from adapool_sr.training.ema import EMA
from adapool_sr.training.expansion import expand, plain_state
from adapool_sr.training.losses import find_loss, with_luma
from adapool_sr.training.main import build_data, fast_bf16
from adapool_sr.training.sr import learning_rate_factor

ROOT = Path(__file__).resolve().parents[1]
NETWORK: dict[str, Any] = {
    "scale": 2,
    "widths": [16, 32],
    "blocks": [2, 2],
    "head": "contrast",
    "sharpness": 32.0,
}
WARM_UP = 200
RATE = 1e-3
EXPANSION = 4  # as the shipped networks are trained
BATCH = 16
BEFORE_CAPTURE = 20
PROCESSES = 5
ROUNDS = 8
STEPS_A_ROUND = 3


class Trial:
    """A variant in training: network, optimizer, samples."""

    def __init__(
        self,
        variant: Variant,
        settings: Mapping[str, Any],
        data: SRDataModule,
        seed: int,
        device: str = "cpu",
        bf16: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        self.network = network_of(variant, settings)
        # The sizes of common layers can differ, and with them what a generator has given by then:
        # each layer is drawn by its own name, so that seeds pair the runs.
        draw(self.network, seed)
        self.plain = copy.deepcopy(self.network)
        torch.manual_seed(seed)
        expand(self.network, EXPANSION)
        self.device = torch.device(device)
        self.network.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # A graph keeps what it was captured with but for what tensors hold: so must the rate.
        self.rate = torch.tensor(RATE, device=self.device)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.rate,
            betas=(0.9, 0.99),
            weight_decay=0.0,
            fused=True,
            capturable=self.device.type == "cuda",
        )
        self.loss = with_luma(find_loss("l1"), 0.5)
        data.seed = seed
        self.rule = data.sample_rule()
        self.batch_size = data.batch_size
        self.ema = EMA(0.999)
        self.ema.averages = {k: v.clone() for k, v in plain_state(self.network).items()}
        self.done = 0
        self.bf16 = bf16
        self.batch: dict[str, Tensor] = {}
        self.stream: Any = None if self.device.type == "cpu" else torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.graph: torch.cuda.CUDAGraph | None = None
        self.loss_now = torch.zeros(())

    def step(self, total: int) -> Tensor:
        """One step of a schedule of ``total``; gives the loss, until the next step."""
        self.rate.fill_(RATE * learning_rate_factor(self.done, warmup=WARM_UP, total=total))
        batch = self.rule.batch(self.done * self.batch_size, self.batch_size)
        if self.stream is None:
            self.batch = batch
            self._learn()
            return self._averaging()
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            if not self.batch:
                self.batch = {key: value.to(self.device) for key, value in batch.items()}
            for key, value in batch.items():
                self.batch[key].copy_(value)
            # Networks as small as these are launched slower than they run: after some steps that
            # let every library choose and allocate, a step is one captured graph.
            if self.done < BEFORE_CAPTURE:
                self._learn()
            elif self.graph is None:
                self.graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self.graph, stream=self.stream):
                    self._learn()
            if self.graph is not None:
                self.graph.replay()
            loss = self._averaging()
        torch.cuda.current_stream().wait_stream(self.stream)
        return loss

    def _learn(self) -> None:
        low, high = (self.batch[key].float().div_(255) for key in ("lr", "hr"))
        low = low.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            result = self.network(low)
        loss = self.loss(result, high)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 0.5)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.loss_now = loss.detach()

    def _averaging(self) -> Tensor:
        self.done += 1
        self.ema.update(plain_state(self.network), self.done)
        return self.loss_now

    def averaged(self) -> AdaPoolSR:
        """The network with its averaged weights, on the CPU."""
        self.plain.load_state_dict(self.ema.averages)
        return self.plain.eval()


# -- budgets ----------------------------------------------------------------------------------


def times_of(
    names: Sequence[str], settings: Mapping[str, Any], words: Sequence[str], bf16: bool
) -> dict[str, list[float]]:
    """Processor time of a step of each variant, in seconds, measured in turns.

    In several processes: the ratios of two variants measured in one differed by up to a tenth
    from those of the next.
    """
    times: dict[str, list[float]] = {name: [] for name in names}
    with multiprocessing.get_context("spawn").Pool(1, _one_thread, maxtasksperchild=1) as pool:
        for each in pool.starmap(_times, [(names, settings, words, bf16)] * PROCESSES, 1):
            for name, values in each.items():
                times[name] += values
    return times


def _times(
    names: Sequence[str], settings: Mapping[str, Any], words: Sequence[str], bf16: bool
) -> dict[str, list[float]]:
    data = build_data(words)
    data.setup("fit")
    trials = {name: Trial(VARIANTS[name], settings, data, 1, bf16=bf16) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-2, ROUNDS):
        for name, trial in trials.items():
            begun = time.process_time()
            for _ in range(STEPS_A_ROUND):
                trial.step(1_000_000)
            if number >= 0:
                times[name].append((time.process_time() - begun) / STEPS_A_ROUND)
    return times


def budgets(
    known: Mapping[str, int], times: Mapping[str, Sequence[float]], seconds: float
) -> dict[str, int]:
    """How many steps of each variant the budget holds.

    Those of variants that joined later follow from the first variant's: the budget of a quieter
    or a slower hour would be another one.
    """
    first, beside = next(iter(times.items()))
    steps = known.get(first) or seconds / statistics.median(beside)
    new = {}
    for name, values in times.items():
        ratio = statistics.median(own / other for own, other in zip(values, beside, strict=True))
        new[name] = known.get(name) or round(steps / ratio)
    return {**known, **new}


# -- one run ----------------------------------------------------------------------------------


def held_back(words: Sequence[str]) -> PictureSet:
    """The photos that the configuration keeps out of training."""
    data = build_data(words)
    kept = set(find_images(data.root, data.holdout)[0])
    every = find_images(data.root, [])[0]
    paths = tuple(path for path in every if path not in kept)
    if not paths:
        raise MissingFileError("data.holdout", "keeps no photo of the roots back", "name some")
    return PictureSet("held back", paths[0].parent, paths)


def one_run(
    name: str,
    seed: int,
    steps: int,
    settings: Mapping[str, Any],
    words: Sequence[str],
    sets: Mapping[str, Path],
    device: str,
    bf16: bool,
) -> dict[str, Any]:
    """Train one variant and measure it."""
    data = build_data(words)
    data.setup("fit")
    trial = Trial(VARIANTS[name], settings, data, seed, device, bf16)
    begun = time.process_time()
    losses = []
    for number in range(steps):
        loss = trial.step(steps)
        if number >= steps - max(1, steps // 20):
            losses.append(loss.item())
    spent = time.process_time() - begun
    groups = [*picture_sets(dict(sets)), held_back(words)]
    table = measure(
        [Candidate.of(trial.averaged(), scale=trial.network.scale, precision="fp32")], groups
    )
    return {
        "variant": name,
        "seed": seed,
        "steps": steps,
        "seconds": round(spent, 1),
        "parameters": parameters_of(trial.plain),
        "loss": statistics.fmean(losses),
        "bf16": bf16,
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "psnr": {row.set: row.psnr for row in table.rows},
    }


def _work(arguments: tuple[Any, ...]) -> dict[str, Any]:
    return one_run(*arguments)


def _one_thread() -> None:
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    warnings.simplefilter("ignore")


# -- the table --------------------------------------------------------------------------------


def markdown(results: Sequence[Mapping[str, Any]], order: Sequence[str]) -> str:
    """Mean and spread of each variant, and the difference to the first of the same seed."""
    sets = list(results[0]["psnr"])
    base = {run["seed"]: run for run in results if run["variant"] == order[0]}
    head = ["", "parameters", "steps", "seeds"]
    for each in sets:
        head += [each, "to the first"]
    lines = [head, ["---"] * len(head)]
    for name in order:
        runs = [run for run in results if run["variant"] == name]
        if not runs:
            continue
        line = [name, f"{runs[0]['parameters']:,}", f"{runs[0]['steps']:,}", str(len(runs))]
        for each in sets:
            line.append(_spread([run["psnr"][each] for run in runs], "{:.2f}"))
            paired = [
                run["psnr"][each] - base[run["seed"]]["psnr"][each]
                for run in runs
                if run["seed"] in base and name != order[0]
            ]
            line.append(_spread(paired, "{:+.3f}"))
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spread(values: Sequence[float], form: str) -> str:
    """Mean ± standard deviation."""
    if not values:
        return ""
    mean = form.format(statistics.fmean(values))
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.3f}"


# -- the command ------------------------------------------------------------------------------


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("ADAPOOL_DATA")
    folder = Path(data) if data else None
    add = parser.add_argument
    add("--root", action="append", required=True, help="folder of training photos")
    add("--data", type=Path, default=folder, help="folder of Set5 and Set14; default ADAPOOL_DATA")
    add("--config", type=Path, default=ROOT / "configs" / "sr_x2_tiny.yaml", help="data settings")
    add("--network", type=json.loads, default=NETWORK, help="arguments of AdaPoolSR, JSON")
    add("--minutes", type=float, default=15.0, help="processor time of a run (default: 15)")
    add("--seeds", type=int, default=3, help="default: 3")
    add("--variants", default="", help="names or parts of them, with commas; default: all")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="what trains (default: cpu)")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="runs side by side")
    add("-o", "--output", type=Path, default=ROOT / "runs", help="default: runs")
    return parser.parse_args()


def main() -> int:
    """Train what is missing, print the table."""
    args = _arguments()
    _one_thread()
    try:
        return _run(args)
    except AdaPoolError as error:
        print(f"ablation.py: error: {error}", file=sys.stderr)
        return error.exit_status


def _chosen(words: str) -> list[str]:
    """The variants that a list with commas names, whole or by a part of their names."""
    wanted = [part.strip() for part in words.split(",") if part.strip()]
    parts = [part for part in wanted if part not in VARIANTS]
    return [
        name
        for name in VARIANTS
        if not wanted or name in wanted or any(part in name for part in parts)
    ]


def _run(args: argparse.Namespace) -> int:
    if args.data is None:
        raise MissingFileError("ADAPOOL_DATA", "is not set", "name the folder of the sets")
    places = [args.data / "eval", args.data]
    sets = {
        name: next((p / name for p in places if (p / name).is_dir()), args.data / name)
        for name in ("Set5", "Set14")
    }
    order = _chosen(args.variants)
    words = ["-c", str(args.config), f"--data.root={json.dumps(args.root)}"]
    words += [f"--data.batch_size={BATCH}"]
    file = args.output / "ablation.json"
    state: dict[str, Any] = {
        "network": args.network,
        "minutes": args.minutes,
        # What the processor of the budget is fast at; another one must go on with it.
        "bf16": fast_bf16(),
        "steps": {},
        "runs": [],
    }
    if file.exists():
        saved = json.loads(file.read_text())
        if "bf16" not in saved or any(saved[key] != state[key] for key in ("network", "minutes")):
            raise AdaPoolError(
                str(file), "is of another network, budget or version", "name another --output"
            )
        state = saved
    missing = [name for name in order if name not in state["steps"]]
    if missing:
        if state["bf16"] != fast_bf16():
            raise AdaPoolError(
                str(file),
                f"has no budget for {missing[0]}, and this processor is another kind",
                "name another --output",
            )
        first = next(iter(state["steps"]), missing[0])
        beside = [first, *(name for name in missing if name != first)]
        times = times_of(beside, args.network, words, state["bf16"])
        state["steps"] = budgets(state["steps"], times, args.minutes * 60)
    state["variants"] = {name: asdict(VARIANTS[name]) for name in order}
    finished = {(run["variant"], run["seed"]) for run in state["runs"]}
    work = [
        (name, seed, state["steps"][name], args.network, words, sets, args.device, state["bf16"])
        for seed in range(1, args.seeds + 1)
        for name in order
        if (name, seed) not in finished
    ]
    args.output.mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(state, indent=1).encode())
    context = multiprocessing.get_context("spawn")
    with context.Pool(args.jobs, _one_thread, maxtasksperchild=1) as pool:
        for run in pool.imap_unordered(_work, work):
            state["runs"].append(run)
            write_whole(file, json.dumps(state, indent=1).encode())
            figures = "  ".join(f"{key} {value:.3f}" for key, value in run["psnr"].items())
            print(f"{run['variant']}, seed {run['seed']}: {figures}", flush=True)
    table = markdown(state["runs"], order)
    write_whole(args.output / "ablation.md", f"{table}\n".encode())
    print(f"\n{table}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
