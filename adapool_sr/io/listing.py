"""Which files are pictures, by name alone; imports neither torch nor Pillow."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path

from adapool_sr.files.errors import MissingFileError, UsageError

__all__ = [
    "BOOK",
    "BOOK_SUFFIXES",
    "DEFAULT_MAX_PIXELS",
    "LOSSY",
    "READABLE",
    "WRITABLE",
    "WRITTEN",
    "count_others",
    "format_of",
    "is_book",
    "is_hidden",
    "list_images",
    "matches",
    "natural_key",
    "split_pattern",
]

#: The guard against decompression bombs: pixels of the largest input that is decoded.
DEFAULT_MAX_PIXELS = 1_000_000_000

#: Formats that results are written in, by the suffixes that ask for them.
WRITABLE = {
    ".png": "png",
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".jpe": "jpg",
    ".jfif": "jpg",
    ".webp": "webp",
    ".tiff": "tiff",
    ".tif": "tiff",
    ".bmp": "bmp",
    ".avif": "avif",
}

#: The same in words.
WRITTEN = ".png, .jpg, .webp, .tiff, .bmp or .avif"

#: Those that ``quality`` has a meaning for; the others hold every pixel as it is.
LOSSY = frozenset({"jpg", "webp", "avif"})

#: The format of a comic, a ZIP archive of pictures, and the suffixes that comics have: many a
#: .cbr is a ZIP archive, and of the others it is said what they are.
BOOK = "cbz"
BOOK_SUFFIXES = frozenset({".cbz", ".cbr", ".cb7", ".cbt"})

#: Suffixes of the files that a folder's listing takes.
READABLE = frozenset(WRITABLE) | {
    ".gif",
    ".heic",
    ".heif",
    ".hif",
    ".jxl",
    ".pgm",
    ".pnm",
    ".ppm",
}

# Folders that systems put beside people's pictures: macOS archives; previews, bins and snapshots
# of Synology, QNAP and Windows.
_SYSTEM_FOLDERS = frozenset(
    {
        "$RECYCLE.BIN",
        "#recycle",
        "#snapshot",
        "@Recently-Snapshot",
        "@Recycle",
        "@eaDir",
        "RECYCLER",
        "System Volume Information",
        "__MACOSX",
        "lost+found",
    }
)

_WILDCARD = re.compile(r"[*?]|\[.+\]")

_DIGITS = re.compile(r"(\d+)")


def natural_key(path: Path) -> tuple[tuple[tuple[bool, int, str], ...], ...]:
    """Sort key under which ``img2`` comes before ``img10``, folder by folder, case ignored."""

    def part_key(part: str) -> tuple[tuple[bool, int, str], ...]:
        pieces = [piece for piece in _DIGITS.split(part.casefold()) if piece]
        # isdecimal, unlike isdigit, holds for exactly the characters that int() takes.
        key = [(not p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in pieces]
        return (*key, (False, 0, part))

    return tuple(part_key(part) for part in path.parts)


def format_of(path: Path) -> str | None:
    """The format, as in "png" or "jpg", that a name's suffix asks for, or None."""
    return WRITABLE.get(path.suffix.lower())


def split_pattern(text: str) -> tuple[Path, str] | None:
    """The folder before the first wildcard of a path, and the pattern below it.

    Returns:
        None for a path without a wildcard, or of something that exists under this very name.

    Example:
        >>> split_pattern("photos/20*/**/*.jpg")
        (PosixPath('photos'), '20*/**/*.jpg')
    """
    parts = Path(text).parts
    at = next((index for index, part in enumerate(parts) if _WILDCARD.search(part)), None)
    if at is None or os.path.lexists(text):
        return None
    return Path(*parts[:at]), "/".join(parts[at:])


def matches(path: Path, pattern: str) -> bool:
    """Whether a relative path matches a pattern as in a shell; ``**`` is any number of folders."""
    return _match(path.parts, tuple(pattern.split("/")))


def _match(parts: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_match(parts[skip:], wanted[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], wanted[0]) and _match(parts[1:], wanted[1:])


def is_book(path: Path) -> bool:
    """Whether a name is a comic's."""
    return path.suffix.lower() in BOOK_SUFFIXES


_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is a system's or was meant to be hidden."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def list_images(
    folder: Path | str,
    recursive: bool = True,
    *,
    without: Collection[Path] = (),
    books: bool = False,
) -> list[Path]:
    """All picture files of a folder, in natural order.

    Files are told by suffix. Hidden files and folders (a leading dot) and the folders
    that operating systems leave behind are passed over; linked folders are not entered.

    Args:
        folder: the folder to list.
        recursive: whether to enter its folders.
        without: folders inside that are passed over, such as the one results go to.
        books: whether comics (.cbz) are listed too.

    Raises:
        MissingFileError: the folder does not exist.
        UsageError: it is a file.
    """
    root = Path(folder)
    if not root.exists():
        raise MissingFileError(str(root), "no such folder", "check the path")
    if not root.is_dir():
        raise UsageError(str(root), "is a file where a folder is expected", "give its folder")
    wanted = READABLE | {".cbz"} if books else READABLE
    barred = {path.resolve() for path in without}
    found: list[Path] = []
    for here, folders, files in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if recursive
            and not is_hidden(name)
            and not (barred and Path(here, name).resolve() in barred)
        ]
        found += [
            Path(here, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in wanted
        ]
    return sorted(found, key=lambda path: natural_key(path.relative_to(root)))


def count_others(folder: Path, *, without: Collection[Path] = ()) -> int:
    """How many files of a folder :func:`list_images` passes over by their suffix, as a raw photo.

    Args:
        folder: the folder.
        without: as for :func:`list_images`.
    """
    barred = {path.resolve() for path in without}
    count = 0
    for here, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not is_hidden(name) and Path(here, name).resolve() not in barred
        ]
        names = (n for n in files if not is_hidden(n) and n.lower() not in _SYSTEM_FILES)
        count += sum(Path(n).suffix.lower() not in READABLE | {".cbz"} for n in names)
    return count
