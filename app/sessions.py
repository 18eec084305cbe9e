"""What a visitor's page keeps on the disk, and when it goes."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from adapool_sr.files.errors import UsageError
from adapool_sr.files.writing import open_locked

if TYPE_CHECKING:
    from .work import Job

__all__ = ["KEPT_SECONDS", "SWEEP_SECONDS", "Session", "Sessions", "safe_name"]

#: A page tells every few minutes that it is open; one that is silent for so long is gone. With
#: the time between two sweeps it makes less than the hour that is promised.
KEPT_SECONDS = 3000.0
SWEEP_SECONDS = 300.0

_PREFIX = "adapool-sr-page-"
_LOCK = ".lock"
_LONGEST_NAME = 180  # bytes, so that ".part" and a longer suffix still fit
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


def safe_name(name: str) -> str:
    """A file name for what a browser called a file: one path component of at most 180 bytes.

    The suffix is kept; what file systems forbid is left out; a name that vanishes so, or
    that begins with a dot, becomes ``picture``.
    """
    last = re.split(r"[/\\]", name)[-1]
    stem, suffix = os.path.splitext(_FORBIDDEN.sub("", last).strip())
    if len(os.fsencode(suffix)) > 16:
        stem, suffix = stem + suffix, ""
    short = stem.encode("utf-8", "ignore")[: _LONGEST_NAME - 16].decode("utf-8", "ignore").strip()
    return ("picture" if short in ("", ".", "..") or short[0] == "." else short) + suffix


class Session:
    """One open page: its folder, the picture chosen in it, and its job.

    Attributes:
        token: the folder's secret name, which is part of the addresses of its files.
        folder: where all of it lies.
        source: the chosen picture, as its bytes came; None before one is chosen.
        job: the last job; None before one was begun.
        seen: when the page was last heard of, on the monotonic clock.
        uploads: the files that it sent.
    """

    def __init__(self, root: Path, now: float) -> None:
        self.token = secrets.token_urlsafe(24)
        self.folder = root / self.token
        self.folder.mkdir(mode=0o700)
        self.source: Path | None = None
        self.job: Job | None = None
        self.seen = now
        self.uploads: set[Path] = set()
        self._count = 0
        self._lock = threading.Lock()

    def new_folder(self) -> Path:
        """Make an empty folder, whose number no other one of this session had."""
        with self._lock:
            self._count += 1
            folder = self.folder / str(self._count)
        folder.mkdir()
        return folder

    def take(self, upload: Path, name: str) -> Path:
        """Make an uploaded file this session's picture.

        Args:
            upload: the uploaded file, which stays where it is.
            name: what the visitor calls it.

        Returns:
            The file in the session's folder, under :func:`safe_name`.
        """
        place = self.new_folder() / safe_name(name)
        try:
            os.link(upload, place)
        except OSError:  # another file system, or one without links
            shutil.copyfile(upload, place)
        self.uploads.add(upload)
        self.source = place  # the one before stays until tidy(): a job may be reading it
        return place

    def tidy(self) -> None:
        """Delete all but the chosen picture; only while no job runs."""
        for folder in self.folder.iterdir():
            if self.source is None or folder != self.source.parent:
                shutil.rmtree(folder, ignore_errors=True)

    def end(self) -> None:
        """Stop the job, wait until it let go of its files, and delete the folder."""
        if self.job is not None:
            self.job.stop()
            self.job.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Sessions:
    """All open pages, in one private folder that is deleted at the end.

    Args:
        clock: seconds that only grow.

    Attributes:
        root: the folder, readable by its owner alone.
        uploads: where files arrive before a session takes them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        _remove_left()
        self.root = Path(tempfile.mkdtemp(prefix=_PREFIX)).resolve()
        self._lock_file: BinaryIO | None = open_locked(self.root / _LOCK)
        self.uploads = self.root / "uploads"
        self.uploads.mkdir(mode=0o700)
        self._pages = self.root / "pages"
        self._pages.mkdir(mode=0o700)
        self._clock = clock
        self._open: dict[str, Session] = {}
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, key: str) -> Session:
        """The session of a page, made if it is new; counts as a sign of life."""
        now = self._clock()
        with self._guard:
            session = self._open.get(key)
            if session is None:
                session = self._open[key] = Session(self._pages, now)
            session.seen = now
            return session

    def touch(self, key: str) -> None:
        """Note that a page is still open."""
        with self._guard:
            if key in self._open:
                self._open[key].seen = self._clock()

    def close(self, key: str) -> None:
        """End a session: stop its job and delete its files; unknown ones are fine."""
        with self._guard:
            session = self._open.pop(key, None)
        if session is None:
            return
        session.end()
        with self._guard:  # equal files of two pages are one file here
            kept = {path for other in self._open.values() for path in other.uploads}
        for path in session.uploads - kept:
            _remove(path)

    def uploaded(self, path: str) -> Path:
        """Check that a path that a page sent is an uploaded file.

        Raises:
            UsageError: it is another file, or none.
        """
        place = Path(path).resolve()
        if not (place.is_relative_to(self.uploads) and place.is_file()):
            raise UsageError("the picture", "has not arrived", "choose it again")
        return place

    def file(self, token: str, number: str, name: str) -> Path | None:
        """The file of a session's folder that an address names; None if there is none."""
        with self._guard:
            session = next((s for s in self._open.values() if s.token == token), None)
        if session is None:
            return None
        place = (session.folder / number / name).resolve()
        return place if place.is_relative_to(session.folder) and place.is_file() else None

    def sweep(self) -> None:
        """Delete the sessions that were silent for too long, and old uploads."""
        limit = self._clock() - KEPT_SECONDS
        with self._guard:
            silent = [key for key, session in self._open.items() if session.seen < limit]
        for key in silent:
            self.close(key)
        age = time.time() - KEPT_SECONDS
        for path in list(self.uploads.rglob("*")):
            with suppress(OSError):  # gone meanwhile
                if path.is_file() and path.stat().st_mtime < age:
                    _remove(path)

    def end(self) -> None:
        """End all sessions and delete everything."""
        for key in list(self._open):
            self.close(key)
        shutil.rmtree(self.root, ignore_errors=True)
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None


def _remove(upload: Path) -> None:
    """Delete an uploaded file and its folder, which is named after its content."""
    with suppress(OSError):  # gone already, or the folder holds another one
        upload.unlink()
        upload.parent.rmdir()


def _remove_left() -> None:
    """Delete what a killed page left: its folder's lock is free again."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.stat().st_uid != os.getuid() or not (folder / _LOCK).exists():
                continue
            held = open_locked(folder / _LOCK)
            if held is not None:
                shutil.rmtree(folder, ignore_errors=True)
                held.close()
