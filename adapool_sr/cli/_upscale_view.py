"""What ``adapool-sr upscale`` shows while it runs: words, a progress bar, JSON events."""

from __future__ import annotations

import argparse
import math
import sys
import time
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from adapool_sr.cli._common import PROG, emit, say
from adapool_sr.cli._upscale_plan import event_stream
from adapool_sr.files.errors import AdaPoolError
from adapool_sr.inference.batch import Observer
from adapool_sr.inference.family import Family
from adapool_sr.inference.forecast import Extent
from adapool_sr.inference.pace import Pace
from adapool_sr.inference.planning import Job, Plan
from adapool_sr.inference.report import Report
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.inference.verifying import Verdict

__all__ = ["View"]

_EVERY = 0.5  # seconds between progress events


class View(Observer):
    """Shows a run; a context manager around the part with the bar.

    Args:
        args: the command's arguments.
        plan: what is to be done.
    """

    def __init__(self, args: argparse.Namespace, plan: Plan) -> None:
        self._args = args
        self._plan = plan
        self._json = bool(args.json)
        self._stream = event_stream(args)
        self._quiet = bool(args.quiet)
        self._bar: Any = None
        self._pace = Pace({})
        self._stopped = False
        self._last_event = 0.0
        self._verdicts: dict[str, Verdict] = {}

    def _emit(self, event: str, **fields: Any) -> None:
        if self._json:
            emit(event, stream=self._stream, **fields)

    def start(self, made: Upscaler | Family, model: str, extents: Mapping[str, Extent]) -> None:
        """Say what is going to be done; ``extents`` are of the files that will be."""
        if not self._args.watch:  # else nobody knows what will come
            least = min((extent.weight for extent in extents.values()), default=1)
            names = [job.name for job in self._plan.todo]
            weights = {n: extents[n].weight if n in extents else least for n in names}
            for name in names:  # is left alone: costs no more than its header
                if name in extents and extents[name].large_enough:
                    weights[name] = 1
            self._pace = Pace(weights)
        upscaler = made.smallest if isinstance(made, Family) else made
        if self._plan.folder is None and extents and isinstance(made, Family):
            extent = next(iter(extents.values()))
            upscaler = made.choose(extent.height, extent.width, extent.format)
            model = upscaler.spec.name if upscaler.spec is not None else model
        precision = str(upscaler.precision).removeprefix("torch.")
        self._emit(
            "start",
            model=model,
            scale=upscaler.scale if made.size is None else None,
            size=None if made.size is None else str(made.size),
            files=len(self._plan.todo),
            device=str(upscaler.device),
            precision=precision,
        )
        for status, jobs in (("skipped", self._plan.skipped), ("resumed", self._plan.resumed)):
            for job in jobs:
                self._emit("file", input=job.name, output=job.target, status=status)
        count = len(self._plan.todo)
        aim = made.size or f"x{upscaler.scale:g}"
        what = self._plan.todo[0].name if count == 1 else f"{count} pictures"
        if self._args.watch:
            what, count = f"watching {self._args.input}, Ctrl-C ends it", 1
        say(
            f"{what}: {aim} with {model} on {upscaler.device}, {precision}",
            quiet=self._quiet or count == 0,
        )

    def stop(self) -> None:
        """End the run before its next tile."""
        self._stopped = True

    def should_stop(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopped

    def __enter__(self) -> View:
        if sys.stderr.isatty() and not self._quiet and self._plan.todo:
            import shutil

            from tqdm import tqdm

            shape = shutil.get_terminal_size()  # where a terminal has no size, tqdm shows nothing
            self._bar = tqdm(
                total=1.0,
                bar_format="{percentage:3.0f}%|{bar}| {desc}",
                leave=False,
                ncols=shape.columns,
                nrows=shape.lines,
                file=sys.stderr,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def _show(self) -> None:
        """Move the bar to where the run has come."""
        if self._bar is not None:
            files = f"{self._pace.images}/{len(self._plan.todo)}"
            self._bar.set_description_str(f"{files}, {self._pace.words()}", refresh=False)
            self._bar.update(self._pace.share - self._bar.n)

    def _print(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.clear()
        print(text, file=sys.stderr, flush=True)
        if self._bar is not None:
            self._bar.refresh()

    def progress(self, job: Job, done: int, total: int) -> None:
        """Move the bar; an event at most twice a second."""
        self._pace.progress(job.name, done / total)
        self._show()
        now = time.monotonic()
        if self._json and now - self._last_event >= _EVERY:
            self._last_event = now
            self._emit("progress", input=job.name, done=done, total=total, **self._figures())

    def _figures(self) -> dict[str, float | int | None]:
        """Of the whole run: what the bar shows."""
        pace, watching = self._pace, bool(self._args.watch)
        return {
            "files_done": pace.images,
            "files": None if watching else len(self._plan.todo),
            "share": None if watching else round(pace.share, 4),
            "images_per_second": _rounded(pace.images_per_second),
            "megapixels_per_second": _rounded(pace.megapixels_per_second),
            "seconds_left": None if watching else _rounded(pace.seconds_left),
        }

    def finished(self, job: Job, width: int, height: int) -> None:
        """Count a file that stands under its name."""
        self._pace.finished(job.name, width * height)
        self._show()
        verdict = self._verdicts.pop(job.name, None)
        compared = {} if verdict is None else _compared(verdict)
        self._emit(
            "file",
            input=job.name,
            output=job.target or "-",
            status="done",
            width=width,
            height=height,
            **compared,
        )

    def left_alone(self, job: Job, width: int, height: int) -> None:
        """Count a picture that is large enough."""
        self._pace.dropped(job.name)
        self._show()
        status = "skipped_larger"
        self._emit("file", input=job.name, output=None, status=status, width=width, height=height)

    def verified(self, job: Job, verdict: Verdict) -> None:
        """Say how far a result is from its input."""
        self._verdicts[job.name] = verdict
        if not self._quiet and verdict.passes:
            self._print(f"{job.name}: {verdict}")

    def failed(self, job: Job, error: Exception) -> None:
        """Name a file that could not be done, also with ``--quiet``."""
        self._pace.dropped(job.name)
        self._show()
        text = str(error)
        if not isinstance(error, AdaPoolError):
            text = f"{job.name}: {type(error).__name__}: {error}; --debug shows where"
        if self._args.debug:
            self._print("".join(traceback.format_exception(error)).rstrip())
        self._print(f"{PROG}: error: {' '.join(text.split())}")
        self._emit("error", input=job.name, message=text)

    def warning(self, job: Job, text: str) -> None:
        """Say what could not be kept."""
        if not self._quiet:
            self._print(f"{PROG}: warning: {job.name}: {text}")
        self._emit("warning", input=job.name, message=text)

    def done(self, report: Report) -> None:
        """Say the last line; with failures also under ``--quiet``."""
        self._emit("done", **report.as_dict())
        say(report.words(), quiet=self._quiet and not report.failed)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _compared(verdict: Verdict) -> dict[str, float | None]:
    """A verdict as fields of an event; equal pictures have no dB, and JSON no infinity."""
    psnr = verdict.psnr if math.isfinite(verdict.psnr) else None
    return {"input_psnr": psnr, "input_worst": verdict.worst}
