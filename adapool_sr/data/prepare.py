"""Checks a set that a user has put into a folder: whole, readable, of the right size?"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from adapool_sr.data.folders import find_lr
from adapool_sr.data.images import size_of
from adapool_sr.data.layouts import (
    B100,
    TRAINING_SETS,
    Split,
    TrainingSet,
    has_part,
    low_folder,
    photos_of,
)
from adapool_sr.files.errors import AdaPoolError, MissingFileError, UnreadableFileError
from adapool_sr.io.images import read_rgb8
from adapool_sr.io.listing import list_images

__all__ = ["EVALUATION_SETS", "EvaluationSet", "Findings", "check_set"]

Size = tuple[int, int]
# Pictures are often cropped to a multiple of 12, so that x2, x3 and x4 divide them.
_CROP = 12


@dataclass(frozen=True)
class EvaluationSet:
    """A set that is measured on.

    Attributes:
        name: as tables write it.
        count: how many pictures it has.
        sizes: (width, height) of the uncropped pictures by stem, where known.
        stems: the stems, where known.
    """

    name: str
    count: int
    sizes: dict[str, Size] = field(default_factory=dict)
    stems: frozenset[str] = frozenset()


_SET5 = {
    "baby": (512, 512),
    "bird": (288, 288),
    "butterfly": (256, 256),
    "head": (280, 280),
    "woman": (228, 344),
}
_SET14 = {
    "baboon": (500, 480),
    "barbara": (720, 576),
    "bridge": (512, 512),
    "coastguard": (352, 288),
    "comic": (250, 361),
    "face": (276, 276),
    "flowers": (500, 362),
    "foreman": (352, 288),
    "lenna": (512, 512),
    "man": (512, 512),
    "monarch": (768, 512),
    "pepper": (512, 512),
    "ppt3": (529, 656),
    "zebra": (586, 391),
}

#: The sets that papers report on, by the names that ``prepare`` takes.
EVALUATION_SETS = {
    "set5": EvaluationSet("Set5", 5, _SET5),
    "set14": EvaluationSet("Set14", 14, _SET14),
    "b100": EvaluationSet("B100", 100, stems=B100),
    "urban100": EvaluationSet("Urban100", 100),
    "manga109": EvaluationSet("Manga109", 109),
}


@dataclass
class Findings:
    """What a folder holds.

    Attributes:
        found: the parts that are there, in words.
        good: pictures without fault.
        failed: the others, each with what is wrong.
        use: flags that use the set.
    """

    found: list[str] = field(default_factory=list)
    good: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    use: list[str] = field(default_factory=list)

    @property
    def exit_status(self) -> int:
        """0 without fault, 3 if some pictures have one, 1 if all have."""
        return 0 if not self.failed else 3 if self.good else 1


def check_set(name: str, folder: Path, on_picture: Callable[[], object] = lambda: None) -> Findings:
    """Look through a set's folder and decode every picture.

    Args:
        name: "set5", "set14", "b100", "urban100", "manga109", "div2k", "flickr2k", "bsds" or "t91".
        folder: where it lies.
        on_picture: is called after each picture.

    Raises:
        MissingFileError: the folder is not there, or pictures are missing.
        UsageError: it is a file.
        UnreadableFileError: it is another set, or the set in half size.
    """
    if name in EVALUATION_SETS:
        return _check_evaluation(EVALUATION_SETS[name], folder, on_picture)
    if name == "bsds":
        both = has_part(folder, TRAINING_SETS["bsds500"].train)
        name = "bsds500" if both or not folder.is_dir() else "bsds200"
    return _check_training(TRAINING_SETS[name], folder, on_picture)


def _decode(
    paths: Sequence[Path], findings: Findings, on_picture: Callable[[], object]
) -> dict[Path, Size]:
    """Decode pictures, a thread a processor; gives the sizes of those that can be read."""

    def one(path: Path) -> Size | AdaPoolError:
        try:
            pixels = read_rgb8(path)
        except AdaPoolError as error:
            return error
        return int(pixels.shape[2]), int(pixels.shape[1])

    sizes: dict[Path, Size] = {}
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        for path, result in zip(paths, pool.map(one, paths), strict=True):
            on_picture()
            if isinstance(result, AdaPoolError):
                findings.failed.append((str(path), result.why))
            else:
                sizes[path] = result
    return sizes


# -- evaluation sets ---------------------------------------------------------------------------


def _check_evaluation(
    entry: EvaluationSet, folder: Path, on_picture: Callable[[], object]
) -> Findings:
    paths = list_images(folder)
    lows = [
        path for path in paths if path.stem.upper().endswith("_LR") or "_LR" in path.parent.name
    ]
    if lows and len(lows) < len(paths):
        raise UnreadableFileError(
            f"{entry.name}: {folder}",
            f"also holds {len(lows)} low-resolution pictures ({lows[0].name} …)",
            "evaluate would measure on them: give a folder of the HR alone",
        )
    known = frozenset(entry.sizes) | entry.stems
    missing = sorted(known - {path.stem for path in paths})
    if len(paths) != entry.count:
        told = f", not {', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}"
        raise MissingFileError(
            f"{entry.name}: {folder}",
            f"holds {len(paths)} pictures; the set has {entry.count}"
            + (told if missing and len(missing) < len(known) else ""),
            f"see datasets/{entry.name.lower()}/README.md",
        )
    findings = Findings(use=[f"adapool-sr evaluate -n tiny-x2 --data {entry.name}={folder}"])
    sizes = _decode(paths, findings, on_picture)
    if entry.name == "Urban100":
        _refuse_half_size(entry, folder, list(sizes.values()))
    cropped: list[int] = []
    for path, size in sizes.items():
        original = _original(entry, path, size)
        less = [o - s for o, s in zip(original, size, strict=True)]
        if all(0 <= side < _CROP for side in less):
            findings.good += 1
            cropped += [max(less)] if any(less) else []
        else:
            got, need = (f"{width}x{height}" for width, height in (size, original))
            findings.failed.append((str(path), f"is {got}; {entry.name}'s own is {need}"))
    words = f"{entry.name}: {findings.good} pictures, all of them decoded"
    if cropped:
        words += f"; {len(cropped)} smaller than the original by up to {max(cropped)} pixels"
    if missing:
        words += "; the files' names are not the usual ones"
    findings.found.append(words)
    return findings


def _original(entry: EvaluationSet, path: Path, size: Size) -> Size:
    """The size that the picture should have, as far as one knows."""
    if path.stem in entry.sizes:
        return entry.sizes[path.stem]
    if entry.name == "B100":
        return (481, 321) if size[0] >= size[1] else (321, 481)
    return size


def _refuse_half_size(entry: EvaluationSet, folder: Path, sizes: Sequence[Size]) -> None:
    longest = sorted(max(size) for size in sizes)
    middle = longest[len(longest) // 2] if longest else 1024
    if middle < 1024 - _CROP:
        raise UnreadableFileError(
            f"{entry.name}: {folder}",
            f"its pictures are about {middle} pixels long, Urban100's are 1024",
            "SelfExSR's image_SRF_2 has its HR in half size: take the HR of image_SRF_4",
        )


# -- training sets -----------------------------------------------------------------------------


def _check_training(entry: TrainingSet, folder: Path, on_picture: Callable[[], object]) -> Findings:
    findings = Findings(use=[f"--data.root {entry.name}={folder}"])
    parts = [("train", entry.train)]
    if entry.val is not None:
        parts.append(("valid", entry.val))
    scales: dict[str, list[int]] = {}
    for word, split in parts:
        if word == "valid" and not has_part(folder, split):
            findings.found.append(f"{entry.name} valid: not there; data.val_every takes some out")
            continue
        paths = photos_of(entry, folder, split)
        sizes = _decode(paths, findings, on_picture)
        findings.good += len(sizes)
        findings.found.append(f"{entry.name} {word}: {len(sizes)} pictures, all of them decoded")
        scales[word] = _check_lows(entry, folder, split, sizes, findings, word)
    both = set.intersection(*map(set, scales.values())) if scales else set()
    for scale in sorted(both):
        findings.use.append(
            f"--data.root {entry.name}={folder} --data.lr_root {entry.name}={folder}"
            f" --data.scale {scale}"
        )
    if entry.note:
        findings.found.append(entry.note)
    return findings


def _check_lows(
    entry: TrainingSet,
    folder: Path,
    split: Split,
    sizes: dict[Path, Size],
    findings: Findings,
    word: str,
) -> list[int]:
    """Compare the published LR with the HR, by the files' headers; gives the scales found."""
    scales = []
    for scale in (2, 3, 4):
        try:
            low_folder(entry, folder, split, scale)
        except MissingFileError:
            continue
        root = f"{entry.name}={folder}"
        lows = find_lr(list(sizes), root, root, scale, validation=word == "valid")
        for (path, (width, height)), low in zip(sizes.items(), lows, strict=True):
            got = size_of(low)
            if got != (width // scale, height // scale):
                need = f"{width // scale}x{height // scale}"
                why = f"is {got[0]}x{got[1]}; {path.name} asks for {need} at x{scale}"
                findings.failed.append((str(low), why))
        findings.found.append(f"{entry.name} {word}: LR at x{scale}")
        scales.append(scale)
    return scales
