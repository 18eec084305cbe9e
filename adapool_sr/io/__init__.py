"""Pictures in and out: files to arrays with everything that travels beside the pixels.

Names are imported on first use, so that listing a folder needs neither torch nor Pillow.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "Metadata",
    "Picture",
    "list_images",
    "natural_key",
    "read",
    "read_rgb8",
    "write",
]

_HOME = {
    "DEFAULT_MAX_PIXELS": "listing",
    "Metadata": "metadata",
    "Picture": "images",
    "list_images": "listing",
    "natural_key": "listing",
    "read": "images",
    "read_rgb8": "images",
    "write": "images",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
