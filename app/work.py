"""The page's work: one picture after the other through the network, each in a job."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import cast

import numpy as np

from adapool_sr.files.errors import AdaPoolError
from adapool_sr.inference import backends, batch
from adapool_sr.inference.memory import release_memory
from adapool_sr.inference.planning import Job as PlannedFile
from adapool_sr.inference.planning import decide, plan_file
from adapool_sr.inference.upscaler import Stopped, Upscaler
from adapool_sr.io.decoding import JPEG, probe
from adapool_sr.io.listing import DEFAULT_MAX_PIXELS
from adapool_sr.models.checkpoint import LoadedModel
from adapool_sr.models.registry import find, find_photo

from .preview import Comparison, compare

__all__ = ["Device", "Job", "Request", "Result", "Stage", "Workshop", "words"]


@dataclass(frozen=True)
class Device:
    """Where and how the networks run, as the command's flags of these names have it.

    Attributes:
        device: "auto", "cpu", "cuda" …
        precision: "auto", "fp32", "bf16" or "fp16".
        tile: "auto", 0 or pixels.
        threads: of torch; None leaves torch's own number.
        max_pixels: a larger input is refused undecoded.
    """

    device: str = "auto"
    precision: str = "auto"
    tile: str | int = "auto"
    threads: int | None = None
    max_pixels: int = DEFAULT_MAX_PIXELS


@dataclass(frozen=True)
class Request:
    """What a visitor asks for.

    Attributes:
        source: the picture file, under the name it had.
        model: a shipped model's name, or a file; None takes the one for the picture's format.
        scale: the factor; None is the model's.
        kind: "png", "jpg" or "webp"; None as the command would choose.
        strength: s of bicubic + s·(network − bicubic), 0 to 2.
    """

    source: Path
    model: str | Path | None
    scale: float | None = None
    kind: str | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class Result:
    """What a job made.

    Attributes:
        path: the file, whose name is the one to download it under.
        width: its pixels in a row.
        height: its pixels in a column.
        model: the model's name.
        seconds: of the network.
        lost: a sentence for each thing that the file could not hold.
        comparison: the pictures for the slider; None where they could not be made.
    """

    path: Path
    width: int
    height: int
    model: str
    seconds: float
    lost: tuple[str, ...] = ()
    comparison: Comparison | None = None


class Stage(Enum):
    """How far a job has come."""

    WAITING = "waiting"
    READING = "reading"
    NETWORK = "network"
    WRITING = "writing"
    COMPARING = "comparing"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


_ENDS = (Stage.DONE, Stage.STOPPED, Stage.FAILED)


class Job(batch.Observer):
    """One picture on its way; made by :meth:`Workshop.start`.

    Attributes:
        request: what was asked for.
        folder: where the result is written.
        stage: how far it has come.
        share: of the network's work, 0..1.
        ahead: jobs that run or wait before this one.
        error: a sentence, once it has failed.
        result: once it is done.
    """

    def __init__(self, request: Request, folder: Path) -> None:
        self.request = request
        self.folder = folder
        self.stage = Stage.WAITING
        self.share = 0.0
        self.ahead = 0
        self.error = ""
        self.result: Result | None = None
        self.size = (0, 0)
        self.lost: list[str] = []
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._future: Future[None] | None = None

    def stop(self) -> None:
        """Ask it to end: at once if it waits, else before the network's next tile."""
        self._stop.set()
        if self._future is not None and self._future.cancel():
            self.end(Stage.STOPPED)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended and touches no file any more; say whether it has."""
        return self._ended.wait(seconds)

    def end(self, stage: Stage) -> None:
        """Note how it ended; what stopped it is no longer waited for."""
        self.stage = stage
        self._ended.set()

    def should_stop(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raise Stopped if :meth:`stop` was called."""
        if self.should_stop():
            raise Stopped

    def progress(self, job: PlannedFile, done: int, total: int) -> None:
        """Note how far the network has come."""
        self.share = done / total
        self.stage = Stage.NETWORK if done < total else Stage.WRITING

    def finished(self, job: PlannedFile, width: int, height: int) -> None:
        """Note the result's size."""
        self.size = (width, height)

    def warning(self, job: PlannedFile, text: str) -> None:
        """Keep a sentence for the visitor."""
        self.lost.append(text)


