"""The store: pairs decoded once, then mapped into memory, whatever their number.

A photo lies in it as it is used, uint8 planes of both resolutions, so that a patch is read from
any place of any photo without decoding: what others cut sub-images for. The operating system keeps
as much of it in memory as there is room. It is a folder of two files in the cache
(``$ADAPOOL_CACHE``, else ``$XDG_CACHE_HOME/adapool_sr``, else ``~/.cache/adapool_sr``),
``store/HASH``, whose name is the hash of what the pixels depend on: paths, sizes, times, scale. It
gets that name only when it is whole. Stores that no run has used for a month are removed when a new
one is made.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import astuple
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from adapool_sr.data.images import Pair, Source, read_all
from adapool_sr.files.errors import AdaPoolError

__all__ = ["open_stored", "store_folder", "worth_storing"]

_log = logging.getLogger(__name__)

_FORMAT = 1  # part of the hash: a change of the layout makes every old store stale
_PIXELS, _INDEX = "pixels.bin", "index.json"
_ALIGN = 4096  # a photo begins at a page
_UNUSED = 30 * 24 * 3600  # seconds
_PATIENCE = 3600  # seconds to wait for another process that makes the same store
#: Bytes of files below which photos are simply read: 8 MB take about a second.
_WORTH = 8_000_000


def store_folder() -> Path:
    """Where the stores are; not made."""
    if os.environ.get("ADAPOOL_CACHE"):
        return Path(os.environ["ADAPOOL_CACHE"]) / "store"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "adapool_sr" / "store"


def worth_storing(sources: Sequence[Source]) -> bool:
    """Whether the files are so many that reading them again would be felt."""
    total = 0
    for path in {source.path for source in sources}:
        with suppress(OSError):  # reading it will say what is wrong
            total += path.stat().st_size
        if total >= _WORTH:
            return True
    return False


def open_stored(sources: Sequence[Source]) -> tuple[list[Pair], str]:
    """Give the pairs from their store, made first where there is none.

    Args:
        sources: what to read.

    Returns:
        The pairs in the sources' order, and in words where they are: mapped from a store, or in
        memory because none could be written, of which a warning tells.

    Raises:
        MissingFileError: a file is not there.
        UnreadableFileError: a file is no picture, or damaged, or an LR of another size.
    """
    home = store_folder() / _digest(sources)
    pairs = _mapped(home, sources)
    if pairs is not None:
        return pairs, f"mapped from {home}"
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{home}.lock", timeout=_PATIENCE):
            if _mapped(home, sources) is None:
                shutil.rmtree(home, ignore_errors=True)  # one that is damaged
                _make(home, sources)
    except AdaPoolError:
        raise  # a photo's, not the store's
    except OSError as error:  # a full or read-only disk, or another process that takes too long
        return _in_memory(sources, f"no store in {home.parent} ({error.strerror or error})")
    pairs = _mapped(home, sources)
    if pairs is None:
        return _in_memory(sources, f"the store {home} could not be read back")
    return pairs, f"mapped from {home}, made now"


def _in_memory(sources: Sequence[Source], why: str) -> tuple[list[Pair], str]:
    warnings.warn(f"data.store: {why}; photos are kept in memory", stacklevel=3)
    return list(read_all(sources)), "in memory"


def _digest(sources: Sequence[Source]) -> str:
    """The hash of everything that the pixels depend on, without reading them."""
    hashed = hashlib.sha256(f"{_FORMAT}".encode())
    for source in sources:
        line: list[Any] = [str(part) for part in astuple(source)]
        for path in (source.path, source.lr_path):
            if path is not None:
                with suppress(OSError):  # reading it will say what is wrong
                    status = path.stat()
                    line += [str(path.resolve()), status.st_size, status.st_mtime_ns]
        hashed.update(json.dumps(line).encode())
    return hashed.hexdigest()[:32]


def _make(home: Path, sources: Sequence[Source]) -> None:
    """Write a store beside its place and rename it; called under its lock."""
    photos = len({source.path for source in sources})
    _log.info("decoding %d photos, once, into %s", photos, home)
    _remove_unused(home.parent)
    part = home.with_name(f".{home.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # what a killed run left
    try:
        part.mkdir()
        rows = []
        # Closed, so that no thread reads on when the disk is full.
        with (part / _PIXELS).open("wb") as file, closing(read_all(sources)) as pairs:
            for pair in pairs:
                rows.append(_append(file, pair))
            file.flush()
            os.fsync(file.fileno())
        with (part / _INDEX).open("w", encoding="utf-8") as text:
            json.dump({"format": _FORMAT, "pairs": rows}, text)
            text.flush()
            os.fsync(text.fileno())
        part.rename(home)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _append(file: BinaryIO, pair: Pair) -> dict[str, Any]:
    """Write one pair at the next page; give its row of the index."""
    file.seek(-(-file.tell() // _ALIGN) * _ALIGN)
    row: dict[str, Any] = {"at": file.tell(), "grown": pair.grown}
    same = pair.lr.shape == pair.hr.shape and np.array_equal(pair.lr, pair.hr)  # at scale 1
    file.write(np.ascontiguousarray(pair.hr).data)
    if not same:
        file.write(np.ascontiguousarray(pair.lr).data)
    row |= {"hr": pair.hr.shape, "lr": pair.lr.shape, "same": same}
    return row


def _mapped(home: Path, sources: Sequence[Source]) -> list[Pair] | None:
    """The pairs of a store; None if it isn't there or isn't what it should be."""
    try:
        index = json.loads((home / _INDEX).read_text(encoding="utf-8"))
        # Copy on write: nobody writes, but torch warns of arrays that it could not write to.
        pixels = np.asarray(np.memmap(home / _PIXELS, dtype=np.uint8, mode="c"))
        rows = index["pairs"]
        if index["format"] != _FORMAT or len(rows) != len(sources):
            return None
        pairs = [_view(pixels, row, source) for row, source in zip(rows, sources, strict=True)]
    except (OSError, ValueError, KeyError):
        return None
    with suppress(OSError):
        os.utime(home / _INDEX)  # when it was last used
    return pairs


def _view(pixels: npt.NDArray[np.uint8], row: dict[str, Any], source: Source) -> Pair:
    begin = row["at"]
    planes = []
    for shape in (row["hr"], row["hr"] if row["same"] else row["lr"]):
        size = int(np.prod(shape))
        if begin + size > len(pixels):
            raise ValueError("the file of pixels is short")
        planes.append(pixels[begin : begin + size].reshape(shape))
        begin = row["at"] if row["same"] else begin + size
    return Pair(source.path, planes[1], planes[0], row["grown"])


def _remove_unused(folder: Path) -> None:
    """Remove stores that no run has used for a month, and what killed runs left that long ago."""
    limit = time.time() - _UNUSED
    for old in folder.iterdir():
        used = old / _INDEX if (old / _INDEX).exists() else old
        with suppress(OSError):
            if used.stat().st_mtime < limit:
                shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink()
