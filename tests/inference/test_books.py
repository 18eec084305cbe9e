from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from adapool_sr.files.errors import AdaPoolError, UnreadableFileError, UsageError
from adapool_sr.inference.batch import Observer, Options, run_plan
from adapool_sr.inference.books import count_pages
from adapool_sr.inference.planning import Job, decide, plan_file, plan_folder
from adapool_sr.inference.report import Report
from adapool_sr.inference.upscaler import Stopped, Upscaler


class Nearest(nn.Module):
    scale, size_multiple, receptive_radius = 2, 1, 0

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2)


def picture(kind: str, width: int) -> bytes:
    pixels = np.random.default_rng(width).integers(0, 256, (6, width, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


MEMBERS = {
    "ComicInfo.xml": b"<ComicInfo/>",
    "b/": b"",
    "b/page 10.png": picture("PNG", 10),
    "b/page 2.JPG": picture("JPEG", 8),
    "__MACOSX/b/._page 2.jpg": b"\0\5\x16\7",
    "cover ü.webp": picture("WEBP", 7),
    "read me.txt": b"words\r\n" * 9000,
}


def make_book(path: Path, members: dict[str, bytes] = MEMBERS) -> Path:
    with zipfile.ZipFile(path, "w") as book:
        book.comment = b"of the archive"
        for name, content in members.items():
            member = zipfile.ZipInfo(name, (2001, 2, 3, 4, 5, 6))
            member.compress_type = zipfile.ZIP_DEFLATED if "txt" in name else zipfile.ZIP_STORED
            member.external_attr, member.comment = 0o640 << 16, b"of a member"
            book.writestr(member, content)
    return path


def enlarge(source: Path, target: Path, kind: str | None = None, **options: Any) -> Report:
    plan = decide([plan_file(source, str(target), kind)], "refuse")
    return run_plan(plan, Upscaler(Nearest()), Options(**options))


def test_names_order_and_the_other_members_are_kept(tmp_path: Path) -> None:
    source, target = make_book(tmp_path / "in.cbz"), tmp_path / "out.cbz"
    report = enlarge(source, target)
    assert (report.done, report.exit_status) == (1, 0)
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target) as new:
        assert new.testzip() is None
        assert new.namelist() == list(MEMBERS)
        assert new.comment == old.comment
        for before, after in zip(old.infolist(), new.infolist(), strict=True):
            for field in ("date_time", "compress_type", "external_attr", "comment"):
                assert getattr(before, field) == getattr(after, field)
            if Path(before.filename).suffix.lower() in (".png", ".jpg", ".webp") and (
                "MACOSX" not in before.filename
            ):
                page = Image.open(io.BytesIO(new.read(after)))
                was = Image.open(io.BytesIO(old.read(before)))
                assert page.format == was.format
                assert page.size == (2 * was.width, 2 * was.height)
            else:
                assert new.read(after) == old.read(before)
    assert min(report.decoding, report.network, report.encoding) > 0


def test_a_page_equals_its_single_run(tmp_path: Path) -> None:
    target = tmp_path / "out.cbz"
    enlarge(make_book(tmp_path / "in.cbz"), target)
    (tmp_path / "page.png").write_bytes(MEMBERS["b/page 10.png"])
    enlarge(tmp_path / "page.png", tmp_path / "single.png")
    with zipfile.ZipFile(target) as book:
        assert book.read("b/page 10.png") == (tmp_path / "single.png").read_bytes()


def test_a_format_is_that_of_all_pages(tmp_path: Path) -> None:
    enlarge(make_book(tmp_path / "in.cbz"), tmp_path / "out.cbz", "png")
    with zipfile.ZipFile(tmp_path / "out.cbz") as book:
        assert "b/page 2.png" in book.namelist()
        assert book.read("cover ü.png").startswith(b"\x89PNG")


def broken(name: str, content: bytes) -> dict[str, bytes]:
    return {**MEMBERS, name: content}


@pytest.mark.parametrize(
    ("members", "error", "words"),
    [
        (broken("z.jpg", b""), UnreadableFileError, r"in\.cbz: z\.jpg: is empty"),
        (broken("z.png", picture("PNG", 50)[:-30]), UnreadableFileError, r"z\.png: is truncated"),
        (broken("cover ü.gif", picture("GIF", 5)), UsageError, None),
        (broken("b/page 10.gif", picture("GIF", 5)), UsageError, "would be twice in the book"),
        ({"read me.txt": b"x"}, UnreadableFileError, "holds no pictures"),
    ],
)
def test_a_book_is_written_whole_or_not_at_all(
    tmp_path: Path, members: dict[str, bytes], error: type[AdaPoolError], words: str | None
) -> None:
    source, target = make_book(tmp_path / "in.cbz", members), tmp_path / "out.cbz"
    if words is None:  # a GIF becomes a PNG, which meets nothing here
        enlarge(source, target)
        return
    with pytest.raises(error, match=words):
        enlarge(source, target)
    assert [path.name for path in tmp_path.iterdir()] == ["in.cbz"]


def test_a_stopped_book_leaves_nothing(tmp_path: Path) -> None:
    class Stopper(Observer):
        asked = 0

        def should_stop(self) -> bool:
            self.asked += 1
            return self.asked > 2

    source = make_book(tmp_path / "in.cbz")
    plan = decide([plan_file(source, str(tmp_path / "out.cbz"), None)], "refuse")
    with pytest.raises(Stopped):
        run_plan(plan, Upscaler(Nearest()), None, Stopper())
    assert [path.name for path in tmp_path.iterdir()] == ["in.cbz"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"Rar!\x1a\x07", "is a RAR archive; make a .cbz"), (b"PK\3\4junk", "no whole ZIP archive")],
)
def test_what_is_no_zip_archive_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    source = tmp_path / "in.cbr"
    source.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=words):
        enlarge(source, tmp_path / "out.cbz")


