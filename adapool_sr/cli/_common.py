"""What the commands share: flags, the parser that words usage errors, JSON events."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

from adapool_sr.files.errors import UsageError
from adapool_sr.io.listing import DEFAULT_MAX_PIXELS

PROG = "adapool-sr"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line: WHAT: WHY; REMEDY.

    Flags are never abbreviated: an abbreviation breaks when a flag is added.
    """

    def __init__(self, prog: str, description: str, example: str = "") -> None:
        lines = "".join(f"  {line}\n" for line in example.strip().splitlines())
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"example:\n{lines}" if lines else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise the usage error that argparse found, in this project's wording."""
        see = f"see {self.prog} --help"
        required = "the following arguments are required: "
        unknown = "unrecognized arguments: "
        if message.startswith(required):
            what = message.removeprefix(required)
            raise UsageError(what, "are required" if ", " in what else "is required", see)
        if message.startswith(unknown):
            words = message.removeprefix(unknown)
            flag = words.split()[0].split("=")[0]
            if not flag.startswith("-") and "--input" in self._option_string_actions:
                # What a shell makes of a pattern.
                remedy = "a pattern is quoted, as in -i 'photos/*.jpg'"
                raise UsageError(flag, "stands without a flag", remedy)
            raise UsageError(flag, "is not known here", self._nearest(flag) or see)
        what, colon, why = message.removeprefix("argument ").partition(": ")
        if not colon:
            what, why = self.prog, message
        raise UsageError(what, why, see)

    def _nearest(self, flag: str) -> str:
        """The flag that was probably meant, as a question; empty where none is near."""
        import difflib

        known = [name for name in self._option_string_actions if name.startswith("--")]
        near = difflib.get_close_matches(flag, known, n=1)
        return f"did you mean {near[0]}?" if near else ""


def positive_number(text: str) -> float:
    """Parse a number above zero, for argparse's ``type=``."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def positive_int(text: str) -> int:
    """Parse a whole number of at least 1, for argparse's ``type=``."""
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def quality(text: str) -> int:
    """Parse 1 to 100, for argparse's ``type=``."""
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError(f"must be 1 to 100, got {text!r}")
    return int(text)


def tile_size(text: str) -> str | int:
    """Parse ``auto`` or a number of pixels, for argparse's ``type=``; 0 means no tiles."""
    if text == "auto":
        return text
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"must be auto, 0 (no tiles) or pixels, got {text!r}")
    return int(text)


def thread_count(text: str) -> int:
    """Parse ``auto`` or a number of threads, for argparse's ``type=``; gives the number."""
    return available_cpus() if text == "auto" else positive_int(text)


def add_model_flags(
    parser: argparse.ArgumentParser, *, scale: bool = True, several: bool = False
) -> None:
    """Add ``-n``, ``--model-path`` and, unless told otherwise, ``-s``.

    Args:
        parser: to add them to.
        scale: whether there is ``-s``.
        several: whether both may be repeated and stand together; they are lists then, or None.
    """
    name = "model by name, as 'adapool-sr models' lists them"
    if not several:
        name += " (default: tiny; tiny-photo for JPEG files)"
    path = "a file instead of a name: .safetensors, .ckpt, .onnx, or a community model's .pth"
    flags = [("-n", "--name", "NAME", str, name), ("", "--model-path", "FILE", Path, path)]
    which = parser if several else parser.add_mutually_exclusive_group()
    for short, long, metavar, kind, words in flags:
        which.add_argument(
            *filter(None, (short, long)),
            metavar=metavar,
            type=kind,
            action="append" if several else "store",
            help=f"{words}; several: repeated" + (" or a,b" if short else "") if several else words,
        )
    if scale:
        parser.add_argument(
            "-s",
            "--scale",
            metavar="S",
            type=positive_number,
            help="enlargement factor (default: the model's)",
        )


def add_device_flags(parser: argparse.ArgumentParser, *, tile: bool = True) -> None:
    """Add ``-d``, ``--precision``, ``--threads`` and, unless told otherwise, ``-t``."""
    if tile:
        parser.add_argument(
            "-t",
            "--tile",
            metavar="T",
            type=tile_size,
            default="auto",
            help="auto (default), 0 for none, or pixels of a tile's side in the input",
        )
    parser.add_argument(
        "-d",
        "--device",
        metavar="DEVICE",
        default="auto",
        help="auto (default), cpu, cuda, cuda:N or any other torch device",
    )
    parser.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="number format of the computation (default: auto, what the device is fast at)",
    )
    parser.add_argument(
        "--threads",
        metavar="N",
        type=thread_count,
        default="auto",
        help="threads of torch; auto (default) is what this process may use",
    )


def add_ensemble_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--self-ensemble``."""
    parser.add_argument(
        "--self-ensemble",
        action="store_true",
        help="mean over the eight flips and turns: a little better, eight times the work",
    )


def add_consistent_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--consistent``."""
    parser.add_argument(
        "--consistent",
        action="store_true",
        help="the least change that makes the shrunk result equal the input",
    )


def add_max_pixels_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--max-pixels``, the guard against decompression bombs."""
    parser.add_argument(
        "--max-pixels",
        metavar="N",
        type=positive_int,
        default=DEFAULT_MAX_PIXELS,
        help="refuse an input with more pixels undecoded (default: 1,000,000,000)",
    )


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line on standard output"
    )


def emit(event: str, *, stream: TextIO | None = None, **fields: Any) -> None:
    """Print one JSON event (``start``, ``progress``, ``file``, ``warning``, ``error``, ``done``).

    Args:
        event: the kind of event; becomes the key ``event``.
        stream: where to print; standard output by default.
        fields: plain values; a Path is written as its text.
    """
    stream = stream if stream is not None else sys.stdout
    print(json.dumps({"event": event, **fields}, default=str), file=stream, flush=True)


def say(text: str, *, quiet: bool = False) -> None:
    """Print words for a person: to standard error, unless ``quiet``."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def prepare_torch(threads: int) -> None:
    """Import torch; set its threads, and let this process keep memory for its next tensors."""
    import torch

    from adapool_sr.inference.memory import reuse_memory

    reuse_memory()
    torch.set_num_threads(threads)


def available_cpus() -> int:
    """Number of processors this process may use: the smaller of affinity and cgroup quota.

    torch counts the host's processors and ignores the quota of a container.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(affinity or 1, _cgroup_quota() or (affinity or 1)))


def _cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Whole processors the cgroup allows (v2, then v1), rounded up; None without a limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        return math.ceil(int(quota) / int(period)) if int(quota) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max" or a file we don't understand: no limit
        return None


def hyphenate(arguments: Sequence[str]) -> list[str]:
    """Turn the underscores of long flags into hyphens: ``--model_path=a_b`` → ``--model-path=a_b``.

    Values, short flags and what follows ``--`` stay as they are.
    """
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    for index, word in enumerate(words[:end]):
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            words[index] = flag.replace("_", "-") + equals + value
    return words
