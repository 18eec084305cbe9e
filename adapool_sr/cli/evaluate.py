"""``adapool-sr evaluate``: PSNR and SSIM of models on folders of pictures, against bicubic."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adapool_sr.cli._common import (
    PROG,
    add_consistent_flag,
    add_device_flags,
    add_ensemble_flag,
    add_json_flag,
    add_model_flags,
    emit,
    positive_int,
    positive_number,
    prepare_torch,
    quality,
    say,
)
from adapool_sr.evaluation.sets import PictureSet, picture_sets
from adapool_sr.files.errors import OutputExistsError, UsageError
from adapool_sr.files.writing import check_writable
from adapool_sr.inference.report import Report

if TYPE_CHECKING:
    from adapool_sr.evaluation.measuring import Candidate, Trial
    from adapool_sr.evaluation.montage import Montage
    from adapool_sr.evaluation.table import Table

NAME = "evaluate"
HELP = "measure a model on folders of high-resolution pictures, against bicubic"
EXAMPLE = (
    "adapool-sr evaluate -n tiny-x2 --data Set5=sets/Set5 --data sets/Set14\n"
    "adapool-sr evaluate --model-path last.ckpt --data sets/Set5 --per-image --json\n"
    "adapool-sr evaluate -n tiny -s 3 --jpeg 75 --data sets/Set5 --csv set5.csv --montage set5.png"
)

__all__ = ["EXAMPLE", "HELP", "NAME", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--data",
        metavar="[NAME=]DIR",
        action="append",
        required=True,
        help="a folder of high-resolution pictures, and what to call it; may be repeated",
    )
    add_model_flags(parser, several=True)
    parser.add_argument(
        "--jpeg",
        metavar="Q",
        type=quality,
        help="save the inputs as JPEG of this quality (1 to 100, 4:2:0) before they are enlarged",
    )
    parser.add_argument(
        "--noise",
        metavar="SIGMA",
        type=positive_number,
        default=0.0,
        help="add Gaussian noise of this standard deviation, of 255, to the inputs first",
    )
    parser.add_argument("--per-image", action="store_true", help="a line for every picture too")
    parser.add_argument(
        "--csv", metavar="FILE", type=Path, help="write every picture's figures as CSV"
    )
    parser.add_argument(
        "--montage",
        metavar="FILE.png",
        type=Path,
        help="write a sheet of the crops with the largest and smallest gain of the first model",
    )
    parser.add_argument(
        "--crops",
        metavar="N",
        type=positive_int,
        default=4,
        help="how many best and worst crops the sheet has (default: 4 of each)",
    )
    add_device_flags(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    add_ensemble_flag(parser)
    add_consistent_flag(parser)
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table; with ``--json`` one object a picture and model, and the means at the end."""
    if args.scale is not None and (args.scale != round(args.scale) or args.scale < 1):
        raise UsageError("--scale", f"must be whole and at least 1, got {args.scale:g}")
    if args.montage is not None and args.montage.suffix.lower() != ".png":
        raise UsageError(f"--montage {args.montage}", "is written as PNG", "name it .png")
    for path in filter(None, (args.csv, args.montage)):
        check_writable(path)
        if path.exists() and not args.overwrite:
            raise OutputExistsError(str(path), "exists", "give --overwrite to replace it")
    sets = picture_sets(args.data)
    models = _models(args)

    from adapool_sr.evaluation.measuring import Candidate
    from adapool_sr.evaluation.montage import Montage
    from adapool_sr.inference import backends

    prepare_torch(args.threads)
    options = {name: getattr(args, name) for name in ("device", "precision", "tile")}
    options.update(scale=args.scale, self_ensemble=args.self_ensemble, consistent=args.consistent)
    candidates = [Candidate.of(backends.load(model), **options) for model in models]
    report = Report()
    montage = Montage(args.crops) if args.montage is not None else None
    table = _measure(args, candidates, sets, montage, report)
    _write(args, table, montage)
    _show(args, table, report)
    return report.exit_status


def _models(args: argparse.Namespace) -> list[Path]:
    """The files of the models that are asked for: ``-n a,b -n c`` in that order, then paths."""
    from adapool_sr.models import registry

    names = [name.strip() for words in args.name or () for name in words.split(",")]
    if not all(names):
        raise UsageError("--name", "holds an empty name", "give -n a,b or -n a -n b")
    if not names and not args.model_path:
        names = [registry.DEFAULT_NAME]
    return [*(registry.find(name, args.scale).path for name in names), *(args.model_path or ())]


def _measure(
    args: argparse.Namespace,
    candidates: Sequence[Candidate],
    sets: Sequence[PictureSet],
    montage: Montage | None,
    report: Report,
) -> Table:
    """Measure all pictures, with a bar or events, counting them in the report."""
    from tqdm import tqdm

    from adapool_sr.evaluation.inputs import Degradation
    from adapool_sr.evaluation.measuring import measure

    total = sum(len(group.paths) for group in sets)
    if args.json:
        models = [candidate.name for candidate in candidates]
        names = [group.name for group in sets]
        scale = candidates[0].upscaler.scale
        emit("start", models=models, scale=scale, sets=names, pictures=total)
    silent = args.quiet or args.json or not sys.stderr.isatty()
    with tqdm(total=total, unit="picture", disable=silent, leave=False) as bar:

        def on_trial(trial: Trial) -> None:
            report.done += 1
            bar.update()
            if montage is not None:
                montage.add(trial)
            if args.json:
                for score in trial.scores:
                    emit("file", **score.as_dict())

        def on_failure(file: str, why: str) -> None:
            report.failed.append((file, why))
            bar.update()
            if args.json:
                emit("error", file=file, message=why)
            with bar.external_write_mode(file=sys.stderr):
                say(f"{PROG}: error: {why}")

        degradation = Degradation(args.jpeg, args.noise)
        return measure(candidates, sets, degradation, on_trial, on_failure)


def _write(args: argparse.Namespace, table: Table, montage: Montage | None) -> None:
    """Write the files that are asked for, where anything was measured."""
    from adapool_sr.files.writing import make_folder, write_whole

    if not table.scores:
        return
    if args.csv is not None:
        make_folder(args.csv.parent)
        write_whole(args.csv, table.csv().encode())
    if montage is not None:
        make_folder(args.montage.parent)
        write_whole(args.montage, montage.png())


def _show(args: argparse.Namespace, table: Table, report: Report) -> None:
    """Print the table, or its event."""
    if args.json:
        emit(
            "done",
            models=list(table.models),
            scale=table.scale,
            sets=[row.as_dict() for row in table.rows],
            published=[row.as_dict() for row in table.published],
            foot=table.foot,
            notes=list(table.notes),
            done=report.done,
            failed=len(report.failed),
            exit_status=report.exit_status,
        )
    elif not args.quiet and table.scores:
        print(table.text(args.per_image))
    if report.failed:
        say(f"{report.done} measured, {len(report.failed)} failed")
