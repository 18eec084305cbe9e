"""Figures of other networks as their authors published them; imports no torch.

They stand in ``published.json``, each row with its sources.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["Published", "pictures_of", "published", "standard_name"]

_FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Published:
    """What a paper says of its network at one scale.

    Attributes:
        name: of the network.
        parameters: how many it has at this scale; None where no source says.
        training: the pictures it was trained on; "" where no source says.
        paper: where it was published.
        sources: where the figures were read, with addresses.
        scores: standard set names to (Y-PSNR in dB, Y-SSIM).
    """

    name: str
    parameters: int | None
    training: str
    paper: str
    sources: tuple[str, ...]
    scores: Mapping[str, tuple[float, float]]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        scores = {name: {"psnr": psnr, "ssim": ssim} for name, (psnr, ssim) in self.scores.items()}
        return {**vars(self), "sources": list(self.sources), "scores": scores}


def published(sets: Sequence[str], scale: int) -> list[Published]:
    """The rows that have a figure for one of the sets at a scale, the smallest networks first.

    Args:
        sets: standard names, as :func:`standard_name` gives them.
        scale: a whole number; there are figures for 2, 3 and 4.
    """
    rows = []
    document = _document()
    for method in document["methods"]:
        scores = method["scores"].get(str(scale), {})
        wanted = {name: (psnr, ssim) for name, (psnr, ssim) in scores.items() if name in sets}
        if wanted:
            sources = [document["sources"][key] for key in method["sources"]]
            rows.append(
                Published(
                    method["name"],
                    method["parameters"].get(str(scale)),
                    method["training"],
                    method["paper"],
                    tuple(f"{source['text']}: {source['url']}" for source in sources),
                    wanted,
                )
            )
    return sorted(rows, key=lambda row: row.parameters or 0)


def standard_name(name: str) -> str | None:
    """The name under which papers report a set: "bsd-100" is "B100"; None for another set."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    for standard, facts in _document()["sets"].items():
        if plain in facts["names"]:
            return str(standard)
    return None


def pictures_of(standard: str) -> int:
    """How many pictures the set of a standard name has."""
    return int(_document()["sets"][standard]["pictures"])


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(_FILE.read_text(encoding="utf-8"))
    return document
