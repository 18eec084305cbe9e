"""``adapool-sr export``: turn a training checkpoint into a weights file."""

from __future__ import annotations

import argparse
from pathlib import Path

from adapool_sr.cli._common import say
from adapool_sr.files.errors import OutputExistsError, UsageError
from adapool_sr.files.writing import check_writable

NAME = "export"
HELP = "Turn a training checkpoint (its averaged weights) into a weights file."
EXAMPLE = "adapool-sr export -m runs/sr_x2_tiny/best.ckpt -o tiny-x2.safetensors --license CC0-1.0"

SUFFIX = ".safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "-m",
        "--model-path",
        metavar="FILE",
        type=Path,
        required=True,
        help="checkpoint (.ckpt) that fit wrote, or a weights file to write anew",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path, required=True, help=f"NAME{SUFFIX}"
    )
    parser.add_argument("-n", "--name", help="name of the model (default: the checkpoint's)")
    parser.add_argument("--license", help="licence of the weights (default: the checkpoint's)")
    parser.add_argument(
        "--dtype",
        choices=("float16", "float32"),
        default="float32",
        help="number format of the weights (default: float32; float16 halves the file)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file of that name")


def run(args: argparse.Namespace) -> int:
    """Export.

    Raises:
        UsageError: the output is no weights file's name, or the input's own.
        OutputExistsError: the output exists.
    """
    output: Path = args.output
    if output.suffix != SUFFIX:
        raise UsageError(f"-o {output}", f"must end in {SUFFIX}")
    if args.model_path.exists() and output.resolve() == args.model_path.resolve():
        raise UsageError(f"-o {output}", "is the input", "give another name")
    if output.exists() and not args.overwrite:
        raise OutputExistsError(str(output), "exists", "give --overwrite to replace it")
    check_writable(output)

    import torch

    from adapool_sr.models import checkpoint

    model = checkpoint.load(args.model_path)
    output.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(
        output,
        model.network,
        name=args.name or model.spec.name,
        license=args.license or model.spec.license,
        training=model.spec.training,
        dtype={"float16": torch.float16, "float32": torch.float32}[args.dtype],
    )
    say(
        f"{output}: {args.name or model.spec.name}, {model.spec.parameters:,} parameters",
        quiet=args.quiet,
    )
    return 0
