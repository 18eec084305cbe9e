from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapool_sr.files.errors import MissingFileError, OutputExistsError, UsageError
from adapool_sr.files.journal import Journal, Stamp
from adapool_sr.inference.planning import Job, decide, plan_file, plan_folder

SETTINGS = {"scale": 2.0, "model": "m"}


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def targets(jobs: list[Job], root: Path) -> list[str]:
    return [str(job.target.relative_to(root)) for job in jobs if job.target]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    make(tmp_path / "in", "a.jpeg", "b.gif", "sub/c.PNG", "sub/d.e.webp")
    return tmp_path / "in"


# --- names -----------------------------------------------------------------------------------


def test_a_folders_tree_is_mirrored_and_only_suffixes_follow_the_format(photos: Path) -> None:
    out = photos.parent / "out"
    assert targets(plan_folder(photos, out, None), out) == [
        "a.jpeg",
        "b.png",
        "sub/c.PNG",
        "sub/d.e.webp",
    ]
    assert targets(plan_folder(photos, out, "jpg"), out) == [
        "a.jpeg",
        "b.jpg",
        "sub/c.jpg",
        "sub/d.e.jpg",
    ]
    assert not out.exists()


def test_a_pattern_takes_a_part_of_the_tree_and_keeps_its_shape(photos: Path) -> None:
    out = photos.parent / "out"
    jobs = plan_folder(photos, out, None, pattern="**/*.[wg]*")
    assert targets(jobs, out) == ["b.png", "sub/d.e.webp"]
    with pytest.raises(MissingFileError, match=r"in/\*\.bmp: matches no picture; all below it"):
        plan_folder(photos, out, None, pattern="*.bmp")


def test_the_output_folder_may_lie_inside_the_input(photos: Path) -> None:
    make(photos, "out/a.jpeg")
    assert len(plan_folder(photos, photos / "out", None)) == 4


@pytest.mark.parametrize(
    ("output", "kind", "name", "written"),
    [
        ("new/x.webp", None, "new/x.webp", "webp"),
        ("x.JPG", "jpg", "x.JPG", "jpg"),
        ("plain", "webp", "plain", "webp"),
        ("folder/", None, "folder/a.jpeg", "jpg"),
        ("folder/", "png", "folder/a.png", "png"),
    ],
)
def test_a_files_output_is_a_name_or_a_folder(
    photos: Path, output: str, kind: str | None, name: str, written: str
) -> None:
    root = photos.parent
    job = plan_file(photos / "a.jpeg", f"{root}/{output}", kind)
    assert job.target == root / name
    assert job.kind == written


