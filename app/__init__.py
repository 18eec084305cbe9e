"""The page: a picture in, before and after under a slider, the file out (Gradio 6).

It stands at the top of the repository and is imported as ``adapool_sr.app``. Importing it
loads neither Gradio nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["Options", "serve"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.server"), name)
