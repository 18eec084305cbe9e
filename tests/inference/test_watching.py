from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from adapool_sr.files.errors import FullDiskError, UsageError
from adapool_sr.files.journal import Journal
from adapool_sr.files.writing import unwritable, write_whole
from adapool_sr.inference import batch
from adapool_sr.inference.batch import Observer, run_plan
from adapool_sr.inference.planning import Job, decide, list_jobs, plan_folder
from adapool_sr.inference.report import Report
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.inference.watching import Arrivals, watch


class Nearest(nn.Module):
    scale, size_multiple, receptive_radius = 2, 1, 0

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2)


def picture(path: Path, width: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(width).integers(0, 256, (5, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class Watcher(Observer):
    """Runs a script: one step at each wait, with a clock that goes on by two seconds."""

    def __init__(self, steps: list[Callable[[], object]]) -> None:
        self.steps = steps
        self.now = 0.0
        self.done: list[str] = []
        self.errors: list[str] = []

    def should_stop(self) -> bool:
        return not self.steps

    def finished(self, job: Job, width: int, height: int) -> None:
        self.done.append(job.name)

    def failed(self, job: Job, error: Exception) -> None:
        self.errors.append(f"{job.name}: {error}")

    def wait(self, seconds: float) -> None:
        self.now += 2.0
        self.steps.pop(0)()


def nothing() -> None:
    """A step that lets time pass."""


def run(
    root: Path,
    steps: Sequence[Callable[[], object]],
    policy: Any = "refuse",
    kind: str | None = None,
) -> tuple[Watcher, Report]:
    source, out = root / "in", root / "out"
    plan = decide(
        plan_folder(source, out, kind, may_be_empty=True), policy, folder=out, settings={}
    )
    watcher, report = Watcher([*steps, nothing, nothing]), Report()
    look = partial(list_jobs, source, out, kind)
    clocks: dict[str, Any] = {"wait": watcher.wait, "clock": lambda: watcher.now}
    watch(plan, look, Upscaler(Nearest()), report, None, watcher, **clocks)
    return watcher, report


def test_a_file_is_told_once_and_when_it_has_been_still_for_two_seconds(tmp_path: Path) -> None:
    now = 0.0
    arrivals = Arrivals(["old.png"], lambda: now)
    jobs = [Job(name, tmp_path / name, None, "png") for name in ("a.png", "old.png", "gone.png")]
    (tmp_path / "old.png").write_bytes(b"x")
    (tmp_path / "a.png").write_bytes(b"half")
    assert arrivals.ready(jobs) == []
    now = 1.9
    assert arrivals.ready(jobs) == []
    (tmp_path / "a.png").write_bytes(b"half and more")
    now = 2.5
    assert arrivals.ready(jobs) == []
    now = 4.4
    assert arrivals.ready(jobs) == []
    now = 4.5
    assert arrivals.ready(jobs) == [jobs[0]]
    (tmp_path / "a.png").write_bytes(b"another")
    now = 20.0
    assert arrivals.ready(jobs) == []


def test_what_is_there_and_what_arrives_is_done_and_the_tree_is_mirrored(tmp_path: Path) -> None:
    source = tmp_path / "in"
    picture(source / "1.png")
    steps = [
        nothing,
        lambda: picture(source / "sub" / "deep" / "2.png"),
        nothing,
        lambda: picture(source / "3.webp"),
        nothing,
    ]
    seen, report = run(tmp_path, steps)
    assert seen.done == ["1.png", "sub/deep/2.png", "3.webp"]
    assert files(tmp_path / "out") == ["1.png", "3.webp", "sub/deep/2.png"]
    assert (report.done, report.exit_status) == (3, 0)


def test_an_empty_folder_may_be_watched_and_failures_do_not_end_it(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    steps = [
        lambda: (source / "bad.png").write_bytes(b"no picture"),
        nothing,
        lambda: picture(source / "good.png"),
        nothing,
    ]
    seen, report = run(tmp_path, steps)
    assert seen.done == ["good.png"]
    assert len(seen.errors) == 1
    assert report.exit_status == 3
    assert files(tmp_path / "out") == ["good.png"]
    picture(source / "bad.png")
    out = tmp_path / "out"
    plan = decide(plan_folder(source, out, None), "skip", folder=out, settings={})
    assert [job.name for job in plan.todo] == ["bad.png"]
    assert run_plan(plan, Upscaler(Nearest())).done == 1
    assert files(out) == ["bad.png", "good.png"]


def test_what_failed_is_taken_once_more_when_it_has_changed(tmp_path: Path) -> None:
    source = tmp_path / "in"
    picture(source / "1.png")
    steps = [
        lambda: (source / "bad.png").write_bytes(b"no picture"),
        nothing,
        nothing,
        nothing,
        lambda: picture(source / "bad.png"),
        nothing,
        nothing,
        nothing,
    ]
    seen, report = run(tmp_path, steps)
    assert seen.done == ["1.png", "bad.png"]
    assert len(seen.errors) == 1
    assert (report.done, len(report.failed)) == (2, 1)
    assert files(tmp_path / "out") == ["1.png", "bad.png"]


def test_an_output_that_stands_is_not_replaced_unasked(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    picture(source / "1.png")
    out.mkdir()
    (out / "2.png").write_text("old")
    later: list[Callable[[], object]] = [nothing, lambda: picture(source / "2.png"), nothing]
    seen, report = run(tmp_path, later)
    assert seen.errors == [f"2.png: {out}/2.png: exists; --overwrite replaces, --skip keeps"]
    assert (out / "2.png").read_text() == "old"
    (source / "2.png").unlink()
    seen, report = run(tmp_path, later, "skip")
    assert (seen.done, seen.errors, report.skipped) == ([], [], 2)
    (source / "2.png").unlink()
    seen, report = run(tmp_path, later, "overwrite")
    assert seen.done == ["1.png", "2.png"]
    assert files(out) == ["1.png", "2.png"]


def test_two_inputs_that_would_meet_in_one_output_are_not_both_done(tmp_path: Path) -> None:
    source = tmp_path / "in"
    picture(source / "1.png")
    steps = [nothing, lambda: picture(source / "1.webp", 4), nothing]
    seen, _ = run(tmp_path, steps, kind="png")
    assert seen.done == ["1.png"]
    assert "is another input's too" in seen.errors[0]


def test_a_full_disk_costs_the_file_and_the_folder_may_vanish_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, away = tmp_path / "in", tmp_path / "away"
    picture(source / "1.png")

    def full(path: Path, content: bytes) -> None:
        if path.name == "1.png":
            raise unwritable(path, OSError(28, "No space left on device"))
        write_whole(path, content)

    monkeypatch.setattr(batch, "write_whole", full)
    steps: list[Callable[[], object]] = [
        nothing,
        lambda: source.rename(away),
        lambda: away.rename(source),
        lambda: picture(source / "2.png"),
        nothing,
    ]
    seen, report = run(tmp_path, steps)
    assert seen.done == ["2.png"]
    assert report.exit_status == 3
    assert isinstance(unwritable(source, OSError(28, "")), FullDiskError)


def test_ctrl_c_while_nothing_is_done_leaves_nothing(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "1.png")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [nothing, nothing, interrupt])
    assert files(tmp_path / "out") == ["1.png"]


def test_a_watched_folder_is_locked(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "1.png")

    def second() -> None:
        with pytest.raises(UsageError, match="another run is writing here"):
            Journal(tmp_path / "out")

    seen, _ = run(tmp_path, [nothing, second, nothing])
    assert seen.done == ["1.png"]
