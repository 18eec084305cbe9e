from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adapool_sr.files.errors import UnknownModelError, UsageError
from adapool_sr.imaging.resize import imresize
from adapool_sr.inference.engine import Engine
from adapool_sr.inference.upscaler import Upscaler

work = import_module("adapool_sr.app.work")
preview = import_module("adapool_sr.app.preview")


@pytest.fixture(scope="module")
def shop() -> Iterator[Any]:
    workshop = work.Workshop(work.Device(tile=16, max_pixels=100_000))
    yield workshop
    workshop.end()


def picture(folder: Path, name: str = "a.png", size: tuple[int, int] = (20, 12)) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    path = folder / name
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return path


def array(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.asarray(image)


def start(shop: Any, source: Path, folder: Path, **wanted: Any) -> Any:
    folder.mkdir()
    return shop.start(work.Request(source, wanted.pop("model", "tiny-x2"), **wanted), folder)


def test_the_result_is_the_commands_file(shop: Any, run_cli: Any, tmp_path: Path) -> None:
    source = picture(tmp_path / "in", "photo.webp", (40, 30))
    job = start(shop, source, tmp_path / "out", scale=3.0)
    assert job.wait(60)
    assert job.stage is work.Stage.DONE, job.error
    assert job.result.path.name == "photo.webp"
    assert (job.result.width, job.result.height) == (120, 90)
    target = tmp_path / "by_command.webp"
    done = run_cli("upscale", "-i", source, "-o", target, "-n", "tiny-x2", "-s", "3", "-t", "16")
    assert done.returncode == 0, done.stderr
    assert job.result.path.read_bytes() == target.read_bytes()


@pytest.mark.slow
def test_a_model_of_any_kind_that_the_command_takes_runs_here_too(
    shop: Any, run_cli: Any, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript", reason="needs the extra 'export'")
    model, source = tmp_path / "mine.onnx", picture(tmp_path / "in")
    made = run_cli("export", "-n", "tiny-x2", "--format", "onnx", "-o", model, timeout=240)
    assert made.returncode == 0, made.stderr
    job = start(shop, source, tmp_path / "out", model=model)
    assert job.wait(60)
    assert job.stage is work.Stage.DONE, job.error
    target = tmp_path / "by_command.png"
    done = run_cli("upscale", "-i", source, "-o", target, "--model-path", model)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(array(job.result.path), array(target))


def test_strength_is_the_commands(shop: Any, run_cli: Any, tmp_path: Path) -> None:
    source = picture(tmp_path / "in")
    job = start(shop, source, tmp_path / "out", strength=0.5)
    assert job.wait(60)
    assert job.stage is work.Stage.DONE, job.error
    target = tmp_path / "by_command.png"
    done = run_cli("upscale", "-i", source, "-o", target, "--strength", "0.5", "-n", "tiny-x2")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(array(job.result.path), array(target))
    assert not np.array_equal(array(target), array(self_made(shop, source, tmp_path / "whole")))


def self_made(shop: Any, source: Path, folder: Path) -> Path:
    job = start(shop, source, folder)
    assert job.wait(60)
    return Path(job.result.path)


def test_where_no_model_is_chosen_the_format_chooses(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "find_photo", lambda scale: work.find("nano-x2", scale))
    for name, model in (("a.png", "tiny-x2"), ("a.jpg", "nano-x2")):
        job = start(shop, picture(tmp_path / "in", name), tmp_path / name, model=None)
        assert job.wait(60)
        assert job.stage is work.Stage.DONE, job.error
        assert job.result.model == model


@pytest.mark.parametrize(
    ("name", "kind", "result"),
    [("a.png", None, "a.png"), ("a.bmp", None, "a.bmp"), ("a.JPG", None, "a.JPG"),
     ("a.png", "jpg", "a.jpg"), ("noname", "webp", "noname.webp")],
)  # fmt: skip
def test_the_name_is_the_inputs_with_the_formats_suffix(
    shop: Any, tmp_path: Path, name: str, kind: str | None, result: str
) -> None:
    source = tmp_path / "in" / name
    picture(tmp_path / "in", "a.bmp").rename(source)
    job = start(shop, source, tmp_path / "out", kind=kind)
    assert job.wait(60)
    assert job.result.path.name == result


def test_an_error_names_the_file_as_its_owner_does(shop: Any, tmp_path: Path) -> None:
    source = tmp_path / "letter.png"
    source.write_text("no picture")
    job = start(shop, source, tmp_path / "out")
    assert job.wait(60)
    assert job.stage is work.Stage.FAILED
    assert job.error.startswith("letter.png: is no picture of a known kind")
    assert str(tmp_path) not in job.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"kind": "jpg"}, "clear.jpg: the input is partly transparent, which a JPEG cannot hold"),
        ({"kind": "webp", "scale": 900.0}, "than the 16383 a side that webp holds; choose PNG as"),
        ({"scale": 1e6}, "Scale 1e+06: makes 20000000x12000000 pixels of clear.png"),
    ],
)
def test_an_error_speaks_of_the_page_and_not_of_flags_or_paths(
    shop: Any, tmp_path: Path, wanted: dict[str, Any], said: str
) -> None:
    source = tmp_path / "clear.png"
    Image.new("RGBA", (20, 12), (9, 9, 9, 9)).save(source)
    job = start(shop, source, tmp_path / "out", **wanted)
    assert job.wait(60)
    assert said in job.error
    assert str(tmp_path) not in job.error
    assert "--" not in job.error


