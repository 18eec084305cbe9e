"""The journal of a folder run: what it was asked, what it has finished; and its lock.

``.adapool-sr.json`` in the output folder holds one JSON object a line. A heading names the
settings and every output that the run is to make or keep; each further one an input that is
done, with the size and time it had, or outputs that a watching run means to make as well.
Lines are only ever added, also by the run that resumes (a heading of its own, then more
lines), so that a run killed at any moment leaves a journal that can be read: at worst its
last line is torn and one file is done again. The journal is locked while its run lives; it is
removed when the run completes, whether or not some files failed.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from adapool_sr.files.errors import MissingFileError, UnwritableFileError, UsageError
from adapool_sr.files.writing import open_locked, part_path, unwritable

__all__ = ["JOURNAL_NAME", "Journal", "Past", "Stamp", "read_past", "refuse_running"]

JOURNAL_NAME = ".adapool-sr.json"


@dataclass(frozen=True)
class Stamp:
    """How a file is told from a changed one: its size in bytes and its time in nanoseconds."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file as it is now.

        Raises:
            MissingFileError: there is none.
        """
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise MissingFileError(str(path), "no such file", "check the path") from error
        return cls(status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Past:
    """What an interrupted run left in its journal.

    Attributes:
        settings: what it was asked; plain JSON values.
        outputs: names, relative to the output folder, that it was to make.
        kept: names that stood there before it and that it was told to keep.
        done: input name → the stamp it had when its output was finished.
    """

    settings: Mapping[str, Any]
    outputs: frozenset[str]
    kept: frozenset[str]
    done: Mapping[str, Stamp] = field(default_factory=dict)


def _parse(content: bytes) -> Past | None:
    """Read a journal as far as it is whole; None if no heading is."""
    past: Past | None = None
    done: dict[str, Stamp] = {}
    for line in content.split(b"\n"):
        try:
            entry = json.loads(line)
            if "settings" in entry:
                if not entry["resumed"]:
                    done = {}
                past = Past(
                    entry["settings"], frozenset(entry["outputs"]), frozenset(entry["kept"]), done
                )
            elif "more" in entry:
                if past is not None:
                    past = replace(past, outputs=past.outputs | frozenset(entry["more"]))
            else:
                done[entry["input"]] = Stamp(entry["size"], entry["mtime_ns"])
        except (ValueError, KeyError, TypeError):  # torn by a kill, or no line of ours
            continue
    return past


def read_past(folder: Path) -> Past | None:
    """What an interrupted run left in a folder, without locking anything; None if nothing."""
    try:
        return _parse((folder / JOURNAL_NAME).read_bytes())
    except OSError:
        return None


def _refusal(folder: Path) -> UsageError:
    return UsageError(
        str(folder), "another run is writing here", "wait for it or choose another folder"
    )


def refuse_running(folder: Path) -> None:
    """Refuse a folder that another run is writing into now, before any work.

    Raises:
        UsageError: there is one.
    """
    path = folder / JOURNAL_NAME
    if not path.exists():  # and none is made: nothing is written before the work
        return
    with suppress(OSError):  # an unreadable one is named when it is opened to be written
        file = open_locked(path)
        if file is None:
            raise _refusal(folder)
        file.close()


class Journal:
    """The journal of this run, locked; a context manager. Its methods may be called by any thread.

    Args:
        folder: the output folder; it must exist.

    Raises:
        UsageError: another run is writing into the folder.
        UnwritableFileError: the journal cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / JOURNAL_NAME
        try:
            file = open_locked(self.path)
        except OSError as error:
            raise UnwritableFileError(
                str(self.path), f"cannot be opened ({error.strerror})", "choose another folder"
            ) from error
        if file is None:
            raise _refusal(folder)
        self._file: BinaryIO = file
        self._turn = threading.Lock()
        content = file.read()  # leaves the file at its end, where lines are added
        self._past = _parse(content)
        self._empty = not content

    def begin(
        self,
        settings: Mapping[str, Any],
        outputs: Iterable[str],
        kept: Iterable[str],
        *,
        resumed: bool,
    ) -> None:
        """Write the heading, and clear away the parts of files that a killed run left.

        Args:
            settings: what the run is asked, as plain JSON values.
            outputs: names, relative to the folder, that it is to make.
            kept: names that stand there already and that it is told to keep.
            resumed: whether what the interrupted run finished still counts.
        """
        if self._past is not None:
            for name in self._past.outputs:
                with suppress(OSError):
                    # As they were written: where an output is a link, beside what it points to.
                    part_path(Path(os.path.realpath(self.folder / name))).unlink()
        head = {"settings": settings, "outputs": sorted(outputs), "kept": sorted(kept)}
        self._add({**head, "resumed": resumed}, before=b"\n")  # ends a torn line

    def expect(self, outputs: Iterable[str]) -> None:
        """Note further outputs that the run is to make."""
        self._add({"more": sorted(outputs)})

    def finished(self, name: str, stamp: Stamp) -> None:
        """Note that an input's output stands under its name."""
        self._add({"input": name, "size": stamp.size, "mtime_ns": stamp.mtime_ns})

    def _add(self, line: Mapping[str, Any], before: bytes = b"") -> None:
        try:
            with self._turn:
                self._file.write(before + json.dumps(line).encode() + b"\n")
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._empty = False

    def complete(self) -> None:
        """Remove the journal: there is nothing to resume."""
        with suppress(FileNotFoundError):
            self.path.unlink()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._empty:  # the run was refused, or not a line found room
            with suppress(OSError):
                self.path.unlink()
        with suppress(OSError):  # what a full disk kept from being written is told already
            self._file.close()
