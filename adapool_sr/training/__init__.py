"""Training: the Lightning module, its callbacks, and ``adapool-sr fit``.

Names are imported on first use; Lightning comes with the extra ``train``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from adapool_sr.files.extras import require

__all__ = ["EMA", "Checkpoints", "GracefulStop", "Progress", "SRModule", "SampleImages"]

_HOME = {
    "Checkpoints": "checkpoints",
    "EMA": "ema",
    "GracefulStop": "checkpoints",
    "Progress": "progress",
    "SRModule": "sr",
    "SampleImages": "samples",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require(__name__, "train", "lightning")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
