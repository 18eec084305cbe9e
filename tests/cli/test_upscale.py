from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from adapool_sr.cli.main import main
from adapool_sr.files.journal import JOURNAL_NAME
from adapool_sr.io.images import read_rgb8
from adapool_sr.models import registry
from adapool_sr.models.checkpoint import load as load_checkpoint
from adapool_sr.models.checkpoint import save
from adapool_sr.models.sr import AdaPoolSR


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights."""
    path = tmp_path_factory.mktemp("model") / "small-x2.safetensors"
    torch.manual_seed(0)
    net = AdaPoolSR(widths=(4, 4), blocks=(0, 1))
    torch.nn.init.normal_(net.tail.weight, std=0.02)
    save(path, net, name="small-x2", license="MIT", training={})
    return path


@pytest.fixture
def folder(tmp_path: Path, photo_dir: Path) -> Path:
    """Three small photos, one in a folder of its own, beside a file that is no picture."""
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    for index, name in enumerate(("photo_1.png", "photo_2.jpg", "sub/photo_10.webp")):
        with Image.open(photo_dir / f"photo_{index + 1}.png") as image:
            image.crop((0, 0, 24 + index, 16)).save(root / name)
    (root / "notes.txt").write_text("not a picture")
    return root


Upscale = Callable[..., int]


@pytest.fixture
def upscale(model: Path) -> Upscale:
    """``upscale(*words) -> exit status``, with the small model."""

    def run(*words: str | Path) -> int:
        threads = torch.get_num_threads()
        try:
            return main(["upscale", "--model-path", str(model), "--threads", "1", *map(str, words)])
        finally:
            torch.set_num_threads(threads)

    return run


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# --- what is refused before any work ---------------------------------------------------------


@pytest.mark.parametrize("flag", ["-i", "-o"])
def test_an_empty_path_is_not_the_current_folder(
    upscale: Upscale, folder: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    words = {"-i": str(folder / "photo_1.png"), "-o": str(folder / "out.png"), flag: ""}
    assert upscale(*(word for pair in words.items() for word in pair)) == 2
    assert f"error: {flag}: is empty" in capsys.readouterr().err


def test_a_result_that_no_memory_holds_is_refused_at_once(
    upscale: Upscale, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "out.png"
    assert upscale("-i", folder / "photo_1.png", "-o", out, "-s", "50000") == 2
    assert "makes 1200000x800000 pixels" in capsys.readouterr().err
    assert not out.exists()


def test_pictures_in_the_output_folder_are_said_to_be_left_out(
    upscale: Upscale, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale("-i", folder, "-o", folder / "sub", "--dry-run") == 0
    assert "1 pictures in the output folder are not taken as inputs" in capsys.readouterr().err


# --- a file ----------------------------------------------------------------------------------


def test_a_file_is_enlarged_and_said_so_on_standard_error(
    upscale: Upscale, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "large.png"
    assert upscale("-i", folder / "photo_1.png", "-o", out) == 0
    assert size(out) == (48, 32)
    said = capsys.readouterr()
    assert said.out == ""
    assert "x2 with" in said.err
    assert "slowest: " in said.err.splitlines()[-1]
    assert "%" not in said.err  # a bar is for a terminal


@pytest.mark.parametrize(("scale", "wanted"), [("1.5", (36, 24)), ("3", (72, 48)), ("4", (96, 64))])
def test_any_factor_is_reached(
    upscale: Upscale, folder: Path, tmp_path: Path, scale: str, wanted: tuple[int, int]
) -> None:
    out = tmp_path / "large.png"
    assert upscale("-i", folder / "photo_1.png", "-o", out, "-s", scale, "-q") == 0
    assert size(out) == wanted


def test_tiles_change_nothing_that_can_be_seen(
    upscale: Upscale, folder: Path, tmp_path: Path
) -> None:
    whole, tiled = tmp_path / "whole.png", tmp_path / "tiled.png"
    words = ("-i", folder / "photo_1.png", "--precision", "fp32", "-q")
    assert upscale(*words, "-o", whole, "-t", "0") == 0
    assert upscale(*words, "-o", tiled, "-t", "7") == 0
    difference = read_rgb8(whole).int() - read_rgb8(tiled).int()
    assert difference.abs().max() <= 1  # where a value lies between two steps
    assert (difference != 0).float().mean() < 0.01


def test_quiet_prints_nothing(
    upscale: Upscale, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale("-i", folder / "photo_1.png", "-o", tmp_path / "x.webp", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_the_format_and_quality_are_taken(upscale: Upscale, folder: Path, tmp_path: Path) -> None:
    source = folder / "photo_1.png"
    for quality in ("20", "95"):
        name = tmp_path / f"{quality}.jpg"
        assert upscale("-i", source, "-o", name, "--quality", quality, "-q") == 0
    assert (tmp_path / "20.jpg").stat().st_size < (tmp_path / "95.jpg").stat().st_size
    assert upscale("-i", source, "-o", f"{tmp_path}/deep/er/", "-f", "webp", "-q") == 0
    assert (tmp_path / "deep" / "er" / "photo_1.webp").read_bytes()[8:12] == b"WEBP"


def test_standard_input_and_output_take_a_still(model: Path, folder: Path) -> None:
    command = [sys.executable, "-m", "adapool_sr", "upscale", "-i", "-", "-o", "-", "--json"]
    source = folder / "photo_2.jpg"
    done = subprocess.run(
        [*command, "--model-path", str(model), "--threads", "1"],
        input=source.read_bytes(),
        capture_output=True,
        check=True,
    )
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert (image.format, image.size) == ("JPEG", (50, 32))
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    assert [event["event"] for event in events][-1] == "done"


# --- a folder --------------------------------------------------------------------------------


def test_a_folder_is_mirrored_and_leaves_no_trace_of_the_run(
    upscale: Upscale, folder: Path, tmp_path: Path
) -> None:
    assert upscale("-i", folder, "-o", tmp_path / "out") == 0
    assert files(tmp_path / "out") == ["photo_1.png", "photo_2.jpg", "sub/photo_10.webp"]
    assert size(tmp_path / "out" / "sub" / "photo_10.webp") == (52, 32)


def test_a_bad_file_is_named_the_rest_done_and_the_status_is_3(
    upscale: Upscale, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.png").write_bytes((folder / "photo_1.png").read_bytes()[:200])
    assert upscale("-i", folder, "-o", tmp_path / "out", "--quiet") == 3
    assert len(check_whole(tmp_path / "out")) == 3
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"adapool-sr: error: {folder}/bad.png: is truncated or damaged")
    assert said[1].startswith("3 done, 1 failed")


def test_json_tells_every_step_on_standard_output(
    upscale: Upscale, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty.png").touch()
    out = tmp_path / "out"
    out.mkdir()
    (out / "photo_1.png").touch()
    assert upscale("-i", folder, "-o", out, "--skip", "--json") == 3
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start"
    assert kinds[-1] == "done"
    assert {"progress", "file", "error"} <= set(kinds)
    found = {e["input"]: e["status"] for e in events if e["event"] == "file"}
    assert found == {
        "photo_1.png": "skipped",
        "photo_2.jpg": "done",
        "sub/photo_10.webp": "done",
    }
    last = events[-1]
    assert (last["done"], last["skipped"], last["failed"], last["exit_status"]) == (2, 1, 1, 3)
    assert set(last["seconds"]) == {"decoding", "network", "encoding", "wall"}


def test_existing_outputs_are_refused_replaced_or_kept(
    upscale: Upscale, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ("-i", folder, "-o", out)
    assert upscale(*words) == 0
    (out / "photo_1.png").write_text("old")
    assert upscale(*words) == 2
    assert "3 outputs exist: " in capsys.readouterr().err
    assert upscale(*words, "--skip") == 0
    assert (out / "photo_1.png").read_text() == "old"
    assert upscale(*words, "--overwrite") == 0
    assert size(out / "photo_1.png") == (48, 32)
    assert upscale(*words, "--overwrite", "--skip") == 2


def test_a_dry_run_tells_the_plan_and_writes_nothing(
    upscale: Upscale, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty.png").touch()
    before = files(tmp_path)
    assert upscale("-i", folder, "-o", tmp_path / "out", "--dry-run") == 0
    assert files(tmp_path) == before
    assert not (tmp_path / "out").exists()
    said = capsys.readouterr().err
    assert f"photo_1.png 24x16 -> {tmp_path}/out/photo_1.png: new, 48x32, 1 tile" in said
    assert "estimate, from a trial of a part of one picture" in said
    assert "empty.png: is empty" in said
    assert "4 to do with" in said
    assert upscale("-i", folder, "-o", tmp_path / "out", "--dry-run", "--json") == 0
    plans = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [plan["event"] for plan in plans] == ["plan"] * 4 + ["done"]
    assert [plan["status"] for plan in plans[:4]] == ["new"] * 4
    assert [plan["tiles"] for plan in plans[:4]] == [None, 1, 1, 1]
    last = plans[4]
    assert last["dry_run"] is True
    assert last["megapixels"] == round(4 * (24 + 25 + 26) * 16 / 1e6, 3)
    assert min(last[f"estimated_{what}"] for what in ("seconds", "bytes", "memory")) >= 0
    assert not (tmp_path / "out").exists()


# --- interruptions ---------------------------------------------------------------------------


def many(folder: Path, count: int) -> Path:
    root = folder.parent / "many"
    root.mkdir()
    with Image.open(folder / "photo_1.png") as image:
        for index in range(count):
            image.resize((160 + index, 120)).save(root / f"{index}.png")
    return root


def start(model: Path, source: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "adapool_sr", "upscale", "-i", str(source), "-o", str(out)]
    return subprocess.Popen(
        [*command, "--model-path", str(model), "--threads", "1", "--json", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for_files(run: subprocess.Popen[str], count: int) -> None:
    assert run.stdout is not None
    for line in run.stdout:
        event = json.loads(line)
        assert event["event"] != "done", "the run ended before it could be stopped"
        count -= event["event"] == "file"
        if count == 0:
            return


def check_whole(out: Path) -> set[str]:
    done = {name for name in files(out) if name != JOURNAL_NAME and not name.endswith(".part")}
    for name in done:
        size(out / name)
    return done


def test_ctrl_c_ends_with_130_and_nothing_half_written(
    model: Path, folder: Path, tmp_path: Path
) -> None:
    source, out = many(folder, 60), tmp_path / "out"
    run = start(model, source, out)
    wait_for_files(run, 3)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert "Traceback" not in said
    assert not [name for name in files(out) if name.endswith(".part")]
    assert 3 <= len(check_whole(out)) < 60


def kill_and_resume(
    model: Path, source: Path, out: Path, *, delay: float, upscale: Upscale
) -> None:
    run = start(model, source, out)
    wait_for_files(run, 1)
    time.sleep(delay)
    run.kill()
    run.communicate(timeout=60)
    before = {name: (out / name).stat().st_mtime_ns for name in check_whole(out)}
    assert upscale("-i", source, "-o", out, "-s", "3", "--resume") == 2  # other settings
    assert upscale("-i", source, "-o", out, "--resume", "-q") == 0
    assert files(out) == files(source)
    assert check_whole(out) == set(files(source))
    redone = [name for name in before if (out / name).stat().st_mtime_ns != before[name]]
    assert len(redone) <= 1  # the one that had its name but not yet its line in the journal


def test_a_killed_run_is_resumed(
    model: Path, folder: Path, tmp_path: Path, upscale: Upscale
) -> None:
    kill_and_resume(model, many(folder, 60), tmp_path / "out", delay=0, upscale=upscale)


@pytest.mark.slow
def test_a_run_killed_at_any_moment_is_resumed(
    model: Path, folder: Path, tmp_path: Path, upscale: Upscale
) -> None:
    source = many(folder, 50)
    for attempt in range(5):
        out = tmp_path / f"out{attempt}"
        kill_and_resume(model, source, out, delay=0.017 * attempt, upscale=upscale)


# --- wrong usage -----------------------------------------------------------------------------


FINE = ("-i", "in/photo_1.png", "-o", "x.png")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-i", "absent.png", "-o", "x.png"], "absent.png: no such file or folder; check the path"),
        (["-i", "in/photo_1.png", "-o", "x.gif"], "'.gif' is no format that is written"),
        (["-i", "in/photo_1.png", "-o", "in/photo_1.png"], "is the input"),
        (["-i", "in/photo_1.png", "-o", "in/notes.txt/x.png"], "is a file, not a folder"),
        (["-i", "in", "-o", "in/notes.txt"], "is a file; a folder of inputs takes a folder"),
        (["-i", "in", "-o", "-"], "takes one picture, the input is a folder"),
        (["-i", "in", "-o", "in", "--overwrite"], "is the input"),
        (["-i", "in/photo_1.png"], "-o/--output: is required"),
        (
            [*FINE, "-s", "0"],
            "-s/--scale: must be a number above 0",
        ),
        ([*FINE, "-t", "-3"], "-t/--tile"),
        ([*FINE, "--quality", "0"], "must be 1 to 100, got '0'"),
        ([*FINE, "--quality", "90"], "has no meaning for png"),
        (
            [*FINE, "-n", "nonsense"],
            "model 'nonsense': is not known",
        ),
        (
            [*FINE, "--model-path", "no.ckpt"],
            "no.ckpt: no such file",
        ),
        (
            [*FINE, "--model-path", "no", "-n", "tiny"],
            "not allowed",
        ),
    ],
)
def test_wrong_usage_is_told_in_a_line_before_torch_is_loaded(
    words: list[str], said: str, folder: Path, model: Path
) -> None:
    if not {"-n", "--model-path"} & set(words):
        words = [*words, "--model-path", str(model)]
    code = (
        "import sys; from adapool_sr.cli.main import main; status = main(sys.argv[1:]); "
        "print(status, 'torch' in sys.modules, 'PIL' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "upscale", *words],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2 False False\n"
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("adapool-sr: error: ")
    assert said in done.stderr
    assert not (folder.parent / "x.png").exists()


def test_a_device_that_is_not_here_is_wrong_usage(
    upscale: Upscale, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("-i", folder, "-o", tmp_path / "out", "-d", "cuda:77")
    assert upscale(*words) == 2
    assert "device 'cuda:77': is not usable here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_picture_above_the_limit_is_refused(
    upscale: Upscale, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("-i", folder / "photo_1.png", "-o", tmp_path / "x.png", "--max-pixels", "100")
    assert upscale(*words) == 1
    assert "states 24x16 pixels, more than the limit of 100" in capsys.readouterr().err


def test_an_error_has_no_traceback_but_with_debug(
    upscale: Upscale, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "photo_1.png").write_bytes(b"broken")
    words: list[Any] = ["-i", folder, "-o", tmp_path / "out"]
    assert upscale(*words) == 3
    assert "Traceback" not in capsys.readouterr().err
    assert upscale(*words, "--skip", "--debug") == 3
    assert "Traceback" in capsys.readouterr().err


def test_a_small_picture_needs_few_imports(model: Path, folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from adapool_sr.cli.main import main; assert main(sys.argv[1:]) == 0; "
        "heavy = ('cv2', 'torch._dynamo', 'torch._inductor', 'sympy', 'lightning', 'scipy',"
        " 'PIL.PsdImagePlugin'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    words = ["-i", folder / "photo_1.png", "-o", tmp_path / "x.png", "--model-path", model, "-q"]
    done = subprocess.run(
        [sys.executable, "-c", code, "upscale", *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


# --- the model for a file's format -------------------------------------------------------------


@pytest.fixture
def two_models(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ships tiny-x2 and tiny-photo-x2, both with the small network's weights."""
    weights = tmp_path / "weights"
    weights.mkdir()
    network = load_checkpoint(model).network
    for name in ("tiny-x2", "tiny-photo-x2"):
        save(weights / f"{name}.safetensors", network, name=name, license="MIT", training={})
    monkeypatch.setattr(registry, "WEIGHTS", weights)


