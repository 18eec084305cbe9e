from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adapool_sr.files.errors import UnwritableFileError, UsageError
from adapool_sr.files.writing import check_writable, open_locked, part_path, whole, write_whole


def test_the_name_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    place = tmp_path / "result"
    with whole(place) as file:
        file.write(b"all")
        file.flush()
        assert not place.exists()
        assert part_path(place).read_bytes() == b"all"
    assert place.read_bytes() == b"all"
    assert os.listdir(tmp_path) == ["result"]


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt()])
def test_a_raising_block_leaves_the_old_file_and_no_part(
    tmp_path: Path, error: BaseException
) -> None:
    place = tmp_path / "result"
    place.write_bytes(b"old")
    with pytest.raises(type(error)), whole(place) as file:  # noqa: PT012 - the block is the test
        file.write(b"half")
        raise error
    assert place.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["result"]


def test_what_a_killed_run_left_is_not_in_the_result(tmp_path: Path) -> None:
    place = tmp_path / "result"
    part_path(place).write_bytes(b"a long piece of an earlier run")
    write_whole(place, b"new")
    assert place.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["result"]


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "я" * 125 + ".png", "a\udcff $'\" b.png"])
def test_names_at_the_limit_of_the_file_system_are_written(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    write_whole(place, b"content")
    assert place.read_bytes() == b"content"
    assert len(os.listdir(tmp_path)) == 1


def test_a_link_is_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_whole(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_missing_folder_is_an_unwritable_file(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFileError, match="absent/result: could not be written"):
        write_whole(tmp_path / "absent" / "result", b"")


def test_a_full_disk_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnwritableFileError, match=r"No space left on device.*free some space"):
        write_whole(tmp_path / "result", b"content")
    assert os.listdir(tmp_path) == []


def test_two_processes_do_not_write_one_file_at_once(tmp_path: Path) -> None:
    place = tmp_path / "result"
    code = (
        "import sys; from adapool_sr.files.writing import write_whole\n"
        "try: write_whole(sys.argv[1], b'theirs')\n"
        "except OSError as error: print(error)"
    )
    with whole(place) as file:
        file.write(b"ours")
        other = subprocess.run(
            [sys.executable, "-c", code, str(place)], capture_output=True, text=True, check=True
        )
        assert "is being written by another process" in other.stdout
    assert place.read_bytes() == b"ours"


def test_a_dead_process_holds_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import os, sys; from pathlib import Path\n"
        "from adapool_sr.files.writing import open_locked\n"
        "file = open_locked(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    file = open_locked(path)
    assert file is not None
    file.close()


def test_an_output_below_a_file_or_onto_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    check_writable(tmp_path / "new" / "deeper" / "result.png")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        check_writable(tmp_path / "file" / "result.png")
    with pytest.raises(UsageError, match="is a folder"):
        check_writable(tmp_path)


def test_a_folder_without_the_right_to_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(UsageError, match="may not write into"):
        check_writable(tmp_path / "result.png")
