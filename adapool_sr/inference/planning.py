"""What a run will read and write, known and checked before any work; imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from adapool_sr.files.errors import MissingFileError, OutputExistsError, UsageError
from adapool_sr.files.journal import JOURNAL_NAME, Past, Stamp, read_past, refuse_running
from adapool_sr.files.writing import check_writable
from adapool_sr.io.listing import BOOK, WRITTEN, format_of, is_book, list_images, matches

__all__ = [
    "Job",
    "Plan",
    "Policy",
    "decide",
    "kind_for",
    "list_jobs",
    "named",
    "plan_file",
    "plan_folder",
    "refuse_inputs",
    "renew",
]

Policy = Literal["refuse", "overwrite", "skip", "resume"]

_State = Literal["new", "skip", "done", "stands"]

_SHOWN = 3  # names in a message; the rest are counted


@dataclass(frozen=True)
class Job:
    """One picture to enlarge.

    Attributes:
        name: what the user sees: the input's path, in a folder run relative to the folder.
        source: the input file, or its whole content.
        target: the output file; None for standard output.
        kind: the output's format, as in "png" or "jpg"; "cbz" for a book.
        pages: the format of a book's pages; None for each page's own.
    """

    name: str
    source: Path | bytes
    target: Path | None
    kind: str
    pages: str | None = None


@dataclass(frozen=True)
class Plan:
    """What is left to do once the outputs that exist were looked at.

    Attributes:
        todo: to be enlarged.
        skipped: left alone, because their output exists and ``--skip`` said so.
        resumed: finished by the interrupted run.
        folder: the output folder of a folder run, else None.
        past: what an interrupted run left there, if this run continues it.
        settings: what changes the results.
        policy: what was said about outputs that exist; None where nobody looked.
    """

    todo: Sequence[Job]
    skipped: Sequence[Job] = ()
    resumed: Sequence[Job] = ()
    folder: Path | None = None
    past: Past | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    policy: Policy | None = None


def plan_file(source: Path, output: str, kind: str | None) -> Job:
    """Plan one file.

    Args:
        source: the input file.
        output: a file, whose suffix chooses the format; an existing folder or a name with a
            slash at its end, which takes a file of the input's stem.
        kind: the format if the user named one.

    Raises:
        MissingFileError: no such input.
        UsageError: an output whose format is unknown, contradicts kind, cannot be written
            or is the input itself.
    """
    if not source.exists():
        raise MissingFileError(str(source), "no such file or folder", "check the path")
    target = Path(output)
    if target.is_dir() or output.endswith(("/", os.sep)):
        target = target / named(Path(source.name), kind)
    job = _job(str(source), source, target, kind)
    check_writable(target)
    refuse_inputs([job])
    return job


def _job(name: str, source: Path, target: Path, kind: str | None) -> Job:
    """The job of a picture or a book."""
    if is_book(source) != is_book(target):
        what = "a book" if is_book(source) else "no book"
        raise UsageError(
            f"output '{target}'",
            f"does not fit the input {name}, which is {what}",
            "a book takes a .cbz, a picture the name of a picture",
        )
    if not is_book(source):
        return Job(name, source, target, kind_for(target, kind))
    if target.suffix.lower() != ".cbz":
        raise UsageError(f"output '{target}'", "is no format that is written", "end it in .cbz")
    return Job(name, source, target, BOOK, kind)


def kind_for(target: Path, kind: str | None) -> str:
    """The format of an output file: what its suffix says, or the format that was asked for.

    Raises:
        UsageError: neither says, or they contradict each other.
    """
    by_name = format_of(target)
    if by_name is None and (kind is None or target.suffix):
        raise UsageError(
            f"output '{target}'",
            f"'{target.suffix}' is no format that is written" if target.suffix else "has no suffix",
            f"end it in {WRITTEN}",
        )
    if kind and by_name and kind != by_name:
        raise UsageError(
            f"--format {kind}", f"contradicts the output's name '{target}'", "leave one out"
        )
    return kind or by_name or "png"


def named(relative: Path, kind: str | None) -> Path:
    """The output's path for an input's: the same, but for a suffix that follows the format."""
    if is_book(relative):
        return relative.with_suffix(".cbz") if relative.suffix.lower() != ".cbz" else relative
    own = format_of(relative)
    if own is not None and kind in (None, own):
        return relative
    return relative.with_suffix(f".{kind or 'png'}")


def list_jobs(source: Path, output: Path, kind: str | None, pattern: str = "") -> list[Job]:
    """What :func:`plan_folder` plans, before it looks whether that can be done."""
    # A pattern without a folder in it need not look into any.
    recursive = not pattern or "/" in pattern or "**" in pattern
    inside = [] if output.resolve() == source.resolve() else [output]
    jobs = []
    for path in list_images(source, recursive, without=inside, books=True):
        relative = path.relative_to(source)
        if pattern and not matches(relative, pattern):
            continue
        target = output / named(relative, kind)
        jobs.append(_job(str(relative), path, target, kind))
    return jobs


def plan_folder(
    source: Path,
    output: Path,
    kind: str | None,
    *,
    pattern: str = "",
    may_be_empty: bool = False,
) -> list[Job]:
    """Plan all pictures of a folder, its tree mirrored in the output folder.

    Args:
        source: the input folder.
        output: the output folder, which need not exist. Where it lies inside the input
            folder, its content is no input.
        kind: the format of all outputs; None for each input's own, or PNG where that one is
            not written.
        pattern: takes only the pictures whose path in the folder matches it, if not empty.
        may_be_empty: whether a folder without pictures will do: one that is watched.

    Raises:
        MissingFileError: no such folder, or no picture that matches.
        UsageError: an empty folder, an output that is a file, that cannot be written or that
            is an input, or two inputs that would meet in one output.
    """
    if output.exists() and not output.is_dir():
        raise UsageError(f"output '{output}'", "is a file", "a folder of inputs takes a folder")
    if not output.exists() and format_of(output) is not None:
        raise UsageError(
            f"output '{output}'",
            "is the name of a picture",
            "a folder of inputs takes a folder; use --format for the format",
        )
    jobs = list_jobs(source, output, kind, pattern)
    if not jobs and pattern and not may_be_empty:
        raise MissingFileError(
            str(source / pattern), "matches no picture", f"all below it: '{source}/**'"
        )
    if not jobs and not may_be_empty:
        raise UsageError(str(source), "holds no pictures", "PNG, JPEG, WebP, TIFF, … are taken")
    check_writable(output / JOURNAL_NAME)
    refuse_running(output)
    _refuse_collisions(jobs)
    refuse_inputs(jobs)
    return jobs


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    by_target: dict[Path | None, list[Job]] = {}
    for job in jobs:
        by_target.setdefault(job.target, []).append(job)
    meeting = {target: group for target, group in by_target.items() if len(group) > 1}
    if meeting:
        target, group = next(iter(meeting.items()))
        names = " and ".join(job.name for job in group[:_SHOWN])
        more = f" ({len(meeting)} outputs are shared so)" if len(meeting) > 1 else ""
        raise UsageError(
            f"output '{target}'",
            f"would be made from {names}{more}",
            "rename one, or choose the format so that they differ",
        )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def refuse_inputs(jobs: Sequence[Job]) -> None:
    """Refuse an output that is one of the inputs, by whatever path or link it is reached.

    Raises:
        UsageError: names both.
    """
    inputs = {_identity(job.source): job for job in jobs if isinstance(job.source, Path)}
    inputs.pop(None, None)
    for job in jobs:
        if job.target is not None and (met := inputs.get(_identity(job.target))) is not None:
            raise UsageError(
                f"output '{job.target}'", f"is the input {met.name}", "choose another place"
            )


def decide(
    jobs: Sequence[Job],
    policy: Policy,
    *,
    folder: Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """Look at the outputs that exist and say what is left to do.

    Args:
        jobs: of a file or a folder.
        policy: what to do about an output that exists.
        folder: the output folder of a folder run.
        settings: what changes the results, to compare with an interrupted run's.

    Raises:
        OutputExistsError: outputs that exist and may not be replaced.
        UsageError: the interrupted run had other settings.
    """
    settings = dict(settings or {})
    interrupted = read_past(folder) if folder is not None else None
    past = interrupted if policy == "resume" else None
    if past is not None and past.settings != settings:
        raise UsageError("--resume", _difference(past.settings, settings), "use the same settings")
    sorted_out: dict[_State, list[Job]] = {"new": [], "skip": [], "done": [], "stands": []}
    for job in jobs:
        exists = job.target is not None and os.path.lexists(job.target)
        sorted_out[_state_of(job, policy, past, folder) if exists else "new"].append(job)
    if standing := sorted_out["stands"]:
        names = ", ".join(str(job.target) for job in standing[:_SHOWN])
        more = f" and {len(standing) - _SHOWN} more" if len(standing) > _SHOWN else ""
        plural = f"{len(standing)} outputs exist: " if len(standing) > 1 else ""
        remedy = "--overwrite replaces, --skip keeps"
        if interrupted is not None:
            remedy += ", --resume continues the interrupted run"
        raise OutputExistsError(
            f"{plural}{names}{more}", "would be replaced" if plural else "exists", remedy
        )
    todo, skipped, resumed = (sorted_out[state] for state in ("new", "skip", "done"))
    return Plan(todo, skipped, resumed, folder, past, settings, policy)


def renew(plan: Plan) -> Plan:
    """Look again, once the folder is locked: another run may have ended in between.

    Raises:
        OutputExistsError: as for :func:`decide`.
        UsageError: as for :func:`decide`.
    """
    if plan.policy is None:
        return plan
    jobs = [*plan.todo, *plan.skipped, *plan.resumed]
    return decide(jobs, plan.policy, folder=plan.folder, settings=plan.settings)


def _state_of(job: Job, policy: Policy, past: Past | None, folder: Path | None) -> _State:
    """What to do about a job whose output exists."""
    if policy == "overwrite":
        return "new"
    if policy == "skip":
        return "skip"
    if past is None or folder is None or job.target is None or not isinstance(job.source, Path):
        return "stands"
    output = str(job.target.relative_to(folder))
    if output in past.kept:
        return "skip"
    if past.done.get(job.name) == Stamp.of(job.source):
        return "done"
    return "new" if output in past.outputs else "stands"


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    keys = [key for key in now if then.get(key) != now[key]] or [*then]
    words = ", ".join(f"{key} {then.get(key)} then, {now.get(key)} now" for key in keys)
    return f"the interrupted run had other settings ({words})"
