"""The ``adapool-sr`` command: picks the command's module, words errors, gives the exit status."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from itertools import pairwise
from types import ModuleType
from typing import TextIO

from adapool_sr import __version__
from adapool_sr.cli._common import PROG, Parser, emit, hyphenate
from adapool_sr.files.errors import AdaPoolError, UsageError

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "upscale": "make pictures larger",
    "fit": "train a model",
    "evaluate": "measure a model on folders of high-resolution pictures, against bicubic",
    "export": "write a model as safetensors, ONNX or torch.export",
    "prepare": "check a data set's folder, get free pictures, or preview training samples",
    "models": "list the models that ship",
    "app": "open a page in the browser that makes pictures larger",
    "info": "say versions, devices, and which kernels run and why",
}
"""Every command with its one line of help; the modules are not imported to print it."""

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``adapool-sr``; ``sys.argv[1:]`` by default.

    Returns:
        Exit status: 0 all done; 1 failed; 2 wrong usage; 3 some files of a folder failed;
        130 interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # a file name may hold what the terminal can't show
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    shown = warnings.showwarning
    warnings.showwarning = partial(_show_warning, words)
    told = _tell_what_takes_time(words)
    try:
        status = _dispatch(words)
        sys.stdout.flush()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        # The reader left (as `| head` does). Nobody is there to be told; and the flush at the
        # interpreter's end must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:
        status = _report(error, words)
    finally:
        warnings.showwarning = shown
        logging.getLogger("adapool_sr").removeHandler(told)
    return status


def _dispatch(words: list[str]) -> int:
    first = words[0] if words else ""
    if first in ("-h", "--help"):
        print(_top_help(), end="")
        return 0
    if first == "--version":
        print(f"{PROG} {__version__}")
        return 0
    if first not in COMMANDS:
        raise _unknown_command(first)
    module = import_module(f"adapool_sr.cli.{first}")
    parser = _parser(module)
    if getattr(module, "PASSES_UNKNOWN", False):
        args, extra = parser.parse_known_args(words[1:])
        args.extra = extra
    else:
        args = parser.parse_args(hyphenate(words[1:]))
    return int(module.run(args))


def _parser(module: ModuleType) -> Parser:
    """The parser of a command's module, with the flags that every command has."""
    parser = Parser(f"{PROG} {module.NAME}", module.HELP, getattr(module, "EXAMPLE", ""))
    module.add_arguments(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing on success")
    parser.add_argument("--debug", action="store_true", help="the traceback with an error")
    return parser


def _top_help() -> str:
    width = max(map(len, COMMANDS))
    table = "".join(f"  {name:<{width}}  {line}\n" for name, line in COMMANDS.items())
    return (
        f"usage: {PROG} COMMAND [flags]\n\n"
        "Super-resolution with AdaPool encoders and AdaUnpool decoders.\n\n"
        f"commands:\n{table}\n"
        f"{PROG} COMMAND --help says more; {PROG} --version the version.\n\n"
        f"example:\n  {PROG} upscale -i photo.jpg -o large.png -s 2\n"
    )


def _unknown_command(word: str) -> UsageError:
    if not word:
        return UsageError("COMMAND", "is required", f"one of: {', '.join(COMMANDS)}")
    import difflib

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"one of: {', '.join(COMMANDS)}"
    return UsageError(word, "is no command", remedy)


def _report(error: Exception, words: list[str]) -> int:
    """Print an error as one line (and its traceback with ``--debug``); give the exit status."""
    if "--debug" in words:
        traceback.print_exception(error)
    if isinstance(error, AdaPoolError):
        text, status = str(error), error.exit_status
    elif isinstance(error, OSError) and error.filename is not None:
        text, status = f"{error.filename}: {error.strerror or error}", 1
    else:
        kind = type(error).__name__
        text = f"{kind}: {error}; --debug shows where"
        status = 1
    line = " ".join(text.split())
    print(f"{PROG}: error: {line}", file=sys.stderr)
    if "--json" in words:
        emit("error", stream=_event_stream(words), message=line, status=status)
    return status


def _event_stream(words: list[str]) -> TextIO:
    """Standard output, unless the result itself goes there (``-o -``)."""
    result = {("-o", "-"), ("--output", "-")} & set(pairwise(words))
    return sys.stderr if result or "--output=-" in words or "-o-" in words else sys.stdout


def _tell_what_takes_time(words: list[str]) -> logging.Handler:
    """Say what the package does that a person would wait for and wonder: building the kernels."""
    handler: logging.Handler = logging.NullHandler()
    if not {"-q", "--quiet"} & set(words):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(f"{PROG}: %(message)s"))
    logger = logging.getLogger("adapool_sr")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    return handler


def _show_warning(words: list[str], message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line, without the place in the source that Python adds."""
    text = " ".join(str(message).split())
    if not {"-q", "--quiet"} & set(words):
        print(f"{PROG}: warning: {text}", file=sys.stderr)
    if "--json" in words:
        emit("warning", stream=_event_stream(words), message=text)