class Workshop:
    """Runs jobs in the order they came, one at a time, in one thread.

    One thread for all: torch keeps its helpers and memory by the thread that calls it.

    Args:
        device: where and how to run.

    Attributes:
        device: the same.
    """

    def __init__(self, device: Device | None = None) -> None:
        self.device = device or Device()
        self._pool = ThreadPoolExecutor(1, "network")
        self._jobs: list[Job] = []
        self._guard = threading.Lock()
        self._models: dict[str | Path, LoadedModel | backends.OtherModel] = {}
        self._upscaler: tuple[object, Upscaler] | None = None

    def prepare(self, model: str | Path | None, scale: float | None = None) -> float:
        """Load a model, so that what is wrong with it is known before it is needed.

        Returns:
            The factor of its results.

        Raises:
            AdaPoolError: no such model, a damaged one, or a device that is not there.
        """
        return self._pool.submit(self._upscaler_for, model, scale).result().scale

    def warm(self, model: str | Path | None, scale: float | None = None) -> None:
        """Run the network once in the background: native kernels may have to be built first."""

        def run() -> None:
            self._upscaler_for(model, scale)(np.zeros((8, 8, 3), np.uint8))

        self._pool.submit(run)

    def start(self, request: Request, folder: Path) -> Job:
        """Put a picture into the line.

        Args:
            request: what is wanted.
            folder: an empty folder for the result and the pictures of the slider.
        """
        job = Job(request, folder)
        with self._guard:
            job.ahead = len(self._jobs)
            self._jobs.append(job)
            future = self._pool.submit(self._run, job)
        job._future = future
        future.add_done_callback(lambda _: self._leave(job))
        return job

    def end(self) -> None:
        """Stop all jobs and wait for the one that runs."""
        with self._guard:
            jobs = list(self._jobs)
        for job in jobs:
            job.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _leave(self, job: Job) -> None:
        with self._guard:
            self._jobs.remove(job)
            for place, other in enumerate(self._jobs):
                other.ahead = place

    def _upscaler_for(
        self, model: str | Path | None, scale: float | None, strength: float = 1.0
    ) -> Upscaler:
        """The Upscaler of a model and a factor; the last one is kept."""
        import torch

        if self.device.threads is not None:
            torch.set_num_threads(self.device.threads)
        if self._upscaler is not None and self._upscaler[0] == (model, scale, strength):
            return self._upscaler[1]
        name = model if isinstance(model, Path) else find(model, scale).name
        if name not in self._models:
            found = model if isinstance(model, Path) else find(model, scale)
            self._models[name] = backends.load(found)
        upscaler = Upscaler(
            self._models[name],
            scale=scale,
            strength=strength,
            device=self.device.device,
            precision=self.device.precision,
            tile=self.device.tile,  # type: ignore[arg-type]  # "auto" is the only text
        )
        self._upscaler = ((model, scale, strength), upscaler)
        return upscaler

    def _run(self, job: Job) -> None:
        """Do a job; however it goes, it ends in one of the last stages."""
        stage = Stage.FAILED
        try:
            self._enlarge(job)
            stage = Stage.DONE
        except Stopped:
            stage = Stage.STOPPED
        except Exception as error:  # whatever one picture brings must not end the server
            job.error = words(error, job.request.source, job.folder)
        finally:
            if stage is not Stage.DONE:
                shutil.rmtree(job.folder, ignore_errors=True)
            release_memory()  # nobody may want another picture
            job.end(stage)

    def _enlarge(self, job: Job) -> None:
        request = job.request
        job.check()
        job.stage = Stage.READING
        model = request.model or _fitting(request, self.device.max_pixels)
        upscaler = self._upscaler_for(model, request.scale, request.strength)
        planned = plan_file(request.source, f"{job.folder}/", request.kind)
        target = cast(Path, planned.target)  # a file has one
        report = batch.run_plan(
            decide([planned], "refuse"),
            upscaler,
            batch.Options(max_pixels=self.device.max_pixels),
            job,
        )
        job.check()
        job.stage = Stage.COMPARING
        job.result = Result(
            path=target,
            width=job.size[0],
            height=job.size[1],
            model=model.name if isinstance(model, Path) else model,
            seconds=report.network,
            lost=tuple(job.lost),
            comparison=_comparison(job, target, self.device.max_pixels),
        )


def _fitting(request: Request, max_pixels: int) -> str:
    """The name of the shipped model for a picture's format."""
    form = probe(request.source, max_pixels).format
    photo = find_photo(request.scale) if form in JPEG else None
    return (photo or find(None, request.scale)).name


def _comparison(job: Job, target: Path, max_pixels: int) -> Comparison | None:
    """The slider's pictures; the result is worth having without them."""
    folder = job.folder / "compare"
    folder.mkdir()
    try:
        return compare(job.request.source, target, folder, max_pixels, job.check)
    except (AdaPoolError, MemoryError, OSError, RuntimeError, ValueError):
        return None


# What the command's remedies say, and what is there on the page instead.
_REMEDIES = (
    ("use --format png", "choose PNG as the format"),
    ("try --format png", "choose PNG as the format"),
    ("with --max-pixels", "with adapool-sr app --max-pixels"),
)


def words(error: Exception, source: Path, folder: Path | None = None) -> str:
    """An error in a sentence for a visitor, who knows files by their names alone.

    Args:
        error: what went wrong.
        source: the picture.
        folder: where its result was to go.
    """
    if not isinstance(error, AdaPoolError):
        return f"{source.name}: {type(error).__name__}: {error}"
    what, remedy = error.what, error.remedy
    if what.startswith("-s "):
        what = f"Scale {what.removeprefix('-s ')}"
    for command, page in _REMEDIES:
        remedy = remedy.replace(command, page)
    text = str(AdaPoolError(what, error.why, remedy)).replace(str(source), source.name)
    if folder is not None:
        text = text.replace(f"{folder}/", "")
    return " ".join(text.split())
