"""``adapool-sr upscale``: make a picture, or all pictures of a folder, larger."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapool_sr.cli._common import (
    add_device_flags,
    add_ensemble_flag,
    add_json_flag,
    add_max_pixels_flag,
    add_model_flags,
    emit,
    positive_int,
    quality,
    say,
)
from adapool_sr.files.errors import AdaPoolError, UsageError

if TYPE_CHECKING:
    from adapool_sr.inference.planning import Job, Plan, Policy
    from adapool_sr.inference.upscaler import Upscaler
    from adapool_sr.models.registry import ModelSpec

NAME = "upscale"
HELP = "make pictures larger"
EXAMPLE = """\
adapool-sr upscale -i photo.jpg -o large.png -s 2
adapool-sr upscale -i photos -o large -s 2 --format webp
adapool-sr upscale -i book.cbz -o large.cbz
cat photo.png | adapool-sr upscale -i - -o - > large.png
"""

__all__ = ["EXAMPLE", "HELP", "NAME", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "-i",
        "--input",
        metavar="IN",
        required=True,
        help="a picture, a comic (.cbz), a folder of them, or - for stdin",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        required=True,
        help="a file, whose suffix chooses the format; a folder for a folder; or - for stdout",
    )
    add_model_flags(parser)
    parser.add_argument(
        "-f",
        "--format",
        choices=("png", "jpg", "webp", "tiff", "bmp", "avif"),
        help="format of the results (default: the input's, or png where that is not written)",
    )
    parser.add_argument(
        "--quality",
        metavar="Q",
        type=quality,
        help="1 to 100 for jpg, webp and avif (default: 95; the last two keep a lossless input so)",
    )
    parser.add_argument(
        "--strip",
        action="store_true",
        help="drop EXIF, IPTC, XMP, colour profile and DPI, which are kept else",
    )
    add_device_flags(parser)
    add_ensemble_flag(parser)
    parser.add_argument(
        "-j",
        "--jobs",
        metavar="N",
        type=positive_int,
        help="pictures read ahead, and as many written at once (default: by the processors)",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace outputs that exist")
    existing.add_argument("--skip", action="store_true", help="keep outputs that exist, go on")
    existing.add_argument(
        "--resume", action="store_true", help="go on where an interrupted folder run ended"
    )
    add_max_pixels_flag(parser)
    add_json_flag(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and stop")


def run(args: argparse.Namespace) -> int:
    """Enlarge what the arguments name; see the flags' help.

    Returns:
        0, or 3 when some files of a folder failed.
    """
    for flag, value in (("-i", args.input), ("-o", args.output)):
        if not value:  # a shell's unset variable, which Path takes for the current folder
            raise UsageError(flag, "is empty", "give a file, a folder or -")
    spec = _find_model(args)
    plan = _plan(args, spec)
    if args.dry_run:
        _show_plan(args, plan, spec)
        return 0
    from adapool_sr.cli._upscale_view import View

    # All that can be wrong with the words was found by now; torch takes seconds to import.
    view = View(args, plan)
    upscaler = _make_upscaler(args, spec)
    from adapool_sr.inference.batch import Options, run_plan

    view.start(upscaler, spec.name if spec is not None else str(args.model_path))
    options = Options(args.quality, args.max_pixels, args.jobs or _default_jobs(), args.strip)
    with view:
        report = run_plan(plan, upscaler, options, view)
    view.done(report)
    return report.exit_status


def _find_model(args: argparse.Namespace) -> ModelSpec | None:
    """The shipped model that is asked for; None where a file is, which is only looked for."""
    if args.model_path is not None:
        from adapool_sr.files.errors import MissingFileError

        if not args.model_path.is_file():
            raise MissingFileError(
                f"--model-path {args.model_path}", "no such file", "check the path"
            )
        return None
    from adapool_sr.models.registry import find

    return find(args.name, args.scale)


def _plan(args: argparse.Namespace, spec: ModelSpec | None) -> Plan:
    from adapool_sr.inference.planning import decide, plan_file, plan_folder
    from adapool_sr.io.listing import BOOK, LOSSY

    policy: Policy = "refuse"
    if args.overwrite:
        policy = "overwrite"
    elif args.skip:
        policy = "skip"
    elif args.resume:
        policy = "resume"
    folder = None
    jobs: list[Job]
    if args.input != "-" and Path(args.input).is_dir():
        if args.output == "-":
            raise UsageError("-o -", "takes one picture, the input is a folder", "give a folder")
        folder = Path(args.output)
        jobs = plan_folder(Path(args.input), folder, args.format)
        _say_what_is_left_out(args, folder)
    elif args.input == "-" or args.output == "-":
        jobs = [_plan_stream(args)]
    else:
        jobs = [plan_file(Path(args.input), args.output, args.format)]
    kinds = {job.kind if job.kind != BOOK else job.pages for job in jobs}
    if args.quality is not None and not kinds & {*LOSSY, None}:
        names = " and ".join(sorted(filter(None, kinds)))
        raise UsageError(
            "--quality", f"has no meaning for {names}, which is lossless", "use jpg, webp or avif"
        )
    plan: Plan = decide(jobs, policy, folder=folder, settings=_settings(args, spec))
    return plan


def _say_what_is_left_out(args: argparse.Namespace, output: Path) -> None:
    """Name the pictures that no run takes because they lie in its own output folder."""
    from adapool_sr.io.listing import list_images

    source = Path(args.input).resolve()
    if output.is_dir() and source in output.resolve().parents and (own := list_images(output)):
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


def _settings(args: argparse.Namespace, spec: ModelSpec | None) -> dict[str, Any]:
    """What changes the results; a run with other values is not resumed."""
    if spec is not None:
        model = f"{spec.name} {spec.sha256[:16]}"
    else:
        from adapool_sr.files.journal import Stamp

        stamp = Stamp.of(args.model_path)
        model = f"{args.model_path.resolve()} {stamp.size} {stamp.mtime_ns}"
    return {
        "input": str(Path(args.input).resolve()),
        "model": model,
        "scale": args.scale,
        "format": args.format,
        "quality": args.quality,
        "precision": args.precision,
        **({"self_ensemble": True} if args.self_ensemble else {}),  # older journals lack it
        **({"strip": True} if args.strip else {}),
    }


def _default_jobs() -> int:
    from adapool_sr.cli._common import available_cpus

    # The network needs the processors more than PNG does; each job also holds a picture.
    return min(4, max(1, available_cpus() // 2))


def _show_plan(args: argparse.Namespace, plan: Plan, spec: ModelSpec | None) -> None:
    """Print the plan of ``--dry-run``: the sizes come from the headers, nothing is decoded."""
    if args.quiet and not args.json:
        return
    for status, jobs in (
        ("new", plan.todo),
        ("skipped", plan.skipped),
        ("done before", plan.resumed),
    ):
        for job in jobs:
            try:
                size, trouble = _size(job, args.max_pixels), ""
            except AdaPoolError as error:
                size, trouble = "", str(error)
            target = str(job.target or "standard output")
            if args.json:
                emit(
                    "plan",
                    stream=sys.stderr if args.output == "-" else None,
                    input=job.name,
                    output=target,
                    status=status,
                    size=size,
                    error=trouble,
                )
            else:
                print(f"{job.name} {size} -> {target}: {trouble or status}", file=sys.stderr)
    model = spec.name if spec is not None else str(args.model_path)
    say(
        f"{len(plan.todo)} to do with {model}, {len(plan.skipped)} to skip, "
        f"{len(plan.resumed)} done before; nothing was written",
        quiet=args.quiet or args.json,
    )


def _size(job: Job, max_pixels: int) -> str:
    """What there is of an input, in words, by its header."""
    if isinstance(job.source, Path) and job.kind == "cbz":
        from adapool_sr.inference.books import count_pages

        return f"{count_pages(job.source)} pages"
    from adapool_sr.io.decoding import probe

    width, height, _ = probe(job.source, max_pixels)
    return f"{width}x{height}"


def _make_upscaler(args: argparse.Namespace, spec: ModelSpec | None) -> Upscaler:
    import torch

    from adapool_sr.inference.backends import load
    from adapool_sr.inference.upscaler import Upscaler

    torch.set_num_threads(args.threads)
    return Upscaler(
        load(spec if spec is not None else args.model_path),
        scale=args.scale,
        device=args.device,
        precision=args.precision,
        tile=args.tile,
        self_ensemble=args.self_ensemble,
    )
