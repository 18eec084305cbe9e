"""Measuring models: folders of pictures to a table that stands beside the papers'.

Names are imported on first use, so that a command can check its arguments without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapool_sr.evaluation.inputs import Degradation
    from adapool_sr.evaluation.measuring import Candidate, Trial, evaluate, measure
    from adapool_sr.evaluation.montage import Montage
    from adapool_sr.evaluation.papers import Published, published
    from adapool_sr.evaluation.sets import PictureSet, picture_sets
    from adapool_sr.evaluation.table import Row, Score, Table

__all__ = [
    "Candidate",
    "Degradation",
    "Montage",
    "PictureSet",
    "Published",
    "Row",
    "Score",
    "Table",
    "Trial",
    "evaluate",
    "measure",
    "picture_sets",
    "published",
]

_HOME = {
    "Candidate": "measuring",
    "Degradation": "inputs",
    "Montage": "montage",
    "PictureSet": "sets",
    "Published": "papers",
    "Row": "table",
    "Score": "table",
    "Table": "table",
    "Trial": "measuring",
    "evaluate": "measuring",
    "measure": "measuring",
    "picture_sets": "sets",
    "published": "papers",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
