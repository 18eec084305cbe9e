"""Super-resolution with AdaPool encoders and AdaUnpool decoders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapool_sr.nn.replace import replace_pooling

__version__ = "0.1.0"

__all__ = ["__version__", "replace_pooling"]


def __getattr__(name: str) -> Any:
    """Import torch only for those who ask for what needs it."""
    if name == "replace_pooling":
        from adapool_sr.nn.replace import replace_pooling

        return replace_pooling
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
