"""``adapool-sr app``: the page, in a browser on this machine."""

from __future__ import annotations

import argparse
from importlib import import_module

from adapool_sr.cli._common import (
    add_device_flags,
    add_json_flag,
    add_max_pixels_flag,
    add_model_flags,
    emit,
    prepare_torch,
    say,
)
from adapool_sr.files.errors import MissingFileError
from adapool_sr.files.extras import require

NAME = "app"
HELP = "open a page in the browser that makes pictures larger"
EXAMPLE = """\
adapool-sr app --open
adapool-sr app --port 8000 -n tiny-x2
"""

__all__ = ["EXAMPLE", "HELP", "NAME", "add_arguments", "run"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "--host",
        metavar="HOST",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, which this machine alone can reach)",
    )
    parser.add_argument(
        "--port",
        metavar="PORT",
        type=_port,
        default=7860,
        help="port to listen on, a free one if it is taken (default: 7860)",
    )
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    add_model_flags(parser)
    add_device_flags(parser)
    add_max_pixels_flag(parser)
    add_json_flag(parser)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"must be 0 (any free one) to 65535, got {text!r}")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; its address goes to standard output.

    Raises:
        MissingExtraError: Gradio is not installed.
        AdaPoolError: a model that cannot be loaded, or an address that cannot be used.
    """
    require("app", "app", "gradio")
    model = args.model_path
    if model is not None and not model.is_file():
        raise MissingFileError(f"--model-path {model}", "no such file", "check the path")
    if model is None and args.name is not None:
        from adapool_sr.models.registry import find

        model = find(args.name, args.scale).name

    def ready(url: str, wanted: bool) -> None:
        if not wanted:
            say(f"port {args.port} is taken, this one is free", quiet=args.quiet)
        if args.host not in _LOOPBACK:
            say(f"whoever reaches {args.host} can use this page", quiet=args.quiet)
        if args.json:
            emit("start", url=url)
        elif not args.quiet:
            print(url, flush=True)
        say("Ctrl-C ends it", quiet=args.quiet)
        if args.open:
            import threading
            import webbrowser

            # In a thread: a browser of the terminal would hold the server up.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    prepare_torch(args.threads)
    app = import_module("adapool_sr.app")
    work = import_module("adapool_sr.app.work")
    device = work.Device(args.device, args.precision, args.tile, args.threads, args.max_pixels)
    app.serve(app.Options(args.host, args.port, model, args.scale, device), ready)
    return 0
