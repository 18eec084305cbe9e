"""Comics: a ZIP archive of pictures, enlarged page by page into another."""

from __future__ import annotations

import lzma
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

from adapool_sr.files.errors import UnreadableFileError, UsageError
from adapool_sr.files.writing import whole
from adapool_sr.inference.family import Family
from adapool_sr.inference.planning import Job, kind_for, named
from adapool_sr.inference.report import Report
from adapool_sr.inference.steps import Options, encode_result, judge, read_input
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.decoding import probe
from adapool_sr.io.images import Picture
from adapool_sr.io.listing import READABLE, is_hidden

if TYPE_CHECKING:
    from collections.abc import Iterator

    from adapool_sr.inference.batch import Observer

__all__ = ["count_pages", "enlarge_book"]

# Largest file of a page, in bytes for each pixel that is allowed: 16-bit RGBA without compression.
_BYTES_PER_PIXEL = 8
# What a damaged member raises when it is unpacked.
_DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,
    UnicodeDecodeError,
    EOFError,
    lzma.LZMAError,
    zlib.error,
)
_HEADERS = 1 << 24  # and for what a file has beside its pixels


@dataclass(frozen=True)
class _Page:
    member: zipfile.ZipInfo
    name: str  # in the result
    kind: str
    pixels: int


def count_pages(path: Path) -> int:
    """How many pictures a book holds.

    Raises:
        UnreadableFileError: it is no ZIP archive, or a damaged or encrypted one.
    """
    with _opened(path) as book:
        return sum(_is_page(member) for member in book.infolist())


