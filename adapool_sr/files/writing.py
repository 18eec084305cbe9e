"""Whole-or-nothing writing: a file appears under its name finished, or not at all."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from adapool_sr.files.errors import FullDiskError, UnwritableFileError, UsageError

if sys.platform != "win32":
    import fcntl

__all__ = [
    "check_writable",
    "make_folder",
    "open_locked",
    "part_path",
    "standing_folder",
    "unwritable",
    "whole",
    "write_whole",
]

_LONGEST_NAME = 255  # bytes of a name on every common Linux file system

_REMEDIES = {
    errno.ENOSPC: "free some space or choose another disk",
    errno.EDQUOT: "free some of the quota or choose another disk",
    errno.EACCES: "choose a folder that may be written to",
    errno.EPERM: "choose a folder that may be written to",
    errno.EROFS: "choose a folder that may be written to",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def unwritable(path: Path, error: OSError) -> UnwritableFileError:
    """Word the system's error about a file that was to be written."""
    kind = FullDiskError if error.errno in (errno.ENOSPC, errno.EDQUOT) else UnwritableFileError
    why = f"could not be written ({error.strerror or error})"
    return kind(str(path), why, _REMEDIES.get(error.errno or 0, ""))


def part_path(path: Path) -> Path:
    """Where a file grows before it gets its name: ``.NAME.part`` beside it.

    A name that would grow too long for the file system is replaced by its hash.
    """
    name = os.fsencode(path.name)
    if len(name) + len("..part") > _LONGEST_NAME:
        return path.with_name(f".{hashlib.sha256(name).hexdigest()[:32]}.part")
    return path.with_name(f".{path.name}.part")


def open_locked(path: Path) -> BinaryIO | None:
    """Open a file for reading and writing, made if absent, under a lock of this process.

    The kernel releases the lock when the process ends, however it ends, so that a dead
    run's lock never blocks.

    Returns:
        The file at its start with its content untouched; None if another process holds it.

    Raises:
        OSError: the file cannot be opened.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        file = os.fdopen(descriptor, "r+b")
        if sys.platform == "win32":
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        # Its last holder may have renamed or removed it between our open and our lock.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return file
        file.close()


@contextmanager
def whole(path: Path | str) -> Iterator[BinaryIO]:
    """Open a file that gets its name only when the block ends well.

    It grows as ``.NAME.part`` beside its place, is flushed to the disk and renamed. If the
    block raises, nothing is left and a file of that name stays as it was. A link is
    followed: the file it points to is replaced.

    Raises:
        UnwritableFileError: the place cannot be written, is full, or is being written by
            another process.

    Example:
        >>> with whole("result.txt") as file:  # doctest: +SKIP
        ...     file.write(b"all of it")
    """
    place = Path(os.path.realpath(path))
    part = part_path(place)
    try:
        file = open_locked(part)
    except OSError as error:
        raise unwritable(Path(path), error) from error
    if file is None:
        raise UnwritableFileError(
            str(path), "is being written by another process", "wait until it has finished"
        )
    with file:
        try:
            file.truncate()  # what a killed run left
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, place)
        except BaseException as error:
            with suppress(OSError):
                part.unlink()
            if isinstance(error, OSError) and not isinstance(error, UnwritableFileError):
                raise unwritable(Path(path), error) from error
            raise


def write_whole(path: Path | str, content: bytes) -> None:
    """Write a file whole or not at all, replacing one of that name.

    Raises:
        UnwritableFileError: the place cannot be written or is full.
    """
    with whole(path) as file:
        file.write(content)


def check_writable(path: Path) -> None:
    """Refuse an output that cannot be made, before any work is done for it.

    Args:
        path: a file that is to be written; its folder need not exist yet.

    Raises:
        UsageError: its name is a folder's, or a file or a folder without the right to
            write stands where its folder should be.
    """
    if path.is_dir():
        raise UsageError(str(path), "is a folder", "give a file's name")
    above = standing_folder(path)
    if not stat.S_ISDIR(above.stat().st_mode):
        raise UsageError(str(path), f"{above} is a file, not a folder", "choose another place")
    if not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(str(path), f"may not write into {above}", "choose another place")


def standing_folder(path: Path) -> Path:
    """The nearest place above a file that exists; the file's own folder may not yet."""
    above = path.parent
    while not above.exists() and above != above.parent:
        above = above.parent
    return above


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are absent.

    Raises:
        UnwritableFileError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
