from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from adapool_sr.files.errors import (
    FullDiskError,
    OutputExistsError,
    UnreadableFileError,
    UnwritableFileError,
    UsageError,
)
from adapool_sr.files.journal import JOURNAL_NAME, Journal
from adapool_sr.files.writing import unwritable, write_whole
from adapool_sr.inference import batch, steps
from adapool_sr.inference.batch import Observer, Options, run_plan
from adapool_sr.inference.planning import Job, Plan, decide, plan_file, plan_folder
from adapool_sr.inference.sizes import Size
from adapool_sr.inference.upscaler import Stopped, Upscaler
from adapool_sr.inference.verifying import Verdict
from adapool_sr.io import images


class Nearest(nn.Module):
    scale, size_multiple, receptive_radius = 2, 1, 0

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2)


class Recorder(Observer):
    def __init__(self) -> None:
        self.done: list[str] = []
        self.errors: list[str] = []
        self.words: list[str] = []
        self.threads: set[int] = set()

    def progress(self, job: Job, done: int, total: int) -> None:
        self.threads.add(threading.get_ident())

    def finished(self, job: Job, width: int, height: int) -> None:
        self.threads.add(threading.get_ident())
        self.done.append(f"{job.name} {width}x{height}")

    def failed(self, job: Job, error: Exception) -> None:
        self.errors.append(f"{job.name}: {type(error).__name__}")

    def warning(self, job: Job, text: str) -> None:
        self.words.append(f"{job.name}: {text}")