@pytest.mark.parametrize(
    ("output", "kind", "words"),
    [
        ("x.gif", None, r"'\.gif' is no format that is written; end it in"),
        ("x", None, "has no suffix"),
        ("x.png", "jpg", "--format jpg: contradicts the output's name"),
        ("in/a.jpeg", None, "is the input"),
        ("in/../in/a.jpeg", None, "is the input"),
    ],
)
def test_an_output_that_cannot_be_meant_is_refused(
    photos: Path, output: str, kind: str | None, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        plan_file(photos / "a.jpeg", f"{photos.parent}/{output}", kind)


def test_an_output_that_is_an_input_by_a_link_is_refused(photos: Path) -> None:
    out = photos.parent / "out"
    out.mkdir()
    os.link(photos / "sub" / "c.PNG", out / "a.jpeg")
    with pytest.raises(UsageError, match=r"out/a\.jpeg': is the input sub/c\.PNG"):
        plan_folder(photos, out, None)
    with pytest.raises(UsageError, match=r"is the input a\.jpeg"):
        plan_folder(photos, photos, None)


def test_two_inputs_that_would_meet_are_refused(photos: Path) -> None:
    make(photos, "a.png", "sub/d.e.bmp")
    with pytest.raises(UsageError, match=r"made from a\.jpeg and a\.png \(2 outputs are shared"):
        plan_folder(photos, photos.parent / "out", "png")


def test_folders_and_files_are_not_mixed_up(photos: Path) -> None:
    root = photos.parent
    (root / "file").touch()
    (root / "empty").mkdir()
    with pytest.raises(UsageError, match="is a file; a folder of inputs takes a folder"):
        plan_folder(photos, root / "file", None)
    with pytest.raises(UsageError, match="is the name of a picture"):
        plan_folder(photos, root / "out.png", None)
    with pytest.raises(UsageError, match="empty: holds no pictures"):
        plan_folder(root / "empty", root / "out", None)
    with pytest.raises(MissingFileError, match="no such file or folder"):
        plan_file(root / "absent.png", "x.png", None)


# --- what exists -----------------------------------------------------------------------------


def test_existing_outputs_are_counted_and_three_are_named(tmp_path: Path) -> None:
    make(tmp_path / "in", *(f"{i}.png" for i in range(6)))
    make(tmp_path / "out", *(f"{i}.png" for i in range(5)))
    jobs = plan_folder(tmp_path / "in", tmp_path / "out", None)
    with pytest.raises(OutputExistsError) as caught:
        decide(jobs, "refuse", folder=tmp_path / "out")
    text = str(caught.value)
    assert text.startswith("5 outputs exist: ")
    assert text.count(".png") == 3
    assert "and 2 more" in text
    assert "--overwrite replaces, --skip keeps" in text
    assert "--resume" not in text


def test_skip_keeps_and_overwrite_replaces(photos: Path) -> None:
    out = photos.parent / "out"
    make(out, "a.jpeg")
    jobs = plan_folder(photos, out, None)
    skipping = decide(jobs, "skip", folder=out)
    assert [job.name for job in skipping.skipped] == ["a.jpeg"]
    assert len(skipping.todo) == 3
    assert len(decide(jobs, "overwrite", folder=out).todo) == 4


def test_a_dangling_link_counts_as_existing(photos: Path) -> None:
    out = photos.parent / "x.png"
    out.symlink_to("nowhere")
    with pytest.raises(OutputExistsError, match=r"x\.png: exists"):
        decide([plan_file(photos / "a.jpeg", str(out), None)], "refuse")


# --- resuming --------------------------------------------------------------------------------


@pytest.fixture
def interrupted(photos: Path) -> Path:
    """A run that had finished a.jpeg, written b.png without noting it, and kept sub/c.PNG."""
    out = photos.parent / "out"
    make(out, "a.jpeg", "b.png", "sub/c.PNG")
    with Journal(out) as journal:
        journal.begin(SETTINGS, ["a.jpeg", "b.png", "sub/d.e.webp"], ["sub/c.PNG"], resumed=False)
        journal.finished("a.jpeg", Stamp.of(photos / "a.jpeg"))
    return out


def names(jobs: object) -> list[str]:
    return [job.name for job in jobs]  # type: ignore[attr-defined]


def test_resume_keeps_what_was_finished_and_redoes_the_rest(
    photos: Path, interrupted: Path
) -> None:
    jobs = plan_folder(photos, interrupted, None)
    plan = decide(jobs, "resume", folder=interrupted, settings=SETTINGS)
    assert names(plan.resumed) == ["a.jpeg"]
    assert names(plan.skipped) == ["sub/c.PNG"]
    assert names(plan.todo) == ["b.gif", "sub/d.e.webp"]


def test_an_input_that_changed_is_redone(photos: Path, interrupted: Path) -> None:
    os.utime(photos / "a.jpeg", ns=(1, 1))
    jobs = plan_folder(photos, interrupted, None)
    plan = decide(jobs, "resume", folder=interrupted, settings=SETTINGS)
    assert "a.jpeg" in names(plan.todo)


def test_an_output_that_is_gone_is_redone(photos: Path, interrupted: Path) -> None:
    (interrupted / "a.jpeg").unlink()
    jobs = plan_folder(photos, interrupted, None)
    assert "a.jpeg" in names(decide(jobs, "resume", folder=interrupted, settings=SETTINGS).todo)


def test_an_output_the_interrupted_run_knew_nothing_of_is_not_replaced(
    photos: Path, interrupted: Path
) -> None:
    make(photos, "new.png")
    make(interrupted, "new.png")
    jobs = plan_folder(photos, interrupted, None)
    with pytest.raises(OutputExistsError, match=r"new\.png: exists"):
        decide(jobs, "resume", folder=interrupted, settings=SETTINGS)


def test_other_settings_are_refused_and_named(photos: Path, interrupted: Path) -> None:
    jobs = plan_folder(photos, interrupted, None)
    with pytest.raises(UsageError, match=r"--resume: .*scale 2\.0 then, 3\.0 now"):
        decide(jobs, "resume", folder=interrupted, settings={**SETTINGS, "scale": 3.0})


def test_a_plain_run_over_an_interrupted_one_is_told_of_resume(
    photos: Path, interrupted: Path
) -> None:
    jobs = plan_folder(photos, interrupted, None)
    with pytest.raises(OutputExistsError, match="--resume continues the interrupted run"):
        decide(jobs, "refuse", folder=interrupted, settings=SETTINGS)


def test_resume_without_a_journal_is_a_plain_run(photos: Path) -> None:
    out = photos.parent / "out"
    jobs = plan_folder(photos, out, None)
    assert len(decide(jobs, "resume", folder=out, settings=SETTINGS).todo) == 4
    make(out, "a.jpeg")
    with pytest.raises(OutputExistsError, match=r"a\.jpeg: exists"):
        decide(jobs, "resume", folder=out, settings=SETTINGS)
