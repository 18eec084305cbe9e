"""``adapool-sr evaluate``: a model's PSNR and SSIM on folders of pictures, against bicubic."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapool_sr.cli._common import (
    PROG,
    add_device_flags,
    add_json_flag,
    add_model_flags,
    emit,
    say,
)
from adapool_sr.evaluation.sets import PictureSet, picture_sets
from adapool_sr.files.errors import UsageError
from adapool_sr.inference.report import Report

if TYPE_CHECKING:
    from adapool_sr.evaluation.table import Score, Table
    from adapool_sr.inference.upscaler import Upscaler

NAME = "evaluate"
HELP = "measure a model on folders of high-resolution pictures, against bicubic"
EXAMPLE = (
    "adapool-sr evaluate -n tiny-x2 --data Set5=sets/Set5 --data sets/Set14\n"
    "adapool-sr evaluate --model-path last.ckpt --data sets/Set5 --per-image --json"
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
    add_model_flags(parser)
    parser.add_argument("--per-image", action="store_true", help="a line for every picture too")
    add_device_flags(parser)
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table; with ``--json`` one object a picture, and the means at the end."""
    if args.scale is not None and (args.scale != round(args.scale) or args.scale < 2):
        raise UsageError("--scale", f"must be whole and at least 2, got {args.scale:g}")
    scale = None if args.scale is None else round(args.scale)
    sets = picture_sets(args.data)

    import torch

    from adapool_sr.inference import backends
    from adapool_sr.inference.upscaler import Upscaler
    from adapool_sr.models import registry

    torch.set_num_threads(args.threads)
    model = backends.load(args.model_path or registry.find(args.name, scale))
    upscaler = Upscaler(
        model, scale=scale, device=args.device, precision=args.precision, tile=args.tile
    )
    report = Report()
    table = _measure(args, upscaler, sets, model.spec.name, report)
    if args.json:
        emit(
            "done",
            model=table.model,
            scale=table.scale,
            sets=[row.as_dict() for row in table.rows],
            foot=table.foot,
            done=report.done,
            failed=len(report.failed),
            exit_status=report.exit_status,
        )
    elif not args.quiet and table.scores:
        print(table.text(args.per_image))
    if report.failed:
        say(f"{report.done} measured, {len(report.failed)} failed")
    return report.exit_status


def _measure(
    args: argparse.Namespace,
    upscaler: Upscaler,
    sets: Sequence[PictureSet],
    name: str,
    report: Report,
) -> Table:
    """Measure all pictures, with a bar or events, counting them in the report."""
    from tqdm import tqdm

    from adapool_sr.evaluation.measure import measure

    total = sum(len(group.paths) for group in sets)
    if args.json:
        names = [group.name for group in sets]
        emit("start", model=name, scale=upscaler.scale, sets=names, pictures=total)
    silent = args.quiet or args.json or not sys.stderr.isatty()
    with tqdm(total=total, unit="picture", disable=silent, leave=False) as bar:

        def on_score(score: Score) -> None:
            report.done += 1
            bar.update()
            if args.json:
                emit("file", **score.as_dict())

        def on_failure(file: str, why: str) -> None:
            report.failed.append((file, why))
            bar.update()
            if args.json:
                emit("error", file=file, message=why)
            with bar.external_write_mode(file=sys.stderr):
                say(f"{PROG}: error: {why}")

        return measure(upscaler, sets, name, on_score, on_failure)
