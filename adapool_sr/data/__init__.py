"""Training and validation data: folders of photos to batches of low and high resolution.

Names are imported on first use, so that measuring pictures doesn't load Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adapool_sr.files.extras import require

if TYPE_CHECKING:
    from adapool_sr.data.folders import find_images
    from adapool_sr.data.images import Pair, load_pair, load_pairs
    from adapool_sr.data.modules import SRDataModule
    from adapool_sr.data.pairs import SampleRule

__all__ = ["Pair", "SRDataModule", "SampleRule", "find_images", "load_pair", "load_pairs"]

_HOME = {
    "Pair": "images",
    "SRDataModule": "modules",
    "SampleRule": "pairs",
    "find_images": "folders",
    "load_pair": "images",
    "load_pairs": "images",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "SRDataModule":
        require(__name__, "train", "lightning")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
