"""What ``adapool-sr upscale`` will do: its jobs, and what ``--dry-run`` says of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from adapool_sr.cli._common import emit, say
from adapool_sr.files.errors import AdaPoolError, UsageError

if TYPE_CHECKING:
    from adapool_sr.inference.family import Family
    from adapool_sr.inference.forecast import Extent
    from adapool_sr.inference.planning import Job, Plan, Policy
    from adapool_sr.inference.sizes import Size
    from adapool_sr.inference.upscaler import Upscaler
    from adapool_sr.models.registry import ModelSpec


def _policy(args: argparse.Namespace) -> Policy:
    if args.overwrite:
        return "overwrite"
    if args.skip:
        return "skip"
    return "resume" if args.resume else "refuse"


def _folder_of(args: argparse.Namespace) -> tuple[Path, str] | None:
    """The folder of inputs and the pattern in it; None for one picture.

    A pattern that matches one picture is that picture, where the output is a picture's name.
    """
    from adapool_sr.io.listing import format_of, split_pattern

    if args.input == "-":
        return None
    if Path(args.input).is_dir():
        return Path(args.input), ""
    found = split_pattern(args.input)
    if found is not None and (args.output == "-" or format_of(Path(args.output)) is not None):
        from adapool_sr.inference.planning import list_jobs

        jobs = list_jobs(found[0], Path("."), args.format, found[1])
        if len(jobs) == 1:
            args.input = str(jobs[0].source)
            return None
    return found


def make_plan(
    args: argparse.Namespace, specs: list[ModelSpec], size: Size | None
) -> tuple[Plan, Callable[[], list[Job]]]:
    """What is to be done, and a look at what there is to do now (for ``--watch``)."""
    from adapool_sr.inference.planning import decide, list_jobs, plan_file, plan_folder
    from adapool_sr.io.listing import BOOK, LOSSY

    jobs: list[Job]
    folder = None
    look: Callable[[], list[Job]] = list
    if (found := _folder_of(args)) is not None:
        if args.output == "-":
            raise UsageError("-o -", "takes one picture, the input is a folder", "give a folder")
        folder = Path(args.output)
        source, pattern = found
        if args.watch and folder.resolve() == source.resolve():
            raise UsageError("--watch", "would take its own results for inputs", "another -o")
        jobs = plan_folder(source, folder, args.format, pattern=pattern, may_be_empty=args.watch)
        look = partial(list_jobs, source, folder, args.format, pattern)
        _say_what_is_left_out(args, source, folder, everything=not pattern)
    elif args.watch:
        raise UsageError("--watch", "watches a folder, the input is none", "give a folder")
    elif args.input == "-" or args.output == "-":
        jobs = [_plan_stream(args)]
    else:
        jobs = [plan_file(Path(args.input), args.output, args.format)]
    kinds = {job.kind if job.kind != BOOK else job.pages for job in jobs}
    if args.quality is not None and jobs and not kinds & {*LOSSY, None}:
        names = " and ".join(sorted(filter(None, kinds)))
        raise UsageError(
            "--quality", f"has no meaning for {names}, which is lossless", "use jpg, webp or avif"
        )
    settings = _settings(args, specs, size)
    return decide(jobs, _policy(args), folder=folder, settings=settings), look


def _say_what_is_left_out(
    args: argparse.Namespace, source: Path, output: Path, everything: bool
) -> None:
    """Count what no run takes: pictures in its own output folder, and files of other kinds."""
    from adapool_sr.io.listing import count_others, list_images

    if everything and (others := count_others(source, without=[output])):
        what = "1 file" if others == 1 else f"{others} files"
        say(f"{source}: {what} of other kinds passed over", quiet=args.quiet)

    inside = source.resolve() in output.resolve().parents
    if output.is_dir() and inside and (own := list_images(output)):
        say(
            f"{output}: {len(own)} pictures in the output folder are not taken as inputs",
            quiet=args.quiet,
        )


def _plan_stream(args: argparse.Namespace) -> Job:
    """The job of a run that reads from standard input or writes to standard output."""
    from adapool_sr.files.writing import check_writable
    from adapool_sr.inference.planning import Job, kind_for
    from adapool_sr.io.listing import WRITABLE, format_of

    source: Path | bytes
    target = None
    if args.output == "-":
        if sys.stdout.isatty():
            raise UsageError("-o -", "would print a picture to the terminal", "redirect it")
    else:
        target = Path(args.output)
        check_writable(target)
    if args.input == "-":
        name, source, own = "standard input", sys.stdin.buffer.read(), None
        from adapool_sr.io.decoding import kind_of

        own = WRITABLE.get(f".{kind_of(source)}")
    else:
        source = Path(args.input)
        name, own = str(source), format_of(source)
        if not source.exists():
            from adapool_sr.files.errors import MissingFileError

            raise MissingFileError(name, "no such file or folder", "check the path")
    kind = kind_for(target, args.format) if target is not None else args.format or own or "png"
    return Job(name, source, target, kind)


def _settings(
    args: argparse.Namespace, specs: list[ModelSpec], size: Size | None
) -> dict[str, Any]:
    """What changes the results; a run with other values is not resumed."""
    if args.model_path is None:
        model = ", ".join(f"{spec.name} {spec.sha256[:16]}" for spec in specs)
    else:
        from adapool_sr.files.journal import Stamp

        stamp = Stamp.of(args.model_path)
        model = f"{args.model_path.resolve()} {stamp.size} {stamp.mtime_ns}"
    later = {  # older journals lack them
        "self_ensemble": args.self_ensemble,
        "size": str(size or ""),
        "skip_larger": args.skip_larger,
        "strength": "" if args.strength == 1 else f"{args.strength:g}",
        "wrap": args.wrap,
        "consistent": args.consistent,
        "strip": args.strip,
    }
    return {
        "input": str(Path(args.input).resolve()),
        "model": model,
        "scale": args.scale,
        "format": args.format,
        "quality": args.quality,
        "precision": args.precision,
        **{key: value for key, value in later.items() if value},
    }


def show_plan(
    args: argparse.Namespace,
    plan: Plan,
    model: str,
    made: Upscaler | Family | None = None,
) -> None:
    """Print the plan of ``--dry-run``, and an estimate where the model that would run is given.

    The sizes come from the headers; one picture is decoded, and a part of it enlarged, for the
    estimate of the time.

    Raises:
        UsageError: the results have no room on the disk.
    """
    extents: dict[str, Extent] = {}
    jobs = [*plan.todo, *plan.skipped, *plan.resumed]
    if made is not None:
        from adapool_sr.inference.forecast import survey

        extents = survey(jobs, made, args.max_pixels)
    larger = sum(job.name in extents and extents[job.name].large_enough for job in plan.todo)
    if not args.quiet or args.json:
        for status, group in (
            ("new", plan.todo),
            ("skipped", plan.skipped),
            ("done before", plan.resumed),
        ):
            for job in group:
                _show_job(args, job, status, extents.get(job.name))
    say(
        f"{len(plan.todo) - larger} to do with {model}, {len(plan.skipped) + larger} to skip, "
        f"{len(plan.resumed)} done before; nothing was written",
        quiet=args.quiet or args.json,
    )
    if made is not None:
        _show_forecast(args, plan, extents, made)


def _show_job(args: argparse.Namespace, job: Job, status: str, extent: Extent | None) -> None:
    from adapool_sr.io.decoding import probe
    from adapool_sr.io.listing import BOOK

    size = result = trouble = ""
    if extent is None:  # damaged, or for a sheet of pieces
        try:
            if isinstance(job.source, Path) and job.kind == BOOK:
                from adapool_sr.inference.books import count_pages

                size = f"{count_pages(job.source)} pages"
            else:
                width, height, *_ = probe(job.source, args.max_pixels)
                size = f"{width}x{height}"
        except AdaPoolError as error:
            trouble = str(error)
    else:
        size = f"{extent.width}x{extent.height}"
        if status == "new" and extent.large_enough:
            status = "large enough"
        else:
            result = f"{extent.columns}x{extent.rows}"
    target = str(job.target or "standard output")
    tiles = extent.tiles if extent is not None and status == "new" else None
    if args.json:
        emit(
            "plan",
            stream=event_stream(args),
            input=job.name,
            output=target,
            status=status,
            size=size,
            result=result,
            tiles=tiles,
            error=trouble,
        )
        return
    text = f"{job.name} {size} -> {target}: {trouble or status}"
    if result and status == "new":
        text += f", {result}, {tiles} tile{'' if tiles == 1 else 's'}"
    say(text)


def _show_forecast(
    args: argparse.Namespace, plan: Plan, extents: dict[str, Extent], made: Upscaler | Family
) -> None:
    from adapool_sr.inference.forecast import check_room, fitting_jobs, forecast

    readers = args.jobs or fitting_jobs(extents.values(), default_jobs())
    found = forecast(plan.todo, extents, made, readers, args.quality)
    due = [extents[job.name] for job in plan.todo if job.name in extents]
    pixels = sum(e.columns * e.rows for e in due if not e.large_enough)
    needed, free = check_room(plan.todo, extents)
    if args.json:
        emit(
            "done",
            stream=event_stream(args),
            dry_run=True,
            files=len(plan.todo),
            megapixels=round(pixels / 1e6, 3),
            estimated_seconds=None if found.seconds is None else round(found.seconds, 1),
            estimated_bytes=needed,
            estimated_memory=found.memory,
            free_bytes=free,
            available_memory=found.available,
            exit_status=0,
        )
    room = "" if free is None else f" ({free / 1e6:,.0f} MB are free)"
    time = "unknown time" if found.seconds is None else f"{found.seconds:.1f} s"
    say(
        f"estimate, from a trial of a part of one picture: {time}, {needed / 1e6:,.1f} MB of "
        f"results{room}, at most {found.memory / 1e6:,.0f} MB of "
        f"memory ({found.available / 1e6:,.0f} MB are free)",
        quiet=args.quiet or args.json,
    )


def event_stream(args: argparse.Namespace) -> TextIO:
    """Where JSON events go: not where the result goes."""
    return sys.stderr if args.output == "-" else sys.stdout


def default_jobs() -> int:
    """Readers, and as many writers, where nothing is said."""
    from adapool_sr.cli._common import available_cpus

    # As many writers as processors: where a small network is faster than PNG, one would be waited
    # for. More than four hold pictures in memory and gain nothing beside the network.
    return min(4, available_cpus())
