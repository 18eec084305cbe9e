"""Asks for optional dependencies before they are imported."""

from __future__ import annotations

from importlib.util import find_spec

from adapool_sr.files.errors import MissingExtraError

__all__ = ["require"]


def require(what: str, extra: str, *modules: str) -> None:
    """Check that the modules of an extra are installed, importing none of them.

    Args:
        what: the command or module that needs them, for the message.
        extra: the extra that brings them.
        modules: top-level names.

    Raises:
        MissingExtraError: one of them is not there; one sentence with the pip command.

    Example:
        >>> require("adapool-sr fit", "train", "json")
    """
    if any(find_spec(module) is None for module in modules):
        raise MissingExtraError(what, extra)
