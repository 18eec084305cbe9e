"""Which files are trained on: folders, named sets, and the low resolutions that belong to them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from adapool_sr.data.images import matches, size_of
from adapool_sr.data.layouts import (
    Split,
    TrainingSet,
    evaluation_pictures,
    has_part,
    low_folder,
    named_root,
    photos_of,
)
from adapool_sr.files.errors import ConfigError, MissingFileError
from adapool_sr.io.listing import list_images

__all__ = [
    "Roots",
    "find_images",
    "find_lr",
    "label_of",
    "official_validation",
    "refuse_evaluation_pictures",
]

Roots = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def _several(roots: Roots) -> list[str | os.PathLike[str]]:
    return [roots] if isinstance(roots, str | os.PathLike) else list(roots)


def _part(entry: TrainingSet, validation: bool) -> Split:
    return entry.val if validation and entry.val is not None else entry.train


def find_images(
    roots: Roots, holdout: Sequence[str] = (), validation: bool = False
) -> tuple[list[Path], int]:
    """List the pictures of one or several folders, sub-folders included, each file once.

    Args:
        roots: a folder or several; ``NAME=DIR`` takes the official part of a known set.
        holdout: shell patterns of file names (or whole paths) to leave out.
        validation: take the part that validates, of sets that have one.

    Returns:
        The files, folder after folder in natural order, and how many were left out.

    Raises:
        MissingFileError: a folder does not exist or holds no pictures, or a set is incomplete.
        UsageError: a root is a file, or a set's name is not known.
        ConfigError: no root was given, or the patterns leave nothing.
    """
    folders = _several(roots)
    if not folders:
        raise ConfigError("data.root", "is an empty list", "name at least one folder of photos")
    found: dict[Path, Path] = {}
    for root in folders:
        named = named_root(root)
        if named:
            inside = photos_of(*named, _part(named[0], validation))
        else:
            inside = list_images(root if isinstance(root, str) else Path(root))
        if not inside:
            raise MissingFileError(
                str(root), "holds no pictures", "give a folder of png, jpg, webp … files"
            )
        for path in inside:
            found.setdefault(path.resolve(), path)
    kept = [path for path in found.values() if not matches(path, holdout)]
    if not kept:
        names = ", ".join(map(str, folders))
        raise ConfigError(
            "data.holdout", f"leaves out all {len(found)} pictures of {names}", "name fewer"
        )
    return kept, len(found) - len(kept)


def official_validation(roots: Roots) -> list[str | os.PathLike[str]]:
    """Those of the roots that are sets with a validation part of their own that is there."""
    chosen = []
    for root in _several(roots):
        named = named_root(root)
        if named and named[0].val is not None and has_part(named[1], named[0].val):
            chosen.append(root)
    return chosen


def find_lr(
    paths: Sequence[Path], roots: Roots, lr_roots: Roots, scale: int, validation: bool = False
) -> list[Path]:
    """The low resolution of each picture: the file with its path and stem under the LR root.

    ``DIR/a/0001.png`` belongs to ``LR/a/0001.png``, ``0001x2.png`` or ``0001_x2.png`` (any
    suffix), and ``…_HR.png`` to ``…_LR.png``.

    Args:
        paths: pictures of ``roots``.
        roots: as :func:`find_images` had them.
        lr_roots: as many, in the same order; ``NAME=DIR`` takes the published LR of a set.
        scale: the factor.
        validation: as :func:`find_images` had it.

    Raises:
        ConfigError: not as many folders.
        MissingFileError: a folder or a picture is not there.
    """
    highs, lows = _several(roots), _several(lr_roots)
    if len(highs) != len(lows):
        raise ConfigError(
            "data.lr_root", f"names {len(lows)} folders for {len(highs)} of HR", "name one for each"
        )
    known: list[tuple[Path, Path, dict[str, Path]]] = []
    for high, low in zip(highs, lows, strict=True):
        base, folder = Path(high), Path(low)
        if named := named_root(high):
            base = named[1]
        if (there := named_root(low)) is not None:
            folder = low_folder(*there, _part(there[0], validation), scale)
        stems = {
            path.relative_to(folder).with_suffix("").as_posix(): path
            for path in list_images(folder)
        }
        known.append((base, folder, stems))
    return [_lr_of(path, known, scale) for path in paths]


def _lr_of(path: Path, known: Sequence[tuple[Path, Path, dict[str, Path]]], scale: int) -> Path:
    looked = []
    for base, folder, stems in known:
        if not path.is_relative_to(base):
            continue
        relative = path.relative_to(base).with_suffix("")
        # A named set's HR lies in folders that its LR does not have: the name alone, then.
        for stem in dict.fromkeys((relative.as_posix(), relative.name)):
            low = re.sub(r"_HR$", "_LR", stem)
            for name in (stem, f"{stem}x{scale}", f"{stem}_x{scale}", low):
                if name in stems and stems[name].resolve() != path.resolve():
                    return stems[name]
        looked.append(str(folder / relative))
    where = looked[0] if looked else "data.lr_root"
    raise MissingFileError(
        str(path), f"has no low resolution {where}.*, nor one ending in x{scale}", "add it"
    )


def label_of(path: Path, roots: Roots) -> str:
    """The name of the set among the roots that a picture belongs to; empty for plain folders."""
    for root in _several(roots):
        named = named_root(root)
        if named and path.is_relative_to(named[1]):
            return named[0].name
    return ""


def refuse_evaluation_pictures(paths: Sequence[Path]) -> None:
    """Refuse to train on pictures that the field measures on.

    Raises:
        ConfigError: some of the files are B100's.
    """
    found = evaluation_pictures(paths, size_of)
    if found:
        names = ", ".join(path.name for path in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise ConfigError(
            "data.root",
            f"{found[0].parent} holds pictures of B100 ({names}{more}), which only measure",
            "take them out, or name them in data.holdout",
        )