def test_an_unforeseen_error_ends_the_job_alone(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = picture(tmp_path / "in")
    with monkeypatch.context() as patch:
        patch.setattr(Upscaler, "upscale_picture", lambda *_: 1 / 0)
        job = start(shop, source, tmp_path / "out")
        assert job.wait(60)
    assert job.error == "a.png: ZeroDivisionError: division by zero"
    again = start(shop, source, tmp_path / "again")
    assert again.wait(60)
    assert again.stage is work.Stage.DONE


class Held:
    """Holds the network at its first tile until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go, self.tiles = threading.Event(), threading.Event(), 0
        run = Engine._run

        def held(engine: Engine, *args: Any) -> Any:
            self.tiles += 1
            self.reached.set()
            assert self.go.wait(30)
            return run(engine, *args)

        monkeypatch.setattr(Engine, "_run", held)


def test_stop_ends_the_network_after_the_tile_it_is_at(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = picture(tmp_path / "in", size=(200, 100))
    held = Held(monkeypatch)
    job = start(shop, source, tmp_path / "out")
    assert held.reached.wait(30)
    job.stop()
    assert not job.wait(0.05)
    held.go.set()
    assert job.wait(10)
    assert job.stage is work.Stage.STOPPED
    assert held.tiles == 1
    assert job.result is None
    assert not (tmp_path / "out").exists()


def test_a_waiting_job_knows_its_place_and_stops_at_once(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = picture(tmp_path / "in")
    held = Held(monkeypatch)
    first, second, third = (start(shop, source, tmp_path / str(index)) for index in range(3))
    assert held.reached.wait(30)
    assert [first.ahead, second.ahead, third.ahead] == [0, 1, 2]
    assert second.stage is work.Stage.WAITING
    second.stop()
    assert second.wait(0.5)
    assert second.stage is work.Stage.STOPPED
    assert third.ahead == 1
    assert held.tiles == 1
    held.go.set()
    assert third.wait(60)
    assert [job.stage for job in (first, third)] == [work.Stage.DONE] * 2


def test_the_end_stops_what_runs_and_what_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = work.Workshop(work.Device(tile=16))
    source = picture(tmp_path / "in", size=(200, 100))
    held = Held(monkeypatch)
    jobs = [start(workshop, source, tmp_path / str(index)) for index in range(2)]
    assert held.reached.wait(30)
    threading.Timer(0.2, held.go.set).start()
    begin = time.monotonic()
    workshop.end()
    assert time.monotonic() - begin < 10
    assert [job.stage for job in jobs] == [work.Stage.STOPPED] * 2


def test_a_model_that_is_not_there_is_known_at_once(shop: Any) -> None:
    assert shop.prepare("tiny-x2") == 2
    assert shop.prepare("tiny-x2", 3.5) == 3.5
    with pytest.raises(UnknownModelError):
        shop.prepare("nothing-x9")
    with pytest.raises(UsageError, match="warp"):
        work.Workshop(work.Device(device="warp")).prepare("tiny-x2")


def test_a_comparison_that_fails_does_not_cost_the_result(
    shop: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(work, "compare", fail)
    job = start(shop, picture(tmp_path / "in"), tmp_path / "out")
    assert job.wait(60)
    assert job.stage is work.Stage.DONE
    assert job.result.comparison is None


# --- the slider's pictures ---------------------------------------------------------------------


def nothing() -> None:
    pass


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_before_is_exact_bicubic_and_after_the_result(tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(1)
    source, result, folder = tmp_path / "a.png", tmp_path / "b.png", tmp_path / "compare"
    channels = len(mode) if mode != "I;16" else 1
    shape = (9, 7) if channels == 1 else (9, 7, channels)
    kind, top = (np.uint16, 65536) if mode == "I;16" else (np.uint8, 256)
    for path, factor in ((source, 1), (result, 2)):
        size = (shape[0] * factor, shape[1] * factor, *shape[2:])
        Image.fromarray(rng.integers(0, top, size).astype(kind)).save(path)
    folder.mkdir()
    made = preview.compare(source, result, folder, 1000, nothing)
    assert (made.width, made.height, made.pieces) == (14, 18, 0)
    before, after = (array(folder / name) for name in (made.before, made.after))
    truth = array(result).astype(float) * 255 / (top - 1)
    assert np.abs(after - truth).max() <= 0.5
    import torch

    given = array(source).astype(float) * 255 / (top - 1)
    planes = torch.from_numpy(np.floor(given + 0.5).astype(np.uint8).reshape(9, 7, channels))
    wanted = imresize(planes.permute(2, 0, 1), 2).permute(1, 2, 0).numpy()
    assert np.array_equal(before.reshape(18, 14, channels), wanted)


def test_a_large_result_is_cut_into_pieces_that_cover_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "WHOLE", 30)
    monkeypatch.setattr(preview, "PIECE", 16)
    monkeypatch.setattr(preview, "_REDUCED", 20)
    source, result = picture(tmp_path), picture(tmp_path, "b.png", (40, 24))
    folder = tmp_path / "compare"
    folder.mkdir()
    made = preview.compare(source, result, folder, 1000, nothing)
    assert made.pieces == 16
    assert array(folder / made.before).shape == array(folder / made.after).shape == (12, 20, 3)
    rows = [
        np.concatenate([array(folder / f"after-{r}-{c}.png") for c in range(3)], 1)
        for r in range(2)
    ]
    assert np.array_equal(np.concatenate(rows), array(result))
    assert len(list(folder.glob("before-*.png"))) == 6
