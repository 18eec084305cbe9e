"""``adapool-sr models``: what ships, without loading any of it."""

from __future__ import annotations

import argparse

from adapool_sr.cli._common import add_json_flag, emit

NAME = "models"
HELP = "List the models that ship."
EXAMPLE = "adapool-sr models\nadapool-sr models --json"

__all__ = ["EXAMPLE", "HELP", "NAME", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Print a table, or with ``--json`` one object a model."""
    from adapool_sr.models.registry import available

    models = available()
    if args.json:
        for spec in models:
            emit(
                "model",
                name=spec.name,
                arch=spec.arch,
                scale=spec.scale,
                parameters=spec.parameters,
                license=spec.license,
                path=spec.path,
            )
    elif not args.quiet:
        rows = [("NAME", "SCALE", "PARAMETERS", "LICENCE")]
        rows += [(m.name, f"x{m.scale}", f"{m.parameters:,}", m.license) for m in models]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for name, scale, parameters, licence in rows:
            print(
                f"{name:<{widths[0]}}  {scale:<{widths[1]}}  {parameters:>{widths[2]}}  {licence}"
            )
    return 0
