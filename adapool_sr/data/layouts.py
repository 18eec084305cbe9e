"""How the field's data sets lie on disk, and which of their pictures train.

By names alone: neither torch nor NumPy is imported. ``data.root`` and ``data.val`` may say
``NAME=DIR`` with a name of :data:`TRAINING_SETS`; then the official split is taken.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapool_sr.files.errors import MissingFileError, UsageError
from adapool_sr.io.listing import list_images

__all__ = [
    "B100",
    "TRAINING_SETS",
    "Split",
    "TrainingSet",
    "bsds_number",
    "evaluation_pictures",
    "has_part",
    "low_folder",
    "named_root",
    "photos_of",
    "set_label",
]

#: The 100 pictures of B100: BSDS500's val, BSDS300's test. The field measures on them.
# fmt: off
B100 = frozenset(map(str, (
    101085, 101087, 102061, 103070, 105025, 106024, 108005, 108070, 108082, 109053,
    119082, 12084, 123074, 126007, 130026, 134035, 14037, 143090, 145086, 147091,
    148026, 148089, 156065, 157055, 159008, 160068, 16077, 163085, 167062, 167083,
    170057, 175032, 175043, 182053, 189080, 19021, 196073, 197017, 208001, 210088,
    21077, 216081, 219090, 220075, 223061, 227092, 229036, 236037, 24077, 241004,
    241048, 253027, 253055, 260058, 271035, 285079, 291000, 295087, 296007, 296059,
    299086, 300091, 302008, 304034, 304074, 306005, 3096, 33039, 351093, 361010,
    37073, 376043, 38082, 38092, 385039, 41033, 41069, 42012, 42049, 43074, 45096,
    54082, 55073, 58060, 62096, 65033, 66053, 69015, 69020, 69040, 76053, 78004,
    8023, 85048, 86000, 86016, 86068, 87046, 89072, 97033,
)))
# fmt: on
#: BSDS's 302003 is the same photo as Set5's "woman".
DOUBLES = frozenset({"302003"})


@dataclass(frozen=True)
class Split:
    """One part of a set.

    Attributes:
        folders: where it may lie inside the set's folder, the usual place first; each entry is one
            place, of one or several folders.
        count: how many pictures the official split has.
        wanted: whether a file's stem belongs to it.
        stems: all of its files' stems, where they are known.
        lr: where the published bicubic LR lies, with ``{scale}``; empty where there is none.
    """

    folders: tuple[tuple[str, ...], ...]
    count: int
    wanted: Callable[[str], bool]
    lr: tuple[str, ...] = ()
    stems: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingSet:
    """A set that is trained on.

    Attributes:
        name: as the field writes it, and as ``data.root`` takes it in any case.
        train: what trains.
        val: what validates; None where the set has no official part for it.
        note: what one should know.
    """

    name: str
    train: Split
    val: Split | None = None
    note: str = ""


def _numbered(
    folders: tuple[tuple[str, ...], ...], first: int, last: int, digits: int, lr: tuple[str, ...]
) -> Split:
    stems = tuple(f"{number:0{digits}}" for number in range(first, last + 1))
    return Split(folders, len(stems), frozenset(stems).__contains__, lr, stems)


def _bsds(stem: str) -> bool:
    return stem.isdecimal() and stem not in B100 | DOUBLES


_IMAGES = ("images/", "BSDS500/data/images/", "data/images/", "BSR/BSDS500/data/images/", "")

#: The sets, by their names in lower case.
TRAINING_SETS = {
    "div2k": TrainingSet(
        "DIV2K",
        _numbered(
            (("DIV2K_train_HR",), ("DIV2K_train_HR/DIV2K_train_HR",)),
            *(1, 800, 4),
            ("DIV2K_train_LR_bicubic/X{scale}", "DIV2K_train_LR_bicubic_X{scale}/X{scale}"),
        ),
        _numbered(
            (("DIV2K_valid_HR",), ("DIV2K_valid_HR/DIV2K_valid_HR",)),
            *(801, 900, 4),
            ("DIV2K_valid_LR_bicubic/X{scale}", "DIV2K_valid_LR_bicubic_X{scale}/X{scale}"),
        ),
        "0001 to 0800 train, 0801 to 0900 validate",
    ),
    "flickr2k": TrainingSet(
        "Flickr2K",
        _numbered((("Flickr2K_HR",),), 1, 2650, 6, ("Flickr2K_LR_bicubic/X{scale}",)),
        note="no official validation part: data.val_every takes some out",
    ),
    "bsds500": TrainingSet(
        "BSDS500",
        Split(tuple((f"{at}train", f"{at}test") for at in _IMAGES), 399, _bsds),
        note="train and test (400) less 302003, which is Set5's woman; val is B100 and only"
        " measures",
    ),
    "bsds200": TrainingSet(
        "BSDS200",
        Split((*((f"{at}train",) for at in _IMAGES), (".",)), 199, _bsds),
        note="BSDS's train (200) less 302003, which is Set5's woman",
    ),
    "t91": TrainingSet(
        "T91",
        Split((("T91",), (".",)), 91, lambda stem: bool(re.fullmatch(r"tt?\d+", stem))),
        note="t1 to t66 and tt1 to tt27, not all numbers among them",
    ),
}


def named_root(root: str | os.PathLike[str]) -> tuple[TrainingSet, Path] | None:
    """The set and folder of a root ``NAME=DIR``; None for a plain folder.

    Raises:
        UsageError: NAME is no known set, and there is no folder of the whole text.
    """
    text = os.fspath(root)
    name, equals, folder = text.partition("=")
    if not equals or not name or "/" in name or Path(text).exists():
        return None
    if name.lower() not in TRAINING_SETS:
        known = ", ".join(entry.name for entry in TRAINING_SETS.values())
        raise UsageError(text, f"'{name}' is no known set", f"one of: {known}; or a folder alone")
    if not folder:
        raise UsageError(text, "names no folder", f"write {name}=DIR")
    return TRAINING_SETS[name.lower()], Path(folder)


def set_label(root: str | os.PathLike[str]) -> str:
    """What to call a root in messages: the set's name, else the folder's."""
    named = named_root(root)
    return named[0].name if named else Path(root).resolve().name or str(root)


def has_part(folder: Path, split: Split) -> bool:
    """Whether a set's folder holds the folders of a part."""
    return _place(folder, split) is not None


