from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from adapool_sr.files.errors import MissingFileError, UsageError
from adapool_sr.io.listing import count_others, format_of, list_images, matches, split_pattern


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(root: Path, **options: object) -> list[str]:
    return [str(path.relative_to(root)) for path in list_images(root, **options)]  # type: ignore[arg-type]


def test_numbers_count_as_numbers_and_case_does_not(tmp_path: Path) -> None:
    make(tmp_path, "img10.png", "img2.png", "Img1.png", "img²3.png", "sub/9.jpg", "a/img1.png")
    assert names(tmp_path) == [
        "a/img1.png",
        "Img1.png",
        "img2.png",
        "img10.png",
        "img²3.png",
        "sub/9.jpg",
    ]


def test_what_systems_leave_and_other_files_are_passed_over(tmp_path: Path) -> None:
    make(tmp_path, "a.PNG", ".DS_Store", "._a.png", "Thumbs.db", "notes.txt", "desktop.ini")
    make(tmp_path, "__MACOSX/b.png", "@eaDir/c.jpg", ".cache/d.png", "deep/er/e.webp")
    make(
        tmp_path, "deep/@eaDir/a.PNG/SYNOPHOTO_THUMB_XL.jpg", "#recycle/f.png", "$RECYCLE.BIN/g.jpg"
    )
    make(tmp_path, "@Recycle/h.png", "System Volume Information/i.png", "lost+found/j.png")
    assert names(tmp_path) == ["a.PNG", "deep/er/e.webp"]
    assert names(tmp_path, recursive=False) == ["a.PNG"]


def test_the_output_folder_inside_is_no_input(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "out/a.png", "out/deep/b.png", "other/out/c.png")
    assert names(tmp_path, without=[tmp_path / "out"]) == ["a.png", "other/out/c.png"]


def test_linked_folders_are_not_entered(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert names(tmp_path) == ["a.png"]


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such folder"):
        list_images(tmp_path / "absent")
    make(tmp_path, "a.png")
    with pytest.raises(UsageError, match="is a file where a folder is expected"):
        list_images(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("text", "root", "pattern"),
    [
        ("photos/**/*.jpg", "photos", "**/*.jpg"),
        ("*.png", ".", "*.png"),
        ("/a/b/20??/x[0-9].png", "/a/b", "20??/x[0-9].png"),
        ("../a/*/c/*", "../a", "*/c/*"),
    ],
)
def test_a_patterns_folder_is_what_comes_before_the_first_wildcard(
    text: str, root: str, pattern: str
) -> None:
    assert split_pattern(text) == (Path(root), pattern)


def test_what_exists_under_that_name_or_has_no_wildcard_is_no_pattern(tmp_path: Path) -> None:
    make(tmp_path, "a[1].png", "what?.png")
    for name in ("a[1].png", "what?.png", "absent.png", "half[.png"):
        assert split_pattern(str(tmp_path / name)) is None


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jpg", ["a.jpg"]),
        ("**/*.jpg", ["a.jpg", "x/b.jpg", "x/y/c.jpg"]),
        ("x/**/*.jpg", ["x/b.jpg", "x/y/c.jpg"]),
        ("**", ["a.jpg", "d.png", "x/b.jpg", "x/y/c.jpg"]),
        ("*/*", ["x/b.jpg"]),
        ("**/[bc].*", ["x/b.jpg", "x/y/c.jpg"]),
        ("*.JPG", []),
    ],
)
def test_patterns_match_as_in_a_shell(pattern: str, found: list[str]) -> None:
    paths = ["a.jpg", "d.png", "x/b.jpg", "x/y/c.jpg"]
    assert [path for path in paths if matches(Path(path), pattern)] == found


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.PNG", "png"), ("a.b.jpeg", "jpg"), ("a.webp", "webp"), ("a.tif", "tiff"), ("a.gif", None)],
)
def test_the_suffix_names_the_format(name: str, kind: str | None) -> None:
    assert format_of(Path(name)) == kind


def test_listing_and_planning_need_neither_torch_nor_pillow() -> None:
    code = (
        "import sys, adapool_sr.io.listing, adapool_sr.inference.planning, "
        "adapool_sr.inference.tiles, adapool_sr.inference.report, adapool_sr.cli.upscale; "
        "print([m for m in ('torch', 'PIL', 'numpy', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_files_of_other_kinds_are_counted_but_not_those_of_a_system(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "out").mkdir()
    for name in ("a.png", "b.cbz", "c.CR2", "sub/noname", "Thumbs.db", ".DS_Store", "out/x.txt"):
        (tmp_path / name).touch()
    assert count_others(tmp_path, without=[tmp_path / "out"]) == 2
