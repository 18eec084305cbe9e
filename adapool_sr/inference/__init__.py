"""Running a model on pictures of any size: tiles, memory, devices, files and folders.

Names are imported on first use, so that planning a run needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "Crop",
    "Report",
    "Size",
    "Stopped",
    "Tile",
    "Upscaler",
    "Verdict",
    "plan_tiles",
    "release_memory",
    "reuse_memory",
]

_HOME = {
    "Crop": "crops",
    "Report": "report",
    "Size": "sizes",
    "Stopped": "upscaler",
    "Tile": "tiles",
    "Upscaler": "upscaler",
    "Verdict": "verifying",
    "plan_tiles": "tiles",
    "release_memory": "memory",
    "reuse_memory": "memory",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
