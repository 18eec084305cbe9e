"""``adapool-sr upscale``: make a picture, or all pictures of a folder, larger."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from adapool_sr.cli._common import (
    add_device_flags,
    add_ensemble_flag,
    add_json_flag,
    add_max_pixels_flag,
    add_model_flags,
    positive_int,
    prepare_torch,
    quality,
)
from adapool_sr.cli._look_flags import add_look_flags, add_size_flags, check_look, size_of
from adapool_sr.cli._upscale_plan import default_jobs, make_plan, show_plan
from adapool_sr.files.errors import UsageError

if TYPE_CHECKING:
    from adapool_sr.cli._upscale_view import View
    from adapool_sr.inference.batch import Options
    from adapool_sr.inference.family import Family
    from adapool_sr.inference.planning import Job, Plan
    from adapool_sr.inference.sizes import Size
    from adapool_sr.inference.upscaler import Upscaler
    from adapool_sr.models.registry import ModelSpec

NAME = "upscale"
HELP = "make pictures larger"
EXAMPLE = """\
adapool-sr upscale -i photo.jpg -o large.png -s 2
adapool-sr upscale -i photos -o large -s 2 --format webp
adapool-sr upscale -i 'photos/**/*.jpg' -o large --resume
adapool-sr upscale -i inbox -o large --watch --skip
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
        help="a picture, a comic (.cbz), a folder, a quoted pattern as in 'photos/**/*.jpg', "
        "or - for stdin",
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
        "--resume",
        action="store_true",
        help="go on where a folder run was interrupted",
    )
    add_max_pixels_flag(parser)
    add_json_flag(parser)
    once = parser.add_mutually_exclusive_group()
    once.add_argument(
        "--dry-run",
        action="store_true",
        help="say what would be done: sizes, tiles, and an estimate of time, disk and memory",
    )
    once.add_argument(
        "--watch",
        action="store_true",
        help="go on with pictures that arrive in the folder, each once, until Ctrl-C (or SIGTERM)",
    )


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
    models = _find_models(args, size)
    plan, look = make_plan(args, [*models.usual, *models.photo], size)
    model = models.words or str(args.model_path)
    from adapool_sr.cli._upscale_view import View

    # All that can be wrong with the words was found by now; torch takes seconds to import.
    view = View(args, plan)
    upscaler = _make_upscaler(args, models, size)
    if args.dry_run:
        show_plan(args, plan, model, upscaler)
        return 0
    from adapool_sr.inference.batch import Options, run_plan
    from adapool_sr.inference.forecast import check_room, fitting_jobs, survey

    extents = survey(plan.todo, upscaler, args.max_pixels)
    check_room(plan.todo, extents)
    jobs = args.jobs or fitting_jobs(extents.values(), default_jobs())
    options = Options(args.quality, args.max_pixels, jobs, args.strip, args.verify, args.strict)
    view.start(upscaler, model, extents)
    if args.watch:
        return _watch(plan, look, upscaler, options, view)
    with view:
        report = run_plan(plan, upscaler, options, view)
    view.done(report)
    return report.exit_status


def _watch(
    plan: Plan,
    look: Callable[[], list[Job]],
    upscaler: Upscaler | Family,
    options: Options,
    view: View,
) -> int:
    """Enlarge what arrives until Ctrl-C (130), or until SIGTERM asks for an end (0, or 3)."""
    import signal

    from adapool_sr.inference.report import Report
    from adapool_sr.inference.watching import watch

    report = Report()
    before = signal.signal(signal.SIGTERM, lambda *_: view.stop())
    try:
        watch(plan, look, upscaler, report, options, view)
    finally:
        signal.signal(signal.SIGTERM, before)
        view.done(report)
    return report.exit_status


def _try_piece(args: argparse.Namespace, size: Size | None) -> int:
    """Make the sheet of ``--crop``."""
    from adapool_sr.cli._upscale_sheet import check_piece, find_models, make_sheet

    if args.model_path is not None:
        _find_models(args, size)
    plan, _ = make_plan(args, [], size)
    if plan.folder is not None:
        raise UsageError("--crop", "takes one picture, the input is a pattern", "name a picture")
    specs = find_models(args, size)
    for job in [*plan.todo, *plan.skipped]:
        check_piece(args, job)
    if args.dry_run or not plan.todo:
        show_plan(args, plan, ", ".join(spec.name for spec in specs) or str(args.model_path))
        return 0
    prepare_torch(args.threads)
    return make_sheet(args, plan.todo[0], specs, {**_options(args), "size": size})


class _Models(NamedTuple):
    """The shipped models that a run may take, none where a file is asked for.

    Attributes:
        usual: one, or all of a family where each picture has its own factor.
        photo: those for JPEG files, where nobody named a model.
    """

    usual: list[ModelSpec]
    photo: list[ModelSpec]

    @property
    def words(self) -> str:
        """Their names."""
        usual, photo = (", ".join(spec.name for spec in specs) for specs in self)
        return f"{usual}, {photo} for JPEG files" if photo else usual


def _find_models(args: argparse.Namespace, size: Size | None) -> _Models:
    """The models that are asked for; a file is only looked for."""
    if args.model_path is not None:
        from adapool_sr.files.errors import MissingFileError

        if not args.model_path.is_file():
            raise MissingFileError(
                f"--model-path {args.model_path}", "no such file", "check the path"
            )
        return _Models([], [])
    from adapool_sr.models.registry import available, find, find_photo

    factors: Sequence[float | None] = [args.scale]
    if size is not None:
        factors = sorted({spec.scale for spec in available()}) or [None]
    usual = {spec.scale: spec for spec in (find(args.name, factor) for factor in factors)}
    photo = {}
    if args.name is None:
        found = (find_photo(factor) for factor in factors)
        photo = {spec.scale: spec for spec in found if spec is not None}
    return _Models(*([named[scale] for scale in sorted(named)] for named in (usual, photo)))


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


def _make_upscaler(
    args: argparse.Namespace, models: _Models, size: Size | None
) -> Upscaler | Family:
    from adapool_sr.inference.backends import load
    from adapool_sr.inference.family import Family
    from adapool_sr.inference.upscaler import Upscaler

    prepare_torch(args.threads)
    how = {"scale": args.scale, "size": size, **_options(args)}
    if len(models.usual) > 1 or models.photo:
        usual, photo = ({spec.scale: partial(load, spec) for spec in specs} for specs in models)
        return Family(usual, photo, **how)
    return Upscaler(load(models.usual[0] if models.usual else args.model_path), **how)
