"""Watching a folder: every picture that arrives is enlarged once, when it has been written."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from adapool_sr.files.errors import (
    AdaPoolError,
    MissingFileError,
    OutputExistsError,
    UsageError,
)
from adapool_sr.files.journal import Journal, Stamp
from adapool_sr.inference.batch import Observer, Options, Run, locked
from adapool_sr.inference.family import Family
from adapool_sr.inference.memory import release_memory
from adapool_sr.inference.planning import Job, Plan, refuse_inputs
from adapool_sr.inference.report import Report
from adapool_sr.inference.upscaler import Stopped, Upscaler

__all__ = ["Arrivals", "watch"]

_STILL = 2.0  # seconds that a file's size and time must have stayed: who copies writes more often
_POLL = 0.5


class Arrivals:
    """Tells which files are there whole, each once, and once more when it failed and changed.

    Args:
        taken: names that are not to be told.
        clock: seconds.
    """

    def __init__(
        self, taken: Iterable[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._taken = set(taken)
        self._clock = clock
        self._seen: dict[str, tuple[Stamp, float]] = {}
        self._told: dict[str, Stamp] = {}

    def ready(self, jobs: Sequence[Job]) -> list[Job]:
        """Those whose file has been as it is for two seconds and was not told before."""
        now = self._clock()
        found = []
        for job in jobs:
            if job.name in self._taken or not isinstance(job.source, Path):
                continue
            try:
                stamp = Stamp.of(job.source)
            except (MissingFileError, OSError):  # gone again
                self._seen.pop(job.name, None)
                continue
            before, since = self._seen.get(job.name, (None, now))
            if stamp != before:
                self._seen[job.name] = (stamp, now)
            elif now - since >= _STILL:
                self._told[job.name] = self._seen.pop(job.name)[0]
                self._taken.add(job.name)
                found.append(job)
        return found

    def failed(self, name: str) -> None:
        """A told file could not be done: it is told again once it has changed."""
        self._taken.discard(name)
        self._seen[name] = (self._told[name], math.inf)


def watch(
    plan: Plan,
    look: Callable[[], Sequence[Job]],
    upscaler: Upscaler | Family,
    report: Report,
    options: Options | None = None,
    observer: Observer | None = None,
    *,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Enlarge the pictures of a folder as they arrive, until the observer or Ctrl-C ends it.

    A file that fails, for whatever reason, is told to the observer, and the watch goes on. The
    output folder stays locked. When it ends, a journal is left only where something was not
    finished, so that it can be resumed.

    Args:
        plan: of what is there, from :func:`adapool_sr.inference.planning.decide`.
        look: gives the jobs of all pictures that are in the folder now.
        upscaler: made with the factor or size that is wanted.
        report: is filled.
        options: how to read and write.
        observer: hears of progress; its ``should_stop`` ends the watch.
        wait: sleeps.
        clock: seconds.

    Raises:
        UsageError: another run is writing into the folder.
    """
    observer = observer or Observer()
    start = time.perf_counter()
    with locked(plan, report) as (plan, journal):
        if journal is None:
            raise UsageError("--watch", "watches a folder", "give a folder")
        run = Run(upscaler, options or Options(), observer, report, journal)
        run.full_disk_ends = False
        known = {str(job.target): job.name for job in [*plan.todo, *plan.skipped, *plan.resumed]}
        planned = {job.name for job in plan.todo}
        arrivals = Arrivals((job.name for job in [*plan.skipped, *plan.resumed]), clock)
        given = 0
        try:
            while not observer.should_stop():
                jobs = []
                refused = -len(report.failed)
                for job in arrivals.ready(_seen(look)):
                    if job.name in planned or _admit(job, plan, known, run):
                        jobs.append(job)
                refused += len(report.failed)
                given += len(jobs) + refused
                if jobs:
                    _expect(journal, plan, [job for job in jobs if job.name not in planned])
                    failed = len(report.failed)
                    run.all(jobs)
                    for name, _ in report.failed[failed:]:
                        arrivals.failed(name)
                    release_memory()  # the next picture may be hours away
                else:
                    wait(_POLL)
        except Stopped:
            pass
        finally:
            report.wall = time.perf_counter() - start
            if given == report.done + report.larger + len(report.failed):
                journal.complete()


def _seen(look: Callable[[], Sequence[Job]]) -> Sequence[Job]:
    """What is in the folder; nothing while it is away, as a disk that was pulled out."""
    try:
        return look()
    except (AdaPoolError, OSError):
        return ()


def _expect(journal: Journal, plan: Plan, jobs: Sequence[Job]) -> None:
    if jobs and plan.folder is not None:
        folder = plan.folder
        journal.expect(str(job.target.relative_to(folder)) for job in jobs if job.target)


def _admit(job: Job, plan: Plan, known: dict[str, str], run: Run) -> bool:
    """Whether a picture that came later is to be done: the rules of a folder run, for one file."""
    target = str(job.target)
    try:
        if known.get(target, job.name) != job.name:
            raise UsageError(f"output '{target}'", f"is another input's too: {job.name}", "")
        refuse_inputs([job])
        if os.path.lexists(target) and plan.policy != "overwrite":
            if plan.policy == "skip":
                run.report.skipped += 1
                return False
            raise OutputExistsError(target, "exists", "--overwrite replaces, --skip keeps")
    except AdaPoolError as error:
        run.fail(job, error)
        return False
    known[target] = job.name
    return True
