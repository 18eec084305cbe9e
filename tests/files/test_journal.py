from __future__ import annotations

from pathlib import Path

import pytest

from adapool_sr.files.errors import UsageError
from adapool_sr.files.journal import JOURNAL_NAME, Journal, Stamp, read_past, refuse_running
from adapool_sr.files.writing import part_path

SETTINGS = {"scale": 2.0, "model": "tiny-x2"}


def begin(folder: Path, *, resumed: bool = False) -> None:
    with Journal(folder) as journal:
        journal.begin(SETTINGS, ["a.png", "b.png"], ["kept.png"], resumed=resumed)
        journal.finished("a.png", Stamp(10, 20))


def test_what_was_noted_is_read_back(tmp_path: Path) -> None:
    begin(tmp_path)
    past = read_past(tmp_path)
    assert past is not None
    assert past.settings == SETTINGS
    assert past.outputs == {"a.png", "b.png"}
    assert past.kept == {"kept.png"}
    assert past.done == {"a.png": Stamp(10, 20)}


def test_a_journal_torn_at_any_byte_is_read_as_far_as_it_is_whole(tmp_path: Path) -> None:
    begin(tmp_path)
    path = tmp_path / JOURNAL_NAME
    content = path.read_bytes()
    heading_end = content.index(b"}\n", 5) + 1
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        past = read_past(tmp_path)
        assert (past is None) == (cut < heading_end), cut
        if past is not None:
            assert set(past.done) <= {"a.png"}


def test_a_resumed_run_adds_to_a_torn_journal(tmp_path: Path) -> None:
    begin(tmp_path)
    path = tmp_path / JOURNAL_NAME
    path.write_bytes(path.read_bytes() + b'{"input": "b.p')
    with Journal(tmp_path) as journal:
        journal.begin(SETTINGS, ["a.png", "b.png", "c.png"], [], resumed=True)
        journal.finished("c.png", Stamp(1, 2))
    past = read_past(tmp_path)
    assert past is not None
    assert set(past.done) == {"a.png", "c.png"}
    assert past.outputs == {"a.png", "b.png", "c.png"}


def test_a_run_that_starts_anew_forgets_what_was_done(tmp_path: Path) -> None:
    begin(tmp_path)
    with Journal(tmp_path) as journal:
        journal.begin(SETTINGS, ["a.png"], [], resumed=False)
    past = read_past(tmp_path)
    assert past is not None
    assert past.done == {}


def test_parts_of_a_killed_run_are_cleared_away(tmp_path: Path) -> None:
    begin(tmp_path)
    part = part_path(tmp_path / "b.png")
    part.write_bytes(b"half")
    begin(tmp_path, resumed=True)
    assert not part.exists()


def test_parts_beside_what_a_link_points_to_are_cleared_away(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "b.png").symlink_to(elsewhere / "b.png")
    begin(tmp_path)
    part = part_path(elsewhere / "b.png")
    part.write_bytes(b"half")
    begin(tmp_path, resumed=True)
    assert not part.exists()


def test_outputs_that_a_watching_run_expects_later_are_known(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.begin(SETTINGS, [], [], resumed=False)
        journal.expect(["c.png"])
        journal.finished("c.png", Stamp(1, 2))
    past = read_past(tmp_path)
    assert past is not None
    assert past.outputs == {"c.png"}
    assert set(past.done) == {"c.png"}


def test_a_running_run_is_seen_without_a_trace(tmp_path: Path) -> None:
    refuse_running(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with Journal(tmp_path), pytest.raises(UsageError, match="another run is writing here"):
        refuse_running(tmp_path)
    begin(tmp_path)
    refuse_running(tmp_path)


def test_a_journal_that_nothing_was_written_to_is_removed(tmp_path: Path) -> None:
    with Journal(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    with (
        Journal(tmp_path),
        pytest.raises(UsageError, match="another run is writing here"),
    ):
        Journal(tmp_path)
    Journal(tmp_path).__exit__(None, None, None)


def test_a_completed_run_leaves_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.begin(SETTINGS, ["a.png"], [], resumed=False)
        journal.complete()
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_no_text_survive(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.begin(SETTINGS, ["\udcff.png"], [], resumed=False)
        journal.finished("\udcff.png", Stamp(1, 2))
    past = read_past(tmp_path)
    assert past is not None
    assert set(past.done) == {"\udcff.png"}


def test_a_foreign_file_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / JOURNAL_NAME).write_bytes(b"\x00\xff[1, 2]\n3\n{}\n")
    assert read_past(tmp_path) is None
    assert read_past(tmp_path / "absent") is None
