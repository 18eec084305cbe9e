#!/usr/bin/env python3
"""Measure every shipped model on the evaluation sets, as README's tables show it.

    ADAPOOL_DATA=sets python benchmarks/quality.py

Takes the folders Set5, Set14, B100, Urban100 and Manga109 that lie in ADAPOOL_DATA or in its folder
``eval``, prints the tables in Markdown, and writes them to runs/quality.md and with all figures to
runs/quality.json. In float32 unless told otherwise, so that every machine gives the same figures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from adapool_sr.cli._common import available_cpus
from adapool_sr.evaluation import Degradation, Table, evaluate
from adapool_sr.files.errors import AdaPoolError, MissingFileError
from adapool_sr.files.writing import make_folder, write_whole
from adapool_sr.models import registry

ROOT = Path(__file__).resolve().parents[1]
SETS = ("Set5", "Set14", "B100", "Urban100", "Manga109")
QUALITIES = (30, 50, 75, 95)


@dataclass(frozen=True)
class Section:
    """A heading, its table in Markdown, and the measured tables behind it."""

    heading: str
    markdown: str
    tables: Sequence[Table]

    def as_dict(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return {
            "heading": self.heading,
            "tables": [
                {
                    "scale": table.scale,
                    "foot": table.foot,
                    "notes": list(table.notes),
                    "failed": [list(each) for each in table.failed],
                    "sets": [row.as_dict() for row in table.rows],
                    "pictures": [score.as_dict() for score in table.scores],
                    "published": [row.as_dict() for row in table.published],
                }
                for table in self.tables
            ],
        }


def find_sets(root: Path) -> dict[str, Path]:
    """The evaluation sets that lie in a folder or in its ``eval``."""
    places = [place for place in (root / "eval", root) if place.is_dir()]
    found = {name: place / name for name in SETS for place in places if (place / name).is_dir()}
    if not found:
        raise MissingFileError(
            str(root), f"holds none of {', '.join(SETS)}", "see datasets/README.md"
        )
    return found


def models_for(scale: int) -> list[str]:
    """The shipped models of a scale; for x3, which none has, those that reach it."""
    wanted = 4 if scale == 3 else scale
    return [model.name for model in registry.available() if model.scale == wanted]


def sections(sets: dict[str, Path], **options: Any) -> Iterator[Section]:
    """Measure, a table after the other."""
    scales = sorted({model.scale for model in registry.available()})
    if 4 in scales and 3 not in scales:
        scales = sorted([*scales, 3])
    for scale in scales:
        names = models_for(scale)
        if scale > 1:
            table = evaluate(names, sets, scale, **options)
            how = "; x4 and the exact resize" if scale == 3 else ""
            yield Section(f"x{scale}, Y-PSNR in dB / Y-SSIM{how}", table.markdown(), [table])
        name = "Set14" if scale > 1 else "Set5"
        if name in sets and scale != 3:
            yield on_jpeg(names, name, sets[name], scale, **options)


def on_jpeg(names: Sequence[str], set_name: str, folder: Path, scale: int, **o: Any) -> Section:
    """One set whose inputs are saved as JPEG: a row for each quality, Y-PSNR."""
    tables = [
        evaluate(names, {set_name: folder}, scale, degradation=Degradation(jpeg=quality), **o)
        for quality in QUALITIES
    ]
    lines = [["JPEG", tables[0].baseline, *tables[0].models]]
    lines.append(["---"] * len(lines[0]))
    for quality, table in zip(QUALITIES, tables, strict=True):
        psnr = [table.rows[0].bicubic_psnr, *(row.psnr for row in table.rows)]
        lines.append([f"q{quality}", *(f"{each:.2f}" for each in psnr)])
    what = f"{set_name} made small and saved as JPEG" if scale > 1 else f"{set_name} as JPEG"
    body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return Section(f"{what}, x{scale}, Y-PSNR in dB", body, tables)


def main() -> int:
    """Print and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("ADAPOOL_DATA")
    folder = Path(data) if data else None
    parser.add_argument("--data", type=Path, default=folder, help="default: ADAPOOL_DATA")
    parser.add_argument("--precision", default="fp32", help="default: fp32")
    parser.add_argument("--self-ensemble", action="store_true", help="mean over eight turns")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "runs", help="default: runs")
    args = parser.parse_args()
    torch.set_num_threads(available_cpus())
    try:
        if args.data is None:
            raise MissingFileError("ADAPOOL_DATA", "is not set", "name the folder of the sets")
        options = {"precision": args.precision, "self_ensemble": args.self_ensemble}
        done = []
        for section in sections(find_sets(args.data), **options):
            done.append(section)
            print(f"{section.heading}\n\n{section.markdown}\n", flush=True)
        make_folder(args.output)
        text = "\n".join(f"{each.heading}\n\n{each.markdown}\n" for each in done)
        figures = json.dumps([each.as_dict() for each in done], indent=1)
        write_whole(args.output / "quality.md", text.encode())
        write_whole(args.output / "quality.json", figures.encode())
    except AdaPoolError as error:
        print(f"quality.py: error: {error}", file=sys.stderr)
        return error.exit_status
    failed = [file for each in done for table in each.tables for file, _ in table.failed]
    for file in failed:
        print(f"quality.py: could not be measured: {file}", file=sys.stderr)
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
