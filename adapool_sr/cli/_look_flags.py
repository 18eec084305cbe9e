"""The flags of ``adapool-sr upscale`` for the size and the look of results; imports no torch."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from adapool_sr.cli._common import add_consistent_flag, positive_int
from adapool_sr.files.errors import UsageError
from adapool_sr.inference.crops import Crop
from adapool_sr.inference.look import MOST_STRENGTH
from adapool_sr.inference.sizes import Size

SIDES = ("width", "height", "max_side", "min_side", "fit")


def _box(text: str) -> tuple[int, int]:
    """Parse ``WxH``."""
    width, cross, height = text.partition("x")
    if not (
        cross and width.isascii() and height.isascii() and width.isdigit() and height.isdigit()
    ):
        raise argparse.ArgumentTypeError(f"must be WIDTHxHEIGHT, as in 1920x1080, got {text!r}")
    if min(int(width), int(height)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1x1, got {text!r}")
    return int(width), int(height)


def _crop(text: str) -> Crop:
    """Parse ``x,y,w,h``."""
    numbers = text.split(",")
    if len(numbers) != 4 or not all(n.isascii() and n.isdigit() for n in numbers):
        raise argparse.ArgumentTypeError(f"must be x,y,width,height in pixels, got {text!r}")
    x, y, width, height = map(int, numbers)
    if min(width, height) < 1:
        raise argparse.ArgumentTypeError(f"must hold pixels, got {text!r}")
    return Crop(x, y, width, height)


def _strength(text: str) -> float:
    """Parse 0 to 2."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= MOST_STRENGTH:
        raise argparse.ArgumentTypeError(f"must be 0 to {MOST_STRENGTH:g}, got {text!r}")
    return value


def add_size_flags(parser: argparse.ArgumentParser) -> None:
    """Add the sizes that may stand instead of ``-s``, and ``--skip-larger``."""
    for flag, words in (
        ("--width", "pixels in a row, instead of a factor; the aspect stays with all of these"),
        ("--height", "pixels in a column"),
        ("--max-side", "pixels of the longer side"),
        ("--min-side", "pixels of the shorter side"),
    ):
        parser.add_argument(flag, metavar="N", type=positive_int, help=words)
    parser.add_argument("--fit", metavar="WxH", type=_box, help="the largest size inside a box")
    parser.add_argument(
        "--skip-larger",
        action="store_true",
        help="leave pictures alone that have that size or more (else they are shrunk)",
    )


def add_look_flags(parser: argparse.ArgumentParser) -> None:
    """Add ``--strength``, ``--wrap``, ``--consistent``, ``--crop``, ``--verify``, ``--strict``."""
    parser.add_argument(
        "--strength",
        metavar="S",
        type=_strength,
        default=1.0,
        help="0 (bicubic) to 1 (the network, default) to 2 (more of it)",
    )
    parser.add_argument(
        "--wrap",
        choices=("x", "y", "xy"),
        default="",
        help="for tiling textures: no seam at these borders",
    )
    add_consistent_flag(parser)
    parser.add_argument(
        "--crop",
        metavar="X,Y,W,H",
        type=_crop,
        help="a labelled sheet of a piece of one picture, by bicubic and each model of -n a,b",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="shrink every result, tell its dB against its input, warn if it is off by 4 %%",
    )
    parser.add_argument(
        "--strict", action="store_true", help="with --verify: such a file fails, unwritten"
    )


def size_of(args: argparse.Namespace) -> Size | None:
    """The size that is asked for; None for a factor.

    Raises:
        UsageError: flags that contradict each other.
    """
    given: dict[str, Any] = {name: getattr(args, name) for name in SIDES}
    if all(value is None for value in given.values()):
        if args.skip_larger:
            raise UsageError("--skip-larger", "needs a size", f"one of {', '.join(_flags(SIDES))}")
        return None
    size = Size(**given, skip_larger=args.skip_larger)
    if args.scale is not None:
        named = _flags(name for name in SIDES if given[name] is not None)[0]
        raise UsageError(f"-s and {named}", "stand for two sizes", "leave one out")
    return size


def check_look(args: argparse.Namespace) -> None:
    """Refuse flags that contradict each other.

    Raises:
        UsageError: they do.
    """
    if args.strict and not args.verify:
        raise UsageError("--strict", "says what --verify is to do", "add --verify")
    if args.consistent and args.scale is not None and args.scale <= 1:
        raise UsageError(
            "--consistent", f"has no meaning at -s {args.scale:g}", "use a factor above 1"
        )
    if args.crop is None:
        if args.name is not None and "," in args.name:
            raise UsageError(f"-n {args.name}", "names several models", "--crop compares them")
        return
    if args.input != "-" and Path(args.input).is_dir():
        raise UsageError("--crop", "takes one picture, the input is a folder", "give a picture")
    for flag in ("verify", "skip_larger", "resume"):
        if getattr(args, flag):
            raise UsageError(f"--crop and {_flags([flag])[0]}", "have no meaning together", "")


def _flags(names: Any) -> list[str]:
    return [f"--{name.replace('_', '-')}" for name in names]