def enlarge_book(
    job: Job, upscaler: Upscaler | Family, options: Options, observer: Observer, report: Report
) -> tuple[int, int]:
    """Enlarge the pages of a book; all else in it is copied, and the order is kept.

    Args:
        job: whose source is the book and whose ``pages`` is the format of its pages, None for
            each one's own.
        upscaler: for the pages.
        options: how to read and write them.
        observer: hears of progress in pixels of the whole book, and of what is lost.
        report: whose seconds grow.

    Returns:
        Width and height of the first result.

    Raises:
        AdaPoolError: a page or member can't be read, or the book not written. Nothing is.
        Stopped: the observer said so. Nothing is written.
    """
    with _opened(cast(Path, job.source)) as book:
        pages = _pages(book, job, options)
        with whole(cast(Path, job.target)) as file, zipfile.ZipFile(file, "w") as result:
            result.comment = book.comment
            run = _BookRun(book, result, job, upscaler, options, observer, report)
            return run.all(pages)


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """A book; what is wrong with the archive is told as its error."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise UnreadableFileError(
            str(path), f"cannot be opened ({error.strerror})", "check it and its permissions"
        ) from error
    with file:
        try:
            book = zipfile.ZipFile(file)
        except Exception as error:  # a damaged table of contents raises nearly anything
            raise _no_archive(path, error) from error
        with book:
            try:
                yield book
            except _DAMAGE as error:
                raise _no_archive(path, error) from error


def _no_archive(path: Path, error: Exception) -> UnreadableFileError:
    rar = path.read_bytes()[:4] == b"Rar!"
    why = "is a RAR archive" if rar else f"is no whole ZIP archive ({error})"
    return UnreadableFileError(
        str(path), why, "make a .cbz of it, or unpack it and give the folder"
    )


def _is_page(member: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(member.filename)
    return (
        not member.is_dir()
        and path.suffix.lower() in READABLE
        and not any(is_hidden(part) for part in path.parts)
    )


def _pages(book: zipfile.ZipFile, job: Job, options: Options) -> list[_Page]:
    """What has to be done, found by the headers of all pages before any work."""
    names: set[str] = set()
    pages = []
    for member in book.infolist():
        name, full = member.filename, f"{job.name}: {member.filename}"
        if member.flag_bits & 1:
            raise UnreadableFileError(full, "is encrypted", "unpack the book with its password")
        if _is_page(member):
            path = PurePosixPath(named(Path(name), job.pages).as_posix())
            name, kind = str(path), kind_for(Path(path), job.pages)
            content = _content(book, member, full, options)
            width, height, *_ = probe(content, options.max_pixels, full)
            pages.append(_Page(member, name, kind, width * height))
        if name in names:
            raise UsageError(full, f"'{name}' would be twice in the book", "rename one of the two")
        names.add(name)
    if not pages:
        raise UnreadableFileError(job.name, "holds no pictures", "give a book with pages")
    return pages


def _content(book: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, options: Options) -> bytes:
    if member.file_size > _BYTES_PER_PIXEL * options.max_pixels + _HEADERS:
        raise UnreadableFileError(
            name,
            f"states {member.file_size:,} bytes, more than a picture of {options.max_pixels:,} "
            "pixels has",
            "if it is meant, raise the limit with --max-pixels",
        )
    return book.read(member)


class _BookRun:
    """Reads, enlarges and writes the pages of one book, the three at the same time."""

    def __init__(
        self,
        book: zipfile.ZipFile,
        result: zipfile.ZipFile,
        job: Job,
        upscaler: Upscaler | Family,
        options: Options,
        observer: Observer,
        report: Report,
    ) -> None:
        self.book, self.result, self.job = book, result, job
        self.upscaler, self.options = upscaler, options
        self.observer, self.report = observer, report
        self.others = iter(book.infolist())

    def all(self, pages: Sequence[_Page]) -> tuple[int, int]:
        total, before = sum(page.pixels for page in pages), 0
        first = (0, 0)
        waiting: tuple[_Page, Future[tuple[bytes, list[str]]]] | None = None
        with ThreadPoolExecutor(1, "read") as readers, ThreadPoolExecutor(1, "write") as writers:
            ahead = readers.submit(self._read, pages[0])
            for index, page in enumerate(pages):
                picture, lost = ahead.result()
                if index + 1 < len(pages):  # is read while the network runs
                    ahead = readers.submit(self._read, pages[index + 1])
                self._warn(page, lost)
                picture = self._enlarge(page, picture, self._meter(before, page.pixels, total))
                before += page.pixels
                first = first if index else (picture.width, picture.height)
                if waiting is not None:
                    self._store(waiting[0], *waiting[1].result())
                waiting = page, writers.submit(self._encode, page, picture)
            if waiting is not None:
                self._store(waiting[0], *waiting[1].result())
        self._copy_until(None)
        return first

    def _meter(self, before: int, pixels: int, total: int) -> Callable[[int, int], None]:
        def progress(done: int, of: int) -> None:
            self.observer.progress(self.job, before + pixels * done // of, total)

        return progress

    def _read(self, page: _Page) -> tuple[Picture, list[str]]:
        start = time.perf_counter()
        name = f"{self.job.name}: {page.member.filename}"
        content = _content(self.book, page.member, name, self.options)
        output = f"{self.job.target}: {page.name}"
        try:
            return read_input(content, name, page.kind, self.upscaler, self.options, output=output)
        finally:
            self.report.decoding += time.perf_counter() - start

    def _enlarge(
        self, page: _Page, picture: Picture, progress: Callable[[int, int], None]
    ) -> Picture:
        start = time.perf_counter()
        upscaler = self.upscaler.choose(picture.height, picture.width, picture.format)
        try:
            result = upscaler.upscale_picture(picture, progress, self.observer.should_stop)
            if self.options.verify:
                name = f"{self.job.name}: {page.member.filename}"
                verdict = upscaler.compare(result, picture)
                if trouble := judge(verdict, name, self.options, self.report):
                    self._warn(page, [trouble])
            return result
        finally:
            self.report.network += time.perf_counter() - start

    def _encode(self, page: _Page, picture: Picture) -> tuple[bytes, list[str]]:
        start = time.perf_counter()
        try:
            output = f"{self.job.target}: {page.name}"
            return encode_result(picture, page.kind, self.options, output)
        finally:
            self.report.encoding += time.perf_counter() - start

    def _warn(self, page: _Page, lost: Sequence[str]) -> None:
        for text in lost:
            self.observer.warning(self.job, f"{page.member.filename}: {text}")

    def _store(self, page: _Page, content: bytes, lost: Sequence[str]) -> None:
        """Write a page behind all that stands before it in the book."""
        self._warn(page, lost)
        self._copy_until(page.member)
        self.result.writestr(_heading(page.member, page.name, len(content)), content)

    def _copy_until(self, end: zipfile.ZipInfo | None) -> None:
        for member in self.others:
            if member is end:
                return
            heading = _heading(member, member.filename, member.file_size)
            if member.is_dir():
                self.result.writestr(heading, b"")
                continue
            with self.book.open(member) as source, self.result.open(heading, "w") as copy:
                shutil.copyfileobj(source, copy, 1 << 20)


def _heading(member: zipfile.ZipInfo, name: str, size: int) -> zipfile.ZipInfo:
    """A member's entry under a name: its time, attributes, comment and compression."""
    heading = zipfile.ZipInfo(name, member.date_time)
    for field in ("compress_type", "comment", "create_system", "external_attr", "internal_attr"):
        setattr(heading, field, getattr(member, field))
    heading.file_size = size
    return heading
