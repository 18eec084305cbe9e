"""``adapool-sr upscale``: make a picture, or all pictures of a folder, larger."""

from __future__ import annotations

import argparse
import sys
from functools import partial
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
from adapool_sr.cli._look_flags import add_look_flags, add_size_flags, check_look, size_of
from adapool_sr.files.errors import AdaPoolError, UsageError

if TYPE_CHECKING:
    from adapool_sr.inference.family import Family
    from adapool_sr.inference.planning import Job, Plan, Policy
    from adapool_sr.inference.sizes import Size
    from adapool_sr.inference.upscaler import Upscaler
    from adapool_sr.models.registry import ModelSpec

NAME = "upscale"
HELP = "make pictures larger"
EXAMPLE = """\
adapool-sr upscale -i photo.jpg -o large.png -s 2
adapool-sr upscale -i photos -o large -s 2 --format webp
adapool-sr upscale -i photos -o large --fit 3840x2160 --skip-larger --verify
adapool-sr upscale -i photo.jpg -o sheet.png --crop 400,300,160,120 -n tiny-x2
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
    add_size_flags(parser)
    add_look_flags(parser)
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
    size = size_of(args)
    check_look(args)
    if args.crop is not None:
        return _try_piece(args, size)
    specs = _find_models(args, size)
    plan = _plan(args, specs, size)
    model = ", ".join(spec.name for spec in specs) or str(args.model_path)
    if args.dry_run:
        _show_plan(args, plan, model, size or (args.scale or (specs[0].scale if specs else None)))
        return 0
    from adapool_sr.cli._upscale_view import View

    # All that can be wrong with the words was found by now; torch takes seconds to import.
    view = View(args, plan)
    upscaler = _make_upscaler(args, specs, size)
    from adapool_sr.inference.batch import Options, run_plan

    view.start(upscaler, model)
    options = Options(
        args.quality,
        args.max_pixels,
        args.jobs or _default_jobs(),
        args.strip,
        args.verify,
        args.strict,
    )
    with view:
        report = run_plan(plan, upscaler, options, view)
    view.done(report)
    return report.exit_status


def _try_piece(args: argparse.Namespace, size: Size | None) -> int:
    """Make the sheet of ``--crop``."""
    from adapool_sr.cli._upscale_sheet import check_piece, find_models, make_sheet

    if args.model_path is not None:
        _find_models(args, size)
    plan = _plan(args, [], size)
    specs = find_models(args, size)
    for job in [*plan.todo, *plan.skipped]:
        check_piece(args, job)
    if args.dry_run or not plan.todo:
        _show_plan(args, plan, ", ".join(spec.name for spec in specs) or str(args.model_path), None)
        return 0
    import torch

    torch.set_num_threads(args.threads)
    return make_sheet(args, plan.todo[0], specs, {**_options(args), "size": size})


def _find_models(args: argparse.Namespace, size: Size | None) -> list[ModelSpec]:
    """The shipped model that is asked for; all of its family where each picture has its factor.

    None where a file is asked for, which is only looked for.
    """
    if args.model_path is not None:
        from adapool_sr.files.errors import MissingFileError

        if not args.model_path.is_file():
            raise MissingFileError(
                f"--model-path {args.model_path}", "no such file", "check the path"
            )
        return []
    from adapool_sr.models.registry import available, find

    if size is None:
        return [find(args.name, args.scale)]
    factors = sorted({spec.scale for spec in available()})
    found = {spec.scale: spec for spec in (find(args.name, factor) for factor in factors)}
    return [found[scale] for scale in sorted(found)] or [find(args.name, None)]


def _plan(args: argparse.Namespace, specs: list[ModelSpec], size: Size | None) -> Plan:
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
    plan: Plan = decide(jobs, policy, folder=folder, settings=_settings(args, specs, size))
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


def _default_jobs() -> int:
    from adapool_sr.cli._common import available_cpus

    # The network needs the processors more than PNG does; each job also holds a picture.
    return min(4, max(1, available_cpus() // 2))


def _show_plan(
    args: argparse.Namespace, plan: Plan, model: str, factor: float | Size | None
) -> None:
    """Print the plan of ``--dry-run``: the sizes come from the headers, nothing is decoded."""
    if args.quiet and not args.json:
        return
    larger = 0
    for kind, jobs in (
        ("new", plan.todo),
        ("skipped", plan.skipped),
        ("done before", plan.resumed),
    ):
        for job in jobs:
            status, size, result, trouble = kind, "", "", ""
            try:
                size, result, larger_now = _sizes(job, args.max_pixels, factor, kind == "new")
                if larger_now:
                    status = "large enough"
                    larger += 1
            except AdaPoolError as error:
                trouble = str(error)
            target = str(job.target or "standard output")
            if args.json:
                emit(
                    "plan",
                    stream=sys.stderr if args.output == "-" else None,
                    input=job.name,
                    output=target,
                    status=status,
                    size=size,
                    result=result,
                    error=trouble,
                )
            else:
                print(
                    f"{job.name} {size} -> {target}: {trouble or status}", end="", file=sys.stderr
                )
                print(f", {result}" if result and kind == "new" else "", file=sys.stderr)
    say(
        f"{len(plan.todo) - larger} to do with {model}, {len(plan.skipped) + larger} to skip, "
        f"{len(plan.resumed)} done before; nothing was written",
        quiet=args.quiet or args.json,
    )


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """An Upscaler's, but for its factor or size."""
    return {
        "device": args.device,
        "precision": args.precision,
        "tile": args.tile,
        "self_ensemble": args.self_ensemble,
        "strength": args.strength,
        "wrap": args.wrap,
        "consistent": args.consistent,
    }


def _sizes(
    job: Job, max_pixels: int, factor: float | Size | None, new: bool
) -> tuple[str, str, bool]:
    """Sizes of an input and its result in words, by its header, and whether it is left alone."""
    from adapool_sr.inference.sizes import Size, route
    from adapool_sr.io.decoding import probe

    if isinstance(job.source, Path) and job.kind == "cbz":
        from adapool_sr.inference.books import count_pages

        return f"{count_pages(job.source)} pages", "", False
    width, height, _ = probe(job.source, max_pixels)
    size = f"{width}x{height}"
    if new and isinstance(factor, Size) and factor.skips(height, width):
        return size, "", True
    if factor is None:
        return size, "", False
    way = route(height, width, factor, 1)
    return size, f"{way.columns}x{way.rows}", False


def _make_upscaler(
    args: argparse.Namespace, specs: list[ModelSpec], size: Size | None
) -> Upscaler | Family:
    import torch

    from adapool_sr.inference.backends import load
    from adapool_sr.inference.family import Family
    from adapool_sr.inference.upscaler import Upscaler

    torch.set_num_threads(args.threads)
    if size is not None and len(specs) > 1:
        models = {spec.scale: partial(load, spec) for spec in specs}
        return Family(models, size, **_options(args))
    model = load(specs[0] if specs else args.model_path)
    return Upscaler(model, scale=args.scale, size=size, **_options(args))