def test_no_cut_and_no_mutation_of_a_book_leaves_half_of_one(tmp_path: Path) -> None:
    whole = make_book(tmp_path / "in.cbz", broken("read me.txt", b"short")).read_bytes()
    rng = np.random.default_rng(0)
    source, target = tmp_path / "bad.cbz", tmp_path / "out.cbz"
    for index in range(40):
        data = bytearray(whole)
        if index % 2:
            data = data[: int(rng.integers(len(data)))]
        else:
            for at in rng.integers(0, len(data), 8):
                data[at] = int(rng.integers(256))
        source.write_bytes(data)
        try:
            enlarge(source, target)
        except AdaPoolError:
            assert not target.exists()
        else:
            with zipfile.ZipFile(target) as book:
                assert book.testzip() is None
            target.unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.cbz", "in.cbz"]


def test_a_bomb_among_the_pages_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    source = tmp_path / "in.cbz"
    with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("bomb.bmp", b"\0" * 40_000_000)
    assert source.stat().st_size < 100_000
    with pytest.raises(UnreadableFileError, match=r"bomb\.bmp: states 40,000,000 bytes.*--max-pix"):
        enlarge(source, tmp_path / "out.cbz", max_pixels=1_000_000)


def test_a_folder_takes_books_too(tmp_path: Path) -> None:
    root, out = tmp_path / "in", tmp_path / "out"
    (root / "sub").mkdir(parents=True)
    make_book(root / "sub" / "b.cbz")
    (root / "bad.cbz").write_bytes(b"PK\3\4")
    (root / "a.png").write_bytes(picture("PNG", 5))
    report = run_plan(
        decide(plan_folder(root, out, None), "refuse", folder=out), Upscaler(Nearest())
    )
    assert (report.done, len(report.failed), report.exit_status) == (2, 1, 3)
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert found == ["a.png", "sub/b.cbz"]
    again = decide(plan_folder(root, out, None), "skip", folder=out)
    assert [job.name for job in again.todo] == ["bad.cbz"]


@pytest.mark.parametrize(("source", "target"), [("in.cbz", "out.png"), ("in.png", "out.cbz")])
def test_a_book_becomes_a_book_and_nothing_else_does(
    tmp_path: Path, source: str, target: str
) -> None:
    (tmp_path / source).touch()
    with pytest.raises(UsageError, match=r"a book takes a \.cbz"):
        plan_file(tmp_path / source, str(tmp_path / target), None)


def test_progress_counts_the_pixels_of_the_whole_book(tmp_path: Path) -> None:
    class Listener(Observer):
        def __init__(self) -> None:
            self.seen: list[tuple[int, int]] = []
            self.sizes: list[tuple[int, int]] = []

        def progress(self, job: Job, done: int, total: int) -> None:
            self.seen.append((done, total))

        def finished(self, job: Job, width: int, height: int) -> None:
            self.sizes.append((width, height))

    source, listener = make_book(tmp_path / "in.cbz"), Listener()
    plan = decide([plan_file(source, f"{tmp_path}/out/", None)], "refuse")
    run_plan(plan, Upscaler(Nearest()), None, listener)
    assert listener.seen == [(60, 150), (108, 150), (150, 150)]
    assert listener.sizes == [(20, 12)]
    assert count_pages(tmp_path / "out" / "in.cbz") == 3