def plain_upscale(*words: str | Path) -> int:
    threads = torch.get_num_threads()
    try:
        return main(["upscale", "--threads", "1", *map(str, words)])
    finally:
        torch.set_num_threads(threads)


def made_with(path: Path) -> bytes:
    found = [b"tiny-photo-x2" in path.read_bytes(), b"tiny-x2" in path.read_bytes()]
    return {(True, False): b"photo", (False, True): b"usual"}[found[0], found[1]]


@pytest.mark.usefixtures("two_models")
@pytest.mark.parametrize("words", [(), ("--max-side", "60")])
def test_jpeg_files_get_the_photo_model_where_none_is_named(
    folder: Path, tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "photo_3.png").write_bytes((folder / "photo_2.jpg").read_bytes())  # by its content
    out = tmp_path / "out"
    assert plain_upscale("-i", folder, "-o", out, *words) == 0
    assert "tiny-x2, tiny-photo-x2 for JPEG files" in capsys.readouterr().err
    assert {name: made_with(out / name) for name in files(out)} == {
        "photo_1.png": b"usual",
        "photo_2.jpg": b"photo",
        "photo_3.png": b"photo",
        "sub/photo_10.webp": b"usual",
    }
    assert plain_upscale("-i", folder / "photo_2.jpg", "-o", tmp_path / "one.jpg", *words) == 0
    assert (tmp_path / "one.jpg").read_bytes() == (out / "photo_2.jpg").read_bytes()
    assert "with tiny-photo-x2 on cpu" in capsys.readouterr().err


@pytest.mark.usefixtures("two_models")
def test_a_named_model_is_taken_for_jpeg_files_too(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert plain_upscale("-i", folder, "-o", out, "-n", "tiny") == 0
    assert {made_with(out / name) for name in files(out)} == {b"usual"}


def test_files_of_other_kinds_are_told(
    folder: Path, tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale("-i", folder, "-o", tmp_path / "out") == 0
    assert f"{folder}: 1 file of other kinds passed over" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("-s", "0.5"), ("--strength", "0"), ("--width", "25")])
def test_no_model_is_named_where_no_network_ran(
    folder: Path, tmp_path: Path, upscale: Upscale, words: tuple[str, ...]
) -> None:
    assert upscale("-i", folder / "photo_2.jpg", "-o", tmp_path / "a.jpg", *words) == 0
    content = (tmp_path / "a.jpg").read_bytes()
    assert b'Model="bicubic"' in content
    assert b"small-x2" not in content
    assert b"SHA256" not in content
