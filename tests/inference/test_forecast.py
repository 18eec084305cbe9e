from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from adapool_sr.files.errors import UsageError
from adapool_sr.inference.forecast import Extent, check_room, fitting_jobs, forecast, survey
from adapool_sr.inference.planning import Job, plan_folder
from adapool_sr.inference.sizes import Size
from adapool_sr.inference.upscaler import Upscaler


class Nearest(nn.Module):
    scale, size_multiple, receptive_radius = 2, 1, 0

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2)


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    """A noisy and a plain picture, and one that is none."""
    root = tmp_path / "in"
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / "a.png")
    Image.fromarray(noise).resize((100, 70)).save(root / "b.jpg")
    (root / "c.png").write_bytes(b"none")
    return plan_folder(root, tmp_path / "out", None)


def test_sizes_work_and_tiles_come_from_the_headers(jobs: list[Job]) -> None:
    found = survey(jobs, Upscaler(Nearest(), tile=16))
    assert sorted(found) == ["a.png", "b.jpg"]
    a, b = found["a.png"], found["b.jpg"]
    assert (a.width, a.height, a.columns, a.rows) == (40, 30, 80, 60)
    assert (a.work, a.tiles) == (40 * 30, 3 * 2)
    assert (b.work, b.tiles) == (100 * 70, 7 * 5)
    assert isinstance(jobs[0].source, Path)
    own = 0.9 * jobs[0].source.stat().st_size
    assert a.size == pytest.approx(4 * min(3.2 * 1200, own), abs=1)


def test_every_pass_and_turn_counts(jobs: list[Job]) -> None:
    found = survey(jobs, Upscaler(Nearest(), scale=3))
    assert found["a.png"].work == 40 * 30 * (1 + 4)
    assert survey(jobs, Upscaler(Nearest(), self_ensemble=True))["a.png"].work == 8 * 40 * 30
    assert survey(jobs, Upscaler(Nearest(), strength=0))["a.png"].work == 0


def test_pictures_that_will_be_left_alone_take_no_room(jobs: list[Job]) -> None:
    size = Size(max_side=90, skip_larger=True)
    found = survey(jobs, Upscaler(Nearest(), size=size))
    assert (found["a.png"].large_enough, found["b.jpg"].large_enough) == (False, True)
    assert check_room(jobs, found)[0] == found["a.png"].size


def test_a_forecast_larger_than_the_free_disk_is_refused(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = survey(jobs, Upscaler(Nearest()))
    needed = sum(extent.size for extent in found.values())
    asked = []

    def usage(place: Path) -> SimpleNamespace:
        asked.append(place)
        return SimpleNamespace(free=needed - 1)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    with pytest.raises(UsageError, match=r"results of about .* MB are forecast; free some space"):
        check_room(jobs, found)
    assert asked == [tmp_path]  # the output folder is not there yet
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"x")  # is replaced, and gives its byte back
    assert check_room(jobs, found) == (needed - 1, needed - 1)


def extent(side: int) -> Extent:
    held = 27 * side * side
    return Extent(side, side, "png", 2 * side, 2 * side, side * side, 1, 4 * side * side, held)


def test_large_pictures_are_not_held_at_once_where_memory_is_short() -> None:
    many = [extent(2000) for _ in range(10)]
    assert fitting_jobs(many, 4, free=8 << 30) == 4
    assert fitting_jobs(many, 4, free=600 << 20) == 1
    assert 1 < fitting_jobs(many, 4, free=1200 << 20) < 4
    assert fitting_jobs([], 4, free=0) == 4


def test_a_trial_gives_time_and_memory(jobs: list[Job]) -> None:
    upscaler = Upscaler(Nearest())
    found = forecast(jobs, survey(jobs, upscaler), upscaler, 2)
    assert found.seconds is not None
    assert 0 < found.seconds < 60
    assert found.memory > 50e6
    nothing = forecast(jobs[2:], {}, upscaler, 2)
    assert nothing.seconds == 0
