"""``adapool-sr export``: write a model as safetensors, ONNX or torch.export."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from adapool_sr.cli._common import say
from adapool_sr.files.errors import MissingFileError, OutputExistsError, UsageError
from adapool_sr.files.writing import check_writable

if TYPE_CHECKING:
    from adapool_sr.models.registry import ModelSpec

NAME = "export"
HELP = "Write a model as safetensors, ONNX or torch.export; of a checkpoint its averaged weights."
EXAMPLE = """\
adapool-sr export -n tiny-x2 --format onnx
adapool-sr export -m runs/sr_x2_tiny/best.ckpt -o mine-x2.safetensors --license CC0-1.0
"""

SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch-export": ".pt2"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "-n",
        "--name",
        help="a model that ships; with -m, the name that is written (default: the file's)",
    )
    parser.add_argument(
        "-m",
        "--model-path",
        metavar="FILE",
        type=Path,
        help="checkpoint (.ckpt) that fit wrote, or a weights file, instead of a model that ships",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=Path,
        help="its suffix chooses the format (default: the model's name in this folder)",
    )
    parser.add_argument(
        "-f",
        "--format",
        choices=tuple(SUFFIXES),
        help="of the file (default: by the output's suffix, else safetensors); height and width "
        "stay free in all of them",
    )
    parser.add_argument("--license", help="licence of the weights (default: the model's)")
    parser.add_argument(
        "--dtype",
        choices=("float16", "float32"),
        default="float32",
        help="number format of the weights in safetensors (default: float32; float16 halves it)",
    )
    parser.add_argument(
        "--mix",
        metavar="MODEL=SHARE",
        type=_mix,
        help="write (1 - SHARE) of the weights and SHARE of those of the model that they began "
        "with (a shipped one, .safetensors or .ckpt), which keeps more of what it was good at",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file of that name")


def run(args: argparse.Namespace) -> int:
    """Export.

    Raises:
        UsageError: no model is named, the output's name and the format contradict each other,
            or the output is the input.
        UnknownModelError: no model of that name ships.
        OutputExistsError: the output exists.
    """
    if args.name is None and args.model_path is None:
        raise UsageError("-n", "or -m is required", "see adapool-sr models for the names")
    kind = _format(args)
    if args.dtype != "float32" and kind != "safetensors":
        raise UsageError(f"--dtype {args.dtype}", "is for safetensors", "leave it out")
    spec = _shipped(args)
    output = args.output
    if output is None:
        stem = spec.name if spec is not None else args.name or args.model_path.stem
        output = Path(stem + SUFFIXES[kind])
    source = spec.path if spec is not None else args.model_path
    if source.exists() and output.resolve() == source.resolve():
        raise UsageError(f"-o {output}", "is the input", "give another name")
    if output.exists() and not args.overwrite:
        raise OutputExistsError(str(output), "exists", "give --overwrite to replace it")
    check_writable(output)
    name, parameters = _write(args, spec, kind, output)
    say(f"{output}: {name}, {parameters:,} parameters", quiet=args.quiet)
    return 0


def _mix(text: str) -> tuple[str, float]:
    name, equals, share = text.partition("=")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not (name and equals and 0 < value < 1):
        raise argparse.ArgumentTypeError(
            f"must be a model and a share between 0 and 1, as in tiny-x2=0.1, got '{text}'"
        )
    return name, value


def _format(args: argparse.Namespace) -> str:
    """The format that is asked for, by the flag or the output's name."""
    if args.output is None:
        return args.format or "safetensors"
    by_name = {suffix: name for name, suffix in SUFFIXES.items()}.get(args.output.suffix)
    if args.format is None and by_name is not None:
        return by_name
    if by_name is None or by_name != args.format:
        allowed = [SUFFIXES[args.format]] if args.format else [*SUFFIXES.values()]
        raise UsageError(f"-o {args.output}", f"must end in {' or '.join(allowed)}")
    return by_name


def _shipped(args: argparse.Namespace) -> ModelSpec | None:
    if args.model_path is not None:
        return None
    from adapool_sr.models.registry import find

    return find(args.name)


def _began(source: str, scale: int) -> Path | ModelSpec:
    """The model that ``--mix`` names: a file or a shipped one."""
    from adapool_sr.models.registry import find

    if not source.endswith((".safetensors", ".ckpt")):
        return find(source, scale)
    if not Path(source).exists():
        raise MissingFileError(f"--mix {source}", "no such file", "check the path")
    return Path(source)


def _write(
    args: argparse.Namespace, spec: ModelSpec | None, kind: str, output: Path
) -> tuple[str, int]:
    """Load the model and write it; give its name and number of parameters."""
    import torch

    from adapool_sr.inference import export
    from adapool_sr.models import checkpoint

    model = checkpoint.load(spec or args.model_path)
    if args.mix is not None:
        name, share = args.mix
        model = checkpoint.mixed(model, checkpoint.load(_began(name, model.spec.scale)), share)
    name = model.spec.name if spec is not None else args.name or model.spec.name
    licence = args.license or model.spec.license
    output.parent.mkdir(parents=True, exist_ok=True)
    if kind == "onnx":
        export.export_onnx(output, model, name=name, license=licence)
    elif kind == "torch-export":
        export.export_program(output, model, name=name, license=licence)
    else:
        checkpoint.save(
            output,
            model.network,
            name=name,
            license=licence,
            training=model.spec.training,
            dtype={"float16": torch.float16, "float32": torch.float32}[args.dtype],
        )
    return name, model.spec.parameters
