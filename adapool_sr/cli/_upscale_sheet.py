"""``adapool-sr upscale --crop``: a piece of a picture by several models, on one sheet."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from adapool_sr.cli._common import emit, say
from adapool_sr.files.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adapool_sr.inference.planning import Job
    from adapool_sr.inference.sizes import Size
    from adapool_sr.io.decoding import Header
    from adapool_sr.models.registry import ModelSpec


def find_models(args: argparse.Namespace, size: Size | None) -> list[ModelSpec]:
    """The shipped models of ``-n a,b,c``; none where a file is given.

    Raises:
        UsageError: an empty or unknown name.
    """
    from adapool_sr.io.decoding import JPEG
    from adapool_sr.models.registry import find, find_photo

    if args.model_path is not None:
        return []
    names = args.name.split(",") if args.name is not None else [None]
    if "" in names:
        raise UsageError(f"-n {args.name}", "has an empty name", "separate names by one comma")
    factor = args.scale
    if size is not None:
        if args.input == "-":
            raise UsageError("--crop with a size", "needs a file", "give one, or -s")
        header = _header(args)
        factor = float(size.factor(header.height, header.width))
    found = [find(name, factor) for name in names]
    if args.name is None and args.input != "-" and _header(args).format in JPEG:
        found = [find_photo(factor) or found[0]]
    return list({spec.name: spec for spec in found}.values())


def check_piece(args: argparse.Namespace, job: Job) -> None:
    """Refuse a piece that is not in the picture; only its header is read.

    Raises:
        UsageError: it isn't.
        AdaPoolError: the picture cannot be read.
    """
    from adapool_sr.io.decoding import probe

    width, height, *_ = probe(job.source, args.max_pixels)
    try:
        args.crop.check(height, width)
    except UsageError as error:
        raise UsageError(f"--{error.what}", error.why, error.remedy) from error


def _header(args: argparse.Namespace) -> Header:
    from adapool_sr.io.decoding import probe

    return probe(args.input, args.max_pixels)


def make_sheet(
    args: argparse.Namespace, job: Job, specs: Sequence[ModelSpec], options: dict[str, Any]
) -> int:
    """Run the models on the piece and write the sheet.

    Args:
        args: the command's.
        job: the picture and the sheet's place.
        specs: the models; none for ``--model-path``.
        options: of each Upscaler, without scale and size.

    Returns:
        0.
    """
    from adapool_sr.files.writing import make_folder, write_whole
    from adapool_sr.inference.backends import load
    from adapool_sr.inference.sheets import pieces, sheet
    from adapool_sr.inference.upscaler import Upscaler
    from adapool_sr.io.images import read, to_bytes

    models = [load(spec) for spec in specs] or [load(args.model_path)]
    scale = args.scale
    if scale is None and options.get("size") is None:
        scale = max(model.spec.scale for model in models)
    upscalers = [(m.spec.name, Upscaler(m, scale=scale, **options)) for m in models]
    picture = read(job.source, args.max_pixels)
    panels = pieces(picture, args.crop, upscalers)
    content, _ = to_bytes(sheet(panels), job.kind, args.quality)
    if job.target is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        make_folder(job.target.parent)
        write_whole(job.target, content)
    height, width = panels[0][1].shape[1:]
    labels = [label for label, _ in panels]
    if args.json:
        stream = sys.stderr if args.output == "-" else sys.stdout
        emit(
            "done",
            stream=stream,
            output=job.target or "-",
            pieces=labels,
            width=width,
            height=height,
            exit_status=0,
        )
    say(
        f"{job.target or 'standard output'}: {', '.join(labels)}, {width}x{height} each",
        quiet=args.quiet,
    )
    return 0
