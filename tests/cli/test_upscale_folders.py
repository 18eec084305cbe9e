from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapool_sr.cli.main import main
from adapool_sr.files.journal import JOURNAL_NAME, Journal
from adapool_sr.models.checkpoint import save
from adapool_sr.models.sr import AdaPoolSR

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights."""
    path = tmp_path_factory.mktemp("model") / "small-x2.safetensors"
    torch.manual_seed(0)
    net = AdaPoolSR(widths=(4, 4), blocks=(0, 1))
    torch.nn.init.normal_(net.tail.weight, std=0.02)
    save(path, net, name="small-x2", license="MIT", training={})
    return path


def make_pictures(root: Path, photo_dir: Path, count: int, side: int = 48) -> Path:
    """``count`` small pictures, three deep, of three formats."""
    with Image.open(photo_dir / "photo_1.png") as image:
        for index in range(count):
            name = f"{'a/b/'[: 2 * (index % 3)]}{index}.{('png', 'jpg', 'webp')[index % 3]}"
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image.resize((side + index, side)).save(path)
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


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def events(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


# --- what is taken ---------------------------------------------------------------------------


def test_a_pattern_is_a_folder_run_from_before_its_first_wildcard(
    upscale: Upscale, photo_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(tmp_path / "in", photo_dir, 6, side=16)
    monkeypatch.chdir(tmp_path)
    assert upscale("-i", "in/**/*.jpg", "-o", "out", "-q") == 0
    assert files(tmp_path / "out") == ["a/1.jpg", "a/4.jpg"]
    assert upscale("-i", "in/a/*.jpg", "-o", "flat", "-q") == 0
    assert files(tmp_path / "flat") == ["1.jpg", "4.jpg"]
    assert upscale("-i", "in/0.*", "-o", "one.png", "-q") == 0  # matches one, which gets the name
    assert (tmp_path / "one.png").is_file()
    assert upscale("-i", "in/0.*", "-o", "folder", "-q") == 0
    assert files(tmp_path / "folder") == ["0.png"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-i", "in/*.bmp", "-o", "out"], "in/*.bmp: matches no picture; all below it: 'in/**'"),
        (["-i", "absent/*.png", "-o", "out"], "absent: no such folder"),
        (["-i", "in/*.png", "-o", "-"], "takes one picture, the input is a folder"),
        (["-i", "in/*.png", "-o", "x.png"], "is the name of a picture"),
        (["-i", "in/0.png", "in/3.png", "-o", "out"], "in/3.png: stands without a flag; a pattern"),
        (["-i", "in/*.png", "-o", "x", "--crop", "0,0,4,4"], "takes one picture, the input is a"),
        (["-i", "in/0.png", "-o", "x.png", "--watch"], "--watch: watches a folder"),
        (["-i", "in", "-o", "in", "--watch"], "would take its own results for inputs"),
        (["-i", "in", "-o", "out", "--watch", "--dry-run"], "not allowed with"),
    ],
)
def test_wrong_usage_is_told_before_any_work(
    upscale: Upscale,
    photo_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    make_pictures(tmp_path / "in", photo_dir, 6, side=16)
    before = files(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert upscale(*words) == 2
    assert said in capsys.readouterr().err
    assert files(tmp_path) == before


def test_names_of_255_bytes_and_of_any_letters_are_done(
    upscale: Upscale, photo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    names = ["x" * 251 + ".png", "я" * 125 + ".png", "д 映画 $$ 'x' [1]*.png", "a\udcff\n.png"]
    for name in names:
        shutil.copy(photo_dir / "photo_1.png", root / name)
    assert upscale("-i", root, "-o", tmp_path / "out") == 0
    assert files(tmp_path / "out") == sorted(names)
    # One byte more than a name may have: the file is named, the rest is done.
    assert upscale("-i", root, "-o", tmp_path / "webp", "-f", "webp") == 3
    assert len(list((tmp_path / "webp").glob("*.webp"))) == len(names) - 1
    assert "File name too long); choose a shorter name" in capsys.readouterr().err


def test_the_output_may_be_on_another_disk(
    upscale: Upscale, photo_dir: Path, tmp_path: Path
) -> None:
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs /dev/shm, as Linux has it, on a disk of its own")
    out = other / f"adapool-sr-{os.getpid()}"
    try:
        source = make_pictures(tmp_path / "in", photo_dir, 3, side=16)
        assert upscale("-i", source, "-o", out, "-q") == 0
        assert files(out) == files(source)
    finally:
        shutil.rmtree(out, ignore_errors=True)


# --- what comes out --------------------------------------------------------------------------


def test_every_file_of_a_folder_run_equals_its_single_run(
    upscale: Upscale, photo_dir: Path, tmp_path: Path
) -> None:
    source = make_pictures(tmp_path / "in", photo_dir, 6)
    assert upscale("-i", source, "-o", tmp_path / "out", "-j", "3", "-q") == 0
    for name in files(source):
        single = tmp_path / "single" / name
        assert upscale("-i", source / name, "-o", single, "-q") == 0
        assert single.read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_progress_tells_of_the_whole_run_and_done_the_same_figures(
    upscale: Upscale,
    photo_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("adapool_sr.cli._upscale_view._EVERY", 0.0)
    source = make_pictures(tmp_path / "in", photo_dir, 5)
    (source / "bad.png").write_bytes(b"")
    assert upscale("-i", source, "-o", tmp_path / "out", "-t", "16", "--json") == 3
    told = events(capsys.readouterr().out)
    progress = [event for event in told if event["event"] == "progress"]
    shares = [float(str(event["share"])) for event in progress]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.2
    assert shares[-1] < 1
    assert {"images_per_second", "megapixels_per_second", "seconds_left"} <= set(progress[0])
    assert (progress[-1]["files"], told[-1]["done"], told[-1]["failed"]) == (6, 5, 1)
    assert float(str(told[-1]["images_per_second"])) > 0
    assert float(str(told[-1]["megapixels_per_second"])) > 0


# --- no room ---------------------------------------------------------------------------------


def test_a_forecast_larger_than_the_free_disk_is_refused_first(
    upscale: Upscale,
    photo_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = make_pictures(tmp_path / "in", photo_dir, 3)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    for more in ([], ["--dry-run"]):
        assert upscale("-i", source, "-o", tmp_path / "out", *more) == 2
        assert "MB are forecast; free some space" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


FULL_DISK = """
set -u
mount -t tmpfs -o size=600k none "$OUT" 2> /dev/null || exit 77
"$@"
echo "status $?"
find "$OUT" -name '*.part' -o -type f -size 0
mount -o remount,size=9m "$OUT"
"$@" --resume
echo "status $?"
find "$OUT" -type f | wc -l
"""


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_the_run_and_resume_goes_on(model: Path, tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, to have a small disk without being root")
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):  # noise takes more than was forecast
        pixels = rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / f"{index}.jpg", quality=20)
    command: list[str | Path] = [sys.executable, "-m", "adapool_sr", "upscale"]
    command += ["-i", source, "-o", out]
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", FULL_DISK, "sh", *command, "--model-path", model],
        capture_output=True,
        text=True,
        env={**os.environ, "OUT": str(out), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("may not mount a small disk here")
    assert done.stdout.split() == ["status", "1", "status", "0", "6"], done.stderr
    assert "No space left on device); free some space or choose another disk" in done.stderr
    assert "then go on with --resume" in done.stderr
    assert "Traceback" not in done.stderr


# --- two at once, killed, watched ------------------------------------------------------------


def test_a_second_run_into_the_folder_is_refused(
    upscale: Upscale, photo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = make_pictures(tmp_path / "in", photo_dir, 3), tmp_path / "out"
    out.mkdir()
    with Journal(out) as journal:
        journal.begin({}, ["0.png"], [], resumed=False)
        for more in ([], ["--resume"], ["--overwrite"], ["--skip"]):
            assert upscale("-i", source, "-o", out, *more) == 2
            assert f"{out}: another run is writing here; wait for it" in capsys.readouterr().err
        assert files(out) == [JOURNAL_NAME]


@pytest.fixture
def watching(model: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that watches ``in``; what it says comes line by line."""
    (tmp_path / "in").mkdir()
    words = ["-i", tmp_path / "in", "-o", tmp_path / "out", "--model-path", model, "--watch"]
    process = subprocess.Popen(
        [sys.executable, "-m", "adapool_sr", "upscale", *map(str, words), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    yield process
    process.kill()
    process.communicate()


def wait_for(process: subprocess.Popen[str], kind: str) -> dict[str, object]:
    assert process.stdout is not None
    for line in process.stdout:
        event: dict[str, object] = json.loads(line)
        if event["event"] == kind:
            return event
    raise AssertionError(f"no {kind} came")


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_watch_takes_what_arrives_until_it_is_told_to_end(
    watching: subprocess.Popen[str],
    photo_dir: Path,
    tmp_path: Path,
    sent: signal.Signals,
    status: int,
) -> None:
    wait_for(watching, "start")
    make_pictures(tmp_path / "in", photo_dir, 2, side=16)
    assert {str(wait_for(watching, "file")["input"]) for _ in range(2)} == {"0.png", "a/1.jpg"}
    with (tmp_path / "in" / "slow.png").open("wb") as file:  # is written in two pieces
        content = (photo_dir / "photo_2.png").read_bytes()
        file.write(content[:500])
        file.flush()
        time.sleep(1.5)
        file.write(content[500:])
    assert wait_for(watching, "file")["input"] == "slow.png"
    watching.send_signal(sent)
    rest, said = watching.communicate(timeout=60)
    assert watching.returncode == status, said
    last = events(rest)[-1]
    assert (last["event"], last["done"], last["failed"]) == ("done", 3, 0)
    assert "Traceback" not in said
    assert files(tmp_path / "out") == ["0.png", "a/1.jpg", "slow.png"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_killed_at_any_of_fifty_moments_is_resumed_to_the_last_byte(
    model: Path, photo_dir: Path, tmp_path: Path
) -> None:
    source = make_pictures(tmp_path / "in", photo_dir, 24)
    done = subprocess.run(
        [
            sys.executable,
            str(HERE / "kill_and_resume.py"),
            str(model),
            str(source),
            str(tmp_path / "outs"),
            "50",
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
