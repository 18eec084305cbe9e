"""Which pictures are measured, by name alone; imports no torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapool_sr.files.errors import MissingFileError, UsageError
from adapool_sr.io.listing import list_images

__all__ = ["PictureSet", "picture_sets"]

Folders = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, str | Path]


@dataclass(frozen=True)
class PictureSet:
    """A named set of high-resolution pictures.

    Attributes:
        name: what the table calls it.
        folder: where it lies.
        paths: its pictures, in natural order; at least one.
    """

    name: str
    folder: Path
    paths: tuple[Path, ...]


def picture_sets(folders: Folders) -> list[PictureSet]:
    """List folders of pictures.

    Args:
        folders: a folder, several, or names to folders. A text ``NAME=DIR`` names its folder,
            unless it is one itself; else the folder's own name is taken.

    Raises:
        MissingFileError: a folder does not exist or holds no pictures.
        UsageError: no folder, two of one name, or a file.
    """
    if isinstance(folders, Mapping):
        named = [(name, Path(folder)) for name, folder in folders.items()]
    elif isinstance(folders, str | os.PathLike):
        named = [_named(folders)]
    else:
        named = [_named(folder) for folder in folders]
    if not named:
        raise UsageError("data", "names no folder", "give at least one folder of pictures")
    sets: list[PictureSet] = []
    for name, folder in named:
        if any(name == other.name for other in sets):
            raise UsageError(
                str(folder), f"is a second set named '{name}'", f"name it: NAME={folder}"
            )
        paths = list_images(folder)
        if not paths:
            raise MissingFileError(
                str(folder), "holds no pictures", "give a folder of png, jpg, webp … files"
            )
        sets.append(PictureSet(name, folder, tuple(paths)))
    return sets


def _named(folder: str | os.PathLike[str]) -> tuple[str, Path]:
    text = os.fspath(folder)
    name, equals, rest = text.partition("=")
    if isinstance(folder, str) and equals and name and rest and not Path(text).exists():
        return name, Path(rest)
    return Path(text).resolve().name or text, Path(text)
