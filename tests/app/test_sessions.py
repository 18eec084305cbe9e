from __future__ import annotations

import os
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from adapool_sr.files.errors import UsageError

sessions = import_module("adapool_sr.app.sessions")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def arrive(pages: Any, name: str = "a.png", content: bytes = b"picture") -> Path:
    """An upload, as Gradio lays it down: in a folder named after its content."""
    folder = Path(pages.uploads) / str(hash(content))
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


def left(pages: Any) -> list[str]:
    return sorted(path.name for path in Path(pages.root).rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("photo.jpg", "photo.jpg"),
        ("Grüße aus (Rom) #1.JPG", "Grüße aus (Rom) #1.JPG"),
        ("../../etc/passwd.png", "passwd.png"),
        ("C:\\pictures\\a.png", "a.png"),
        ("..", "picture"),
        ("", "picture"),
        (".png", "picture"),
        ("a\x00b\n.png", "ab.png"),
        ('<script>".png', "script.png"),
    ],
)
def test_a_name_becomes_one_safe_component(given: str, kept: str) -> None:
    assert sessions.safe_name(given) == kept


@pytest.mark.parametrize("name", ["ü" * 300 + ".png", "x" * 300, "a." + "b" * 300])
def test_a_long_name_still_leaves_room_for_a_suffix(name: str) -> None:
    assert 100 < len(os.fsencode(sessions.safe_name(name))) <= 180


def test_a_picture_is_taken_with_its_bytes_and_goes_with_its_page(temp: Path) -> None:
    pages = sessions.Sessions()
    source = pages.get("one").take(arrive(pages), "mine.png")
    assert source.read_bytes() == b"picture"
    assert source.name == "mine.png"
    assert oct(Path(pages.root).stat().st_mode)[-3:] == "700"
    pages.close("one")
    assert left(pages) == [".lock"]
    pages.close("one")  # twice is fine
    pages.end()
    assert list(temp.iterdir()) == []


def test_equal_uploads_of_two_pages_go_with_the_last_one(temp: Path) -> None:
    pages = sessions.Sessions()
    for key in ("one", "two"):
        pages.get(key).take(arrive(pages), "a.png")
    pages.close("one")
    assert left(pages) == [".lock", "a.png", "a.png"]
    pages.close("two")
    assert left(pages) == [".lock"]
    pages.end()


def test_a_silent_page_goes_within_the_hour_and_an_open_one_stays(temp: Path) -> None:
    clock = Clock()
    pages = sessions.Sessions(clock)
    for key in ("silent", "open"):
        pages.get(key).take(arrive(pages, f"{key}.png", key.encode()), f"{key}.png")
    assert sessions.KEPT_SECONDS + sessions.SWEEP_SECONDS < 3600
    clock.now = sessions.KEPT_SECONDS - 1
    pages.touch("open")
    pages.sweep()
    assert len(pages) == 2
    clock.now += 2
    pages.sweep()
    assert len(pages) == 1
    assert left(pages) == [".lock", "open.png", "open.png"]
    pages.end()


def test_an_upload_that_no_page_took_goes_within_the_hour(temp: Path) -> None:
    pages = sessions.Sessions()
    old, new = arrive(pages, "old.png", b"old"), arrive(pages, "new.png", b"new")
    past = time.time() - sessions.KEPT_SECONDS - 1
    os.utime(old, (past, past))
    pages.sweep()
    assert not old.exists()
    assert not old.parent.exists()
    assert new.exists()
    pages.end()


def test_only_uploads_are_taken(temp: Path) -> None:
    pages = sessions.Sessions()
    other = temp / "secret.png"
    other.touch()
    link = Path(pages.uploads) / "link.png"
    link.symlink_to(other)
    for path in (str(other), f"{pages.uploads}/../../secret.png", str(link), "", "/etc/passwd"):
        with pytest.raises(UsageError, match="has not arrived"):
            pages.uploaded(path)
    assert pages.uploaded(str(arrive(pages))).name == "a.png"
    pages.end()


def test_an_address_reaches_only_its_own_sessions_files(temp: Path) -> None:
    pages = sessions.Sessions()
    one, two = pages.get("one"), pages.get("two")
    mine = one.take(arrive(pages), "mine.png")
    assert pages.file(one.token, "1", "mine.png") == mine
    assert pages.file(two.token, "1", "mine.png") is None
    assert pages.file("", "1", "mine.png") is None
    assert pages.file(two.token, "..", f"{one.token}/1/mine.png") is None
    assert pages.file(one.token, "1", "../../../.lock") is None
    assert pages.file(one.token, "1", "") is None
    pages.end()


def test_tidying_keeps_the_chosen_picture_alone(temp: Path) -> None:
    pages = sessions.Sessions()
    session = pages.get("one")
    session.take(arrive(pages, content=b"first"), "first.png")
    (session.new_folder() / "result.png").touch()
    source = session.take(arrive(pages, content=b"second"), "second.png")
    session.tidy()
    assert [path.name for path in session.folder.rglob("*.png")] == ["second.png"]
    assert source.read_bytes() == b"second"
    pages.end()


def test_what_a_killed_server_left_is_deleted_and_a_running_ones_is_not(temp: Path) -> None:
    killed = temp / "adapool-sr-page-killed"
    killed.mkdir()
    (killed / ".lock").touch()
    (killed / "picture.png").touch()
    running = sessions.Sessions()
    assert not killed.exists()
    other = sessions.Sessions()
    assert Path(running.root).exists()
    running.end()
    other.end()


def test_closing_waits_until_the_job_let_go(temp: Path) -> None:
    class Slow:
        def __init__(self) -> None:
            self.ended = threading.Event()

        def stop(self) -> None:
            threading.Timer(0.2, self.ended.set).start()

        def wait(self) -> bool:
            return self.ended.wait(5)

    pages = sessions.Sessions()
    slow = pages.get("one").job = Slow()
    pages.close("one")
    assert slow.ended.is_set()
    pages.end()
