"""What a checkpoint tells of its own making: data, code. No path of the machine is among it."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import adapool_sr
from adapool_sr.data.layouts import set_label

__all__ = ["describe_data", "source_version"]


def describe_data(data: Any) -> dict[str, Any]:
    """Names of the data's folders, and how many photos they gave.

    Args:
        data: a Lightning data module, or None.
    """
    record: dict[str, Any] = {"data": _folder_names(getattr(data, "root", None))}
    for key, attribute in (("photos", "training_names"), ("photos_val", "validation_names")):
        names = getattr(data, attribute, None)
        if names is not None:
            record[key] = len(names)
    if getattr(data, "shrinks", None):
        record["shrinks"] = list(data.shrinks)
    if getattr(data, "lr_root", None):
        record["lr"] = _folder_names(data.lr_root)
    if getattr(data, "degradation", "bicubic") != "bicubic":
        record["degradation"] = data.degradation
    for key in ("holdout", "weights"):
        patterns = getattr(data, key, None)
        if patterns:  # patterns of file names; one with a folder in it loses the folder
            plain = (
                {Path(name).name: patterns[name] for name in patterns}
                if isinstance(patterns, dict)
                else [Path(name).name for name in patterns]
            )
            record[key] = plain
    return record


def _folder_names(roots: Any) -> list[str]:
    if roots is None:
        return []
    several = [roots] if isinstance(roots, str | Path) else list(roots)
    return [set_label(root) for root in several]


@cache
def source_version() -> str:
    """Commit of the checkout that runs, with ``+`` where it was changed; else the version."""
    version = f"adapool-sr {adapool_sr.__version__}"
    top = Path(adapool_sr.__file__).resolve().parents[1]
    if not (top / ".git").exists():
        return version
    commit = _git(top, "rev-parse", "--short=12", "HEAD")
    if not commit:
        return version
    changed = _git(top, "status", "--porcelain", "--untracked-files=no")
    return commit + ("+" if changed else "")


def _git(top: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(top), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