@pytest.fixture
def upscaler() -> Upscaler:
    return Upscaler(Nearest())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(4):
        pixels = rng.integers(0, 256, (5, 3 + index, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{index}.png")
    Image.fromarray(pixels[:, :, 0]).save(root / "sub" / "grey.webp", lossless=True)
    return root


def plan(photos: Path, policy: Any = "refuse", **settings: Any) -> Plan:
    out = photos.parent / "out"
    return decide(plan_folder(photos, out, None), policy, folder=out, settings=settings)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


ALL = ["0.png", "1.png", "2.png", "3.png", "sub/grey.webp"]


@pytest.mark.parametrize("jobs", [1, 3, 9])
def test_every_file_of_a_folder_is_done_and_nothing_else_is_left(
    photos: Path, upscaler: Upscaler, jobs: int
) -> None:
    seen = Recorder()
    report = run_plan(plan(photos), upscaler, Options(jobs=jobs), seen)
    assert files(photos.parent / "out") == ALL
    assert (report.done, report.failed, report.exit_status) == (5, [], 0)
    assert seen.done == [
        "0.png 6x10",
        "1.png 8x10",
        "2.png 10x10",
        "3.png 12x10",
        "sub/grey.webp 12x10",
    ]
    assert seen.threads == {threading.get_ident()}
    assert min(report.decoding, report.network, report.encoding) > 0
    result = np.asarray(Image.open(photos.parent / "out" / "2.png"))
    assert np.array_equal(result[::2, ::2], np.asarray(Image.open(photos / "2.png")))


def test_a_folder_run_equals_single_runs_byte_for_byte(photos: Path) -> None:
    from adapool_sr.models.sr import AdaPoolSR

    torch.manual_seed(0)
    net = AdaPoolSR(widths=(4, 4), blocks=(0, 1))
    nn.init.normal_(net.tail.weight, std=0.05)
    upscaler = Upscaler(net)
    run_plan(plan(photos), upscaler, Options(jobs=3))
    for name in ALL:
        single = photos.parent / "single" / name
        run_plan(decide([plan_file(photos / name, str(single), None)], "refuse"), upscaler)
        assert single.read_bytes() == (photos.parent / "out" / name).read_bytes(), name


def test_bad_files_are_named_and_the_rest_is_done(photos: Path, upscaler: Upscaler) -> None:
    (photos / "1.png").write_bytes((photos / "1.png").read_bytes()[:60])
    (photos / "2.png").write_bytes(b"")
    rgba = Image.new("RGBA", (4, 4), (1, 2, 3, 4))
    rgba.save(photos / "cut-out.png")
    (photos / "cut-out.png").rename(photos / "cut-out.jpg")  # a JPEG's name, so a JPEG result
    seen = Recorder()
    report = run_plan(plan(photos), upscaler, observer=seen)
    assert files(photos.parent / "out") == ["0.png", "3.png", "sub/grey.webp"]
    assert sorted(seen.errors) == [
        "1.png: UnreadableFileError",
        "2.png: UnreadableFileError",
        "cut-out.jpg: UsageError",
    ]
    assert report.exit_status == 3
    assert "3 failed" in report.words()


def test_a_single_files_error_is_raised(photos: Path, upscaler: Upscaler) -> None:
    (photos / "1.png").write_bytes(b"")
    job = plan_file(photos / "1.png", str(photos.parent / "x.png"), None)
    with pytest.raises(UnreadableFileError, match=r"1\.png: is empty"):
        run_plan(Plan([job]), upscaler)
    assert not (photos.parent / "x.png").exists()


def test_an_unforeseen_error_costs_one_file(
    photos: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    upscale = upscaler.upscale_picture

    def fails_on_wide(picture: Any, *rest: Any) -> Any:
        if picture.width == 4:
            raise RuntimeError("the unforeseen")
        return upscale(picture, *rest)

    monkeypatch.setattr(upscaler, "upscale_picture", fails_on_wide)
    seen = Recorder()
    report = run_plan(plan(photos), upscaler, observer=seen)
    assert seen.errors == ["1.png: RuntimeError"]
    assert report.done == 4


def test_a_result_that_cannot_be_written_costs_one_file(
    photos: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        if path.name == "2.png":
            raise UnwritableFileError(str(path), "could not be written (Permission denied)")
        path.write_bytes(content)

    monkeypatch.setattr(batch, "write_whole", full)
    report = run_plan(plan(photos), upscaler)
    assert report.failed == [
        ("2.png", f"{photos.parent}/out/2.png: could not be written (Permission denied)")
    ]


def test_a_run_with_failures_leaves_nothing_and_skip_does_them_again(
    photos: Path, upscaler: Upscaler
) -> None:
    out = photos.parent / "out"
    whole = (photos / "1.png").read_bytes()
    (photos / "1.png").write_bytes(whole[:60])
    report = run_plan(plan(photos), upscaler)
    assert (report.done, report.exit_status) == (4, 3)
    assert files(out) == [name for name in ALL if name != "1.png"]
    before = {name: (out / name).stat().st_mtime_ns for name in ALL if name != "1.png"}
    (photos / "1.png").write_bytes(whole)
    seen = Recorder()
    last = run_plan(plan(photos, "skip"), upscaler, observer=seen)
    assert seen.done == ["1.png 8x10"]
    assert (last.done, last.skipped, last.exit_status) == (1, 4, 0)
    assert files(out) == ALL
    assert before == {name: (out / name).stat().st_mtime_ns for name in before}


def test_a_full_disk_ends_the_run_and_resume_goes_on(
    photos: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes) -> None:
        if path.name == "2.png":
            raise unwritable(path, OSError(28, "No space left on device"))
        write_whole(path, content)

    monkeypatch.setattr(batch, "write_whole", full)
    with pytest.raises(FullDiskError, match=r"2\.png: .*No space .*then go on with --resume"):
        run_plan(plan(photos), upscaler)
    out = photos.parent / "out"
    left = files(out)
    assert left[:3] == [JOURNAL_NAME, "0.png", "1.png"]
    assert not any(name.endswith(".part") for name in left)
    monkeypatch.undo()
    report = run_plan(plan(photos, "resume"), upscaler)
    assert report.done + report.resumed == 5
    assert report.resumed >= 2
    assert files(out) == ALL


def test_a_disk_without_room_for_a_line_keeps_no_journal(
    photos: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FullDiskError, match=r"adapool-sr\.json: could not be written"):
        run_plan(plan(photos), upscaler)
    assert files(photos.parent / "out") == []


def test_an_encoder_that_refuses_is_told_of_the_file(
    photos: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise UnwritableFileError("6x10 png", "the encoder refused (it is late)")

    monkeypatch.setattr(steps, "to_bytes", refuse)
    job = plan_file(photos / "0.png", str(photos.parent / "x.png"), None)
    with pytest.raises(UnwritableFileError, match=r"x\.png: the encoder refused"):
        run_plan(Plan([job]), upscaler)


def test_what_a_format_cannot_hold_is_told(photos: Path, upscaler: Upscaler) -> None:
    deep = np.full((3, 3), 40000, np.uint16)
    Image.fromarray(deep).save(photos / "deep.png")
    seen = Recorder()
    job = plan_file(photos / "deep.png", str(photos.parent / "x.jpg"), None)
    run_plan(Plan([job]), upscaler, observer=seen)
    assert seen.words == [f"{photos}/deep.png: 16 bits become 8, all that jpg holds"]
    assert np.asarray(Image.open(photos.parent / "x.jpg"))[0, 0] == 156


def test_content_comes_from_memory_and_goes_to_standard_output(
    photos: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Output:
        buffer = io.BytesIO()

    monkeypatch.setattr("sys.stdout", Output)
    job = Job("standard input", (photos / "0.png").read_bytes(), None, "png")
    assert run_plan(Plan([job]), upscaler).done == 1
    assert Image.open(io.BytesIO(Output.buffer.getvalue())).size == (6, 10)


class Interrupting(Recorder):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def progress(self, job: Job, done: int, total: int) -> None:
        if job.name == self.name:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", ALL)
def test_an_interrupted_run_leaves_whole_files_and_is_resumed(
    photos: Path, upscaler: Upscaler, name: str
) -> None:
    out = photos.parent / "out"
    with pytest.raises(KeyboardInterrupt):
        run_plan(plan(photos), upscaler, observer=Interrupting(name))
    left = files(out)
    assert JOURNAL_NAME in left
    assert not any(name.endswith(".part") for name in left)
    for done in left:
        if done != JOURNAL_NAME:
            Image.open(out / done).load()
    before = {path: (out / path).stat().st_mtime_ns for path in left}
    seen = Recorder()
    report = run_plan(plan(photos, "resume"), upscaler, observer=seen)
    assert files(out) == ALL
    assert report.done + report.resumed == 5
    assert report.resumed == len(left) - 1
    kept = [p for p in ALL if before.get(p) == (out / p).stat().st_mtime_ns]
    assert len(kept) == report.resumed


def test_a_live_run_keeps_others_out(photos: Path, upscaler: Upscaler) -> None:
    out = photos.parent / "out"
    out.mkdir()
    plan_before = plan(photos)
    with Journal(out), pytest.raises(UsageError, match="another run is writing here"):
        run_plan(plan_before, upscaler)
    assert files(out) == []
    with Journal(out), pytest.raises(UsageError, match="another run is writing here"):
        plan(photos)


def test_a_run_that_ended_meanwhile_is_not_written_over(photos: Path, upscaler: Upscaler) -> None:
    early = plan(photos)  # looked before the other run had anything
    run_plan(plan(photos), upscaler)
    before = {name: (photos.parent / "out" / name).stat().st_mtime_ns for name in ALL}
    with pytest.raises(OutputExistsError, match="5 outputs exist"):
        run_plan(early, upscaler)
    assert files(photos.parent / "out") == ALL
    assert before == {name: (photos.parent / "out" / name).stat().st_mtime_ns for name in ALL}


def test_reading_the_network_and_writing_overlap(
    photos: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each stage of a later file waits for another file's stage: in sequence this would hang.
    second_read, first_through = threading.Event(), threading.Event()
    upscale = upscaler.upscale_picture

    def reading(source: Path, *rest: Any) -> Any:
        picture = images.read(source, *rest)
        if source.name == "1.png":
            second_read.set()
        return picture

    def enlarging(picture: Any, *rest: Any) -> Any:
        if picture.width == 3:  # 0.png: while it is enlarged, 1.png is read
            assert second_read.wait(20)
        if picture.width == 4:  # 1.png: is enlarged while 0.png is being written
            first_through.set()
        return upscale(picture, *rest)

    def writing(path: Path, content: bytes) -> None:
        if path.name == "0.png":
            assert first_through.wait(20)
        write_whole(path, content)

    monkeypatch.setattr(steps, "read", reading)
    monkeypatch.setattr(batch, "write_whole", writing)
    monkeypatch.setattr(upscaler, "upscale_picture", enlarging)
    assert run_plan(plan(photos), upscaler).done == 5


def test_an_observer_that_stops_a_folder_run_leaves_it_to_be_resumed(
    photos: Path, upscaler: Upscaler
) -> None:
    class Stopper(Recorder):
        def should_stop(self) -> bool:
            return len(self.done) >= 2

    stopper = Stopper()
    with pytest.raises(Stopped):
        run_plan(plan(photos), upscaler, Options(jobs=1), stopper)
    out = photos.parent / "out"
    assert 2 <= len(stopper.done) < len(ALL)
    assert stopper.errors == []
    assert not list(out.rglob("*.part"))
    report = run_plan(plan(photos, "resume"), upscaler)
    assert report.done + report.resumed == len(ALL)
    assert files(out) == ALL


# --- sizes and verification ------------------------------------------------------------------


class Looker(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.left: list[str] = []
        self.verdicts: dict[str, float] = {}

    def left_alone(self, job: Job, width: int, height: int) -> None:
        self.left.append(f"{job.name} {width}x{height}")

    def verified(self, job: Job, verdict: Verdict) -> None:
        self.verdicts[job.name] = verdict.psnr


def test_large_pictures_are_left_alone_and_counted(photos: Path) -> None:
    seen = Looker()
    upscaler = Upscaler(Nearest(), size=Size(min_side=5, skip_larger=True))
    report = run_plan(plan(photos), upscaler, observer=seen)
    assert seen.left == ["2.png 5x5", "3.png 6x5", "sub/grey.webp 6x5"]
    assert seen.done == ["0.png 5x8", "1.png 5x6"]
    assert files(photos.parent / "out") == ["0.png", "1.png"]
    assert (report.done, report.larger, report.exit_status) == (2, 3, 0)


def test_without_skip_larger_they_are_shrunk_to_the_size(photos: Path) -> None:
    seen = Looker()
    run_plan(plan(photos), Upscaler(Nearest(), size=Size(fit=(4, 4))), observer=seen)
    assert seen.done == ["0.png 2x4", "1.png 3x4", "2.png 4x4", "3.png 4x3", "sub/grey.webp 4x3"]


class Black(Nearest):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 0


@pytest.mark.parametrize("strict", [False, True])
def test_results_that_do_not_show_their_input_warn_or_fail(photos: Path, strict: bool) -> None:
    seen = Looker()
    options = Options(verify=True, strict=strict)
    report = run_plan(plan(photos), Upscaler(Black()), options, seen)
    assert sorted(seen.verdicts) == ALL
    assert report.off == 5
    if strict:
        assert report.exit_status == 3
        assert len(seen.errors) == 5
        assert files(photos.parent / "out") == []
    else:
        assert report.exit_status == 0
        assert sum("does not show its input" in words for words in seen.words) == 5
        assert files(photos.parent / "out") == ALL


def test_verification_tells_the_db_of_good_results(photos: Path, upscaler: Upscaler) -> None:
    seen = Looker()
    report = run_plan(plan(photos), upscaler, Options(verify=True), seen)
    assert sorted(seen.verdicts) == ALL
    assert report.lowest is not None
    assert report.lowest[1] == min(seen.verdicts.values())
