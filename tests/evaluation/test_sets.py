from pathlib import Path

import pytest

from adapool_sr.evaluation import picture_sets
from adapool_sr.files.errors import MissingFileError, UsageError


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for name in ("one/a10.png", "one/a2.png", "two/b.jpg", "x=y/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "none").mkdir()
    return tmp_path


def test_sets_take_the_given_name_or_the_folders(folders: Path) -> None:
    sets = picture_sets([f"First={folders}/one", f"{folders}/two/"])
    assert [group.name for group in sets] == ["First", "two"]
    assert [path.name for path in sets[0].paths] == ["a2.png", "a10.png"]
    assert sets[1].folder == folders / "two"


def test_one_folder_and_a_mapping_do_too(folders: Path) -> None:
    assert picture_sets(folders / "one")[0].name == "one"
    assert picture_sets({"a": folders / "one", "b": folders / "two"})[1].name == "b"


def test_a_folder_whose_name_holds_an_equals_sign_is_itself(folders: Path) -> None:
    (only,) = picture_sets([f"{folders}/x=y"])
    assert only.name == "x=y"


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        (["A=nowhere"], MissingFileError, "nowhere: no such folder"),
        (["none"], MissingFileError, "none: holds no pictures; give a folder of"),
        (["one/a2.png"], UsageError, "is a file where a folder is expected"),
        (["A=one", "A=two"], UsageError, "two: is a second set named 'A'; name it: NAME="),
        ([], UsageError, "data: names no folder"),
    ],
)
def test_what_is_no_set_is_refused(
    folders: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: list[str],
    error: type[Exception],
    words: str,
) -> None:
    monkeypatch.chdir(folders)
    with pytest.raises(error, match=words):
        picture_sets(given)