def _place(folder: Path, split: Split) -> list[Path] | None:
    places = [[folder / part for part in place] for place in split.folders]
    return next((place for place in places if all(part.is_dir() for part in place)), None)


def photos_of(entry: TrainingSet, folder: Path, split: Split) -> list[Path]:
    """The pictures of one part of a set, in natural order.

    Args:
        entry: the set.
        folder: its folder.
        split: which part of it.

    Raises:
        MissingFileError: the folder or the part is not there, or pictures of it are missing.
    """
    if not folder.is_dir():
        raise MissingFileError(f"{entry.name}: {folder}", "no such folder", "check the path")
    place = _place(folder, split)
    if place is None:
        looked = " or ".join(dict.fromkeys("+".join(parts) for parts in split.folders))
        raise MissingFileError(f"{entry.name}: {folder}", f"holds no {looked}", _prepare(entry))
    files = [
        path
        for part in place
        for path in list_images(part, recursive=part != folder)
        if split.wanted(path.stem)
    ]
    found = {path.stem for path in files}
    if len(found) < split.count:
        where = "+".join(str(part) for part in place)
        why = f"holds {len(found)} of the {split.count} pictures"
        if missing := [stem for stem in split.stems if stem not in found]:
            why += f", not {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}"
        raise MissingFileError(f"{entry.name}: {where}", why, _prepare(entry))
    return files


def low_folder(entry: TrainingSet, folder: Path, split: Split, scale: int) -> Path:
    """The folder of a part's published bicubic low resolution.

    Raises:
        MissingFileError: it is not there, or the set has none.
    """
    lows = [folder / low.format(scale=scale) for low in split.lr]
    for low in lows:
        if low.is_dir():
            return low
    wanted = f"holds no {lows[0].relative_to(folder)}" if lows else "has no published LR"
    remedy = "leave data.lr_root out: the LR is then made"
    raise MissingFileError(f"{entry.name}: {folder}", wanted, remedy)


def _prepare(entry: TrainingSet) -> str:
    command = "bsds" if entry.name.startswith("BSDS") else entry.name.lower()
    return f"adapool-sr prepare {command} DIR says what belongs there"


def bsds_number(path: Path) -> str:
    """The number that a file would have in BSDS, as in ``bsds_101085x2.png``; else empty."""
    found = re.fullmatch(r"(?:.*[_-])?(\d{4,6})(?:_?x\d)?", path.stem)
    return found[1] if found else ""


def evaluation_pictures(
    paths: Sequence[Path], size_of: Callable[[Path], tuple[int, int]]
) -> list[Path]:
    """Those of the files that are pictures of B100, by number and size.

    Args:
        paths: files that are to train.
        size_of: gives (width, height) of a file; asked only where the number fits.
    """
    found = []
    for path in paths:
        if bsds_number(path) not in B100:
            continue
        # 481x321, perhaps cropped to a multiple of 12: other photos have such numbers too.
        short, long = sorted(size_of(path))
        if 312 <= short <= 321 and 468 <= long <= 481:
            found.append(path)
    return found
