"""Networks, the files that carry their weights, and the register of those that ship.

Only :mod:`adapool_sr.models.registry` is loaded with this package: it works without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adapool_sr.models.registry import ModelSpec, available, find

if TYPE_CHECKING:
    from adapool_sr.models.checkpoint import LoadedModel, load, save
    from adapool_sr.models.sr import AdaPoolSR

__all__ = ["AdaPoolSR", "LoadedModel", "ModelSpec", "available", "find", "load", "save"]


def __getattr__(name: str) -> Any:
    if name == "AdaPoolSR":
        from adapool_sr.models.sr import AdaPoolSR

        return AdaPoolSR
    if name in ("LoadedModel", "load", "save"):
        from adapool_sr.models import checkpoint

        return getattr(checkpoint, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
