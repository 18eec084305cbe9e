"""Files in, enlarged files out: reading, the network and writing overlap."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

from adapool_sr.files.errors import FullDiskError
from adapool_sr.files.journal import Journal, Stamp
from adapool_sr.files.writing import make_folder, write_whole
from adapool_sr.inference.family import Family
from adapool_sr.inference.planning import Job, Plan, renew
from adapool_sr.inference.report import Report
from adapool_sr.inference.steps import Options, encode_result, judge, read_input
from adapool_sr.inference.upscaler import Stopped, Upscaler
from adapool_sr.inference.verifying import Verdict
from adapool_sr.io.decoding import probe
from adapool_sr.io.images import Picture
from adapool_sr.io.listing import BOOK

__all__ = ["Observer", "Options", "Run", "locked", "run_plan"]


class Observer:
    """Hears what happens to the files of a run; all calls come from the thread that runs it.

    This one keeps silent and never stops a run; a command overrides what it wants.
    """

    def should_stop(self) -> bool:
        """Whether the run is to end; asked before each tile and between files."""
        return False

    def progress(self, job: Job, done: int, total: int) -> None:
        """The network has read ``done`` of ``total`` pixels of a picture."""

    def finished(self, job: Job, width: int, height: int) -> None:
        """A result of this size stands under its name."""

    def left_alone(self, job: Job, width: int, height: int) -> None:
        """A picture of this size was large enough and got no result."""

    def verified(self, job: Job, verdict: Verdict) -> None:
        """A result was compared with its input; it is not written yet."""

    def failed(self, job: Job, error: Exception) -> None:
        """A file could not be done."""

    def warning(self, job: Job, text: str) -> None:
        """Something of a file could not be kept."""


_GO_ON = ", then go on with --resume"


@dataclass(frozen=True)
class _LargeEnough:
    width: int
    height: int


@dataclass(frozen=True)
class _Read:
    picture: Picture
    stamp: Stamp | None
    lost: list[str]
    seconds: float


@dataclass(frozen=True)
class _Written:
    lost: list[str]
    width: int
    height: int
    seconds: float


def run_plan(
    plan: Plan,
    upscaler: Upscaler | Family,
    options: Options | None = None,
    observer: Observer | None = None,
) -> Report:
    """Enlarge every picture of a plan.

    In a folder run a file that fails is told to the observer and the rest is done, unless the
    disk is full, which ends the run; a journal in the output folder lets a run be
    resumed that was killed or ended so. When this function is left by an exception, such as a
    KeyboardInterrupt, files that were being written are finished and nothing is half-written.

    Args:
        plan: from :func:`adapool_sr.inference.planning.decide`.
        upscaler: made with the factor or size that is wanted.
        options: how to read and write.
        observer: hears of progress.

    Raises:
        AdaPoolError: what failed, where the plan is for a single file.
        FullDiskError: no room for a result.
        UsageError: another run is writing into the folder.
        Stopped: the observer's ``should_stop`` said so; no new file was begun.
    """
    report = Report(skipped=len(plan.skipped), resumed=len(plan.resumed))
    start = time.perf_counter()
    with locked(plan, report) as (plan, journal):
        run = Run(upscaler, options or Options(), observer or Observer(), report, journal)
        run.all(plan.todo)
        if journal is not None:
            journal.complete()
    report.wall = time.perf_counter() - start
    return report


@contextmanager
def locked(plan: Plan, report: Report) -> Iterator[tuple[Plan, Journal | None]]:
    """Lock the folder of a plan, look at it again, begin the journal and count what stands."""
    folder = plan.folder
    if folder is None:
        yield plan, None
        return
    make_folder(folder)
    with Journal(folder) as journal:
        plan = renew(plan)
        report.skipped, report.resumed = len(plan.skipped), len(plan.resumed)
        outputs, kept = (
            [str(job.target.relative_to(folder)) for job in jobs if job.target]
            for jobs in ([*plan.todo, *plan.resumed], plan.skipped)
        )
        journal.begin(plan.settings, outputs, kept, resumed=plan.past is not None)
        yield plan, journal


class Run:
    """The three stages of a run, and what is between them.

    Attributes:
        full_disk_ends: whether a full disk ends the run; else it costs the one file.
    """

    def __init__(
        self,
        upscaler: Upscaler | Family,
        options: Options,
        observer: Observer,
        report: Report,
        journal: Journal | None,
    ) -> None:
        self.upscaler = upscaler
        self.options = options
        self.observer = observer
        self.report = report
        self.journal = journal
        self.writing: deque[tuple[Job, Future[_Written]]] = deque()
        self.full_disk_ends = True

    def all(self, jobs: Sequence[Job]) -> None:
        """Do these, books after pictures; raises as :func:`run_plan`."""
        self._pictures([job for job in jobs if job.kind != BOOK])
        for job in jobs:
            if job.kind == BOOK:
                self._book(job)

    def _pictures(self, jobs: Sequence[Job]) -> None:
        count = self.options.jobs
        readers = ThreadPoolExecutor(count, "read")
        writers = ThreadPoolExecutor(count, "write")
        waiting = iter(jobs)
        reading = deque((job, readers.submit(self._read, job)) for job in islice(waiting, count))
        try:
            while reading:
                job, content = self._next(reading)
                if self.observer.should_stop():
                    raise Stopped
                for upcoming in islice(waiting, 1):  # is read while the network runs
                    reading.append((upcoming, readers.submit(self._read, upcoming)))
                if isinstance(content, _LargeEnough):
                    self.report.larger += 1
                    self.observer.left_alone(job, content.width, content.height)
                    continue
                if content is None or (picture := self._enlarge(job, content)) is None:
                    continue
                while len(self.writing) >= count:
                    self._settle()
                write = writers.submit(self._write, job, picture, content.stamp)
                self.writing.append((job, write))
                del content, picture  # else they would live while the next one is waited for
                self._settle_written()
            while self.writing:
                self._settle()
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            writers.shutdown(wait=True, cancel_futures=True)

    def _book(self, job: Job) -> None:
        """Enlarge a book; pages are read and written while the network runs."""
        from adapool_sr.inference.books import enlarge_book

        if self.observer.should_stop():
            raise Stopped
        try:
            stamp = Stamp.of(cast(Path, job.source))
            make_folder(cast(Path, job.target).parent)
            size = enlarge_book(job, self.upscaler, self.options, self.observer, self.report)
            if self.journal is not None:
                self.journal.finished(job.name, stamp)
        except Stopped:
            raise
        except Exception as error:  # as below
            self.fail(job, error)
            return
        self.report.done += 1
        self.observer.finished(job, *size)

    def _next(
        self, reading: deque[tuple[Job, Future[_Read | _LargeEnough]]]
    ) -> tuple[Job, _Read | _LargeEnough | None]:
        job, future = reading.popleft()
        try:
            return job, future.result()
        except Exception as error:  # whatever is wrong with one file must not cost the rest
            self.fail(job, error)
            return job, None

    def _read(self, job: Job) -> _Read | _LargeEnough:
        start = time.perf_counter()
        # Taken before reading: a file that changes meanwhile then counts as changed.
        stamp = Stamp.of(job.source) if isinstance(job.source, Path) else None
        if (size := self.upscaler.size) is not None and size.skip_larger:
            width, height, *_ = probe(job.source, self.options.max_pixels)
            if size.skips(height, width):
                return _LargeEnough(width, height)
        picture, lost = read_input(
            job.source,
            job.name if isinstance(job.source, bytes) else str(job.source),
            job.kind,
            self.upscaler,
            self.options,
            output=str(job.target or "output"),
        )
        return _Read(picture, stamp, lost, time.perf_counter() - start)

    def _enlarge(self, job: Job, content: _Read) -> Picture | None:
        self.report.decoding += content.seconds
        for text in content.lost:
            self.observer.warning(job, text)

        def progress(done: int, total: int) -> None:
            self._settle_written()  # else a large picture would keep earlier ones from being told
            self.observer.progress(job, done, total)

        start = time.perf_counter()
        picture = content.picture
        upscaler = self.upscaler.choose(picture.height, picture.width, picture.format)
        try:
            result = upscaler.upscale_picture(picture, progress, self.observer.should_stop)
            if self.options.verify:
                self._verify(job, upscaler.compare(result, picture))
            return result
        except Stopped:
            raise
        except Exception as error:  # as above
            self.fail(job, error)
            return None
        finally:
            self.report.network += time.perf_counter() - start

    def _verify(self, job: Job, verdict: Verdict) -> None:
        """Count a verdict and tell it; a bad one warns, or fails the file."""
        self.observer.verified(job, verdict)
        if trouble := judge(verdict, job.name, self.options, self.report):
            self.observer.warning(job, trouble)

    def _write(self, job: Job, picture: Picture, stamp: Stamp | None) -> _Written:
        start = time.perf_counter()
        data, lost = encode_result(picture, job.kind, self.options, str(job.target or "output"))
        if job.target is None:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        else:
            make_folder(job.target.parent)
            write_whole(job.target, data)
        if self.journal is not None and stamp is not None:
            self.journal.finished(job.name, stamp)
        seconds = time.perf_counter() - start
        return _Written(lost, picture.width, picture.height, seconds)

    def _settle_written(self) -> None:
        while self.writing and self.writing[0][1].done():
            self._settle()

    def _settle(self) -> None:
        """Wait for the oldest file that is being written and say what became of it."""
        job, future = self.writing.popleft()
        try:
            written = future.result()
        except Exception as error:  # as above
            self.fail(job, error)
            return
        self.report.done += 1
        self.report.encoding += written.seconds
        self.report.pixels += written.width * written.height
        for text in written.lost:
            self.observer.warning(job, text)
        self.observer.finished(job, written.width, written.height)

    def fail(self, job: Job, error: Exception) -> None:
        """Count and tell a file that failed; raise where that ends the run."""
        if self.journal is None:
            raise error
        if (
            isinstance(error, FullDiskError) and self.full_disk_ends
        ):  # so would all others, after the network's work
            remedy = error.remedy.removesuffix(_GO_ON) + _GO_ON
            raise FullDiskError(error.what, error.why, remedy) from error
        self.report.failed.append((job.name, str(error)))
        self.observer.failed(job, error)
