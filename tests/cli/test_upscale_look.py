from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapool_sr.cli.main import main
from adapool_sr.imaging.resize import imresize
from adapool_sr.io.images import read, read_rgb8
from adapool_sr.models.checkpoint import save
from adapool_sr.models.sr import AdaPoolSR

Upscale = Callable[..., int]


def save_model(path: Path, scale: int) -> Path:
    torch.manual_seed(scale)
    net = AdaPoolSR(scale=scale, widths=(4, 4), blocks=(0, 1))
    torch.nn.init.normal_(net.tail.weight, std=0.02)
    save(path, net, name=path.stem, license="MIT", training={})
    return path


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small models with random weights, two of a family."""
    root = tmp_path_factory.mktemp("shelf")
    for name in ("tiny-x2", "tiny-x4", "other-x2", "third-x2"):
        save_model(root / f"{name}.safetensors", int(name[-1]))
    return root


@pytest.fixture
def upscale(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Upscale:
    """``upscale(*words) -> exit status``, where these models ship."""
    monkeypatch.setattr("adapool_sr.models.registry.WEIGHTS", shelf)

    def run(*words: str | Path) -> int:
        threads = torch.get_num_threads()
        try:
            return main(["upscale", "--threads", "1", *map(str, words)])
        finally:
            torch.set_num_threads(threads)

    return run


@pytest.fixture
def mixed(tmp_path: Path, photo_dir: Path) -> Path:
    """A landscape, a portrait, one that is large, one pixel, 16 bits, and one with alpha."""
    root = tmp_path / "in"
    root.mkdir()
    with Image.open(photo_dir / "photo_1.png") as photo:
        photo.crop((0, 0, 40, 30)).save(root / "a.png")
        photo.crop((0, 0, 31, 45)).save(root / "b.jpg")
        photo.crop((0, 0, 100, 90)).save(root / "c.png")
        photo.crop((0, 0, 1, 1)).save(root / "d.png")
        ramp = np.linspace(0, 65535, 24 * 20).astype(np.uint16).reshape(20, 24)
        Image.fromarray(ramp).save(root / "e.png")
        cut_out = photo.crop((0, 0, 20, 12)).convert("RGBA")
        cut_out.paste((0, 255, 0, 0), (0, 0, 7, 12))
        cut_out.save(root / "f.png")
    return root


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


def sizes(folder: Path) -> dict[str, tuple[int, int]]:
    return {path.name: size(path) for path in sorted(folder.iterdir())}


# --- sizes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        (["--fit", "80x80"], [(80, 60), (55, 80), (80, 72), (80, 80), (80, 67), (80, 48)]),
        (["--width", "60"], [(60, 45), (60, 87), (60, 54), (60, 60), (60, 50), (60, 36)]),
        (["--height", "60"], [(80, 60), (41, 60), (67, 60), (60, 60), (72, 60), (100, 60)]),
        (["--max-side", "90"], [(90, 68), (62, 90), (90, 81), (90, 90), (90, 75), (90, 54)]),
        (["--min-side", "62"], [(83, 62), (62, 90), (69, 62), (62, 62), (74, 62), (103, 62)]),
    ],
)
def test_a_folder_of_mixed_sizes_is_brought_to_one(
    flags: list[str], wanted: list[tuple[int, int]], upscale: Upscale, mixed: Path, tmp_path: Path
) -> None:
    assert upscale("-i", mixed, "-o", tmp_path / "out", *flags, "-q") == 0
    assert list(sizes(tmp_path / "out").values()) == wanted


def test_each_picture_gets_the_smallest_model_that_reaches_the_size(
    upscale: Upscale, mixed: Path, tmp_path: Path, shelf: Path
) -> None:
    words = ("--precision", "fp32", "-q")
    assert upscale("-i", mixed, "-o", tmp_path / "out", "--max-side", "80", *words) == 0
    for name, model in (("a.png", "tiny-x2"), ("e.png", "tiny-x4")):
        one = tmp_path / name
        path = shelf / f"{model}.safetensors"
        given = ("-i", mixed / name, "-o", one, "--max-side", "80", "--model-path", path)
        assert upscale(*given, *words) == 0
        assert one.read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_large_pictures_are_skipped_and_counted(
    upscale: Upscale, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("-i", mixed, "--max-side", "45", "--skip-larger")
    assert upscale(*words, "-o", tmp_path / "out") == 0
    assert sizes(tmp_path / "out").keys() == {"a.png", "d.png", "e.png", "f.png"}
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("4 done, 2 skipped as large enough in")
    assert "45 pixels on the longer side with tiny-x2, tiny-x4" in said[0]
    assert upscale(*words, "-o", tmp_path / "two", "--json", "-q") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    left = {e["input"] for e in events if e.get("status") == "skipped_larger"}
    assert left == {"b.jpg", "c.png"}
    assert events[-1]["skipped_larger"] == 2
    assert upscale(*words, "-o", tmp_path / "three", "--dry-run") == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("a.png: new, 45x34, 1 tile")
    assert said[1].endswith("b.jpg: large enough")
    assert said[-2].startswith("4 to do with")


def test_a_resumed_run_must_have_the_same_size(
    upscale: Upscale, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("adapool_sr.cli._upscale_view.View.finished", interrupted)
        assert upscale("-i", mixed, "-o", out, "--width", "50", "-q") == 130
    assert upscale("-i", mixed, "-o", out, "--width", "51", "--resume", "-q") == 2
    assert upscale("-i", mixed, "-o", out, "--width", "50", "--strength", "0", "--resume") == 2
    assert upscale("-i", mixed, "-o", out, "--width", "50", "--resume", "-q") == 0
    assert len(sizes(out)) == 6


# --- look ------------------------------------------------------------------------------------


def test_strength_0_writes_our_bicubic_bit_for_bit(
    upscale: Upscale, mixed: Path, tmp_path: Path
) -> None:
    for name in ("a.png", "e.png"):
        words = ("-i", mixed / name, "-o", tmp_path / name, "-s", "2", "--strength", "0", "-q")
        assert upscale(*words) == 0
        source, result = read(mixed / name), read(tmp_path / name)
        top = 2**source.bit_depth - 1
        wanted = imresize(source.pixels, 2, rounded=False).clamp(0, 1)
        assert torch.equal((result.pixels * top).round(), (wanted * top + 0.5).floor())


def test_everything_together_works_on_every_kind_of_picture(
    upscale: Upscale, mixed: Path, tmp_path: Path
) -> None:
    words = ("--strength", "0.8", "--wrap", "xy", "--consistent", "-s", "3", "-t", "16", "-q")
    assert upscale("-i", mixed, "-o", tmp_path / "out", *words) == 0
    assert sizes(tmp_path / "out")["b.jpg"] == (93, 135)
    assert read(tmp_path / "out" / "e.png").bit_depth == 16
    assert read(tmp_path / "out" / "f.png").alpha is not None


def test_a_consistent_result_shrinks_to_its_input(
    upscale: Upscale, mixed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "a.png"
    assert upscale("-i", mixed / "a.png", "-o", out, "-s", "2", "--consistent", "-q") == 0
    small = imresize(read_rgb8(out).float(), size=(30, 40), rounded=False)
    assert ((small - read_rgb8(mixed / "a.png")).abs() <= 0.5).float().mean() > 0.99


def test_verify_tells_the_db_and_strict_fails(
    upscale: Upscale,
    mixed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("-i", mixed / "c.png", "-s", "2", "--verify", "-n", "tiny")
    assert upscale(*words, "-o", tmp_path / "good.png") == 0
    said = capsys.readouterr().err
    assert "c.png: " in said
    assert "dB against its input, at worst" in said.splitlines()[-2]
    monkeypatch.setattr(
        AdaPoolSR,
        "forward",
        lambda self, x: torch.zeros(*x.shape[:2], *(2 * side for side in x.shape[2:])),
    )
    assert upscale(*words, "-o", tmp_path / "warned.png", "--json") == 0
    told = capsys.readouterr()
    assert "warning: " in told.err
    assert "the result does not show its input" in told.err
    events = [json.loads(line) for line in told.out.splitlines()]
    done = next(event for event in events if event["event"] == "file")
    assert done["input_worst"] > 0.04
    assert events[-1]["off"] == 1
    assert upscale(*words, "-o", tmp_path / "strict.png", "--strict", "-q") == 1
    assert not (tmp_path / "strict.png").exists()
    assert "the result does not show its input" in capsys.readouterr().err


# --- crops -----------------------------------------------------------------------------------


def test_a_crop_is_one_sheet_whose_pieces_are_regions_of_the_full_results(
    upscale: Upscale, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["tiny", "other", "third-x2"]
    words = ("-i", mixed / "c.png", "--precision", "fp32")
    out = tmp_path / "sheet.png"
    assert upscale(*words, "-o", out, "--crop", "20,30,50,40", "-n", ",".join(names)) == 0
    said = capsys.readouterr().err
    assert "input, bicubic, tiny-x2, other-x2, third-x2, 100x80 each" in said
    sheet = read_rgb8(out).int()
    for name in names:
        full = tmp_path / f"{name}.png"
        assert upscale(*words, "-o", full, "-n", name, "-s", "2", "-q") == 0
        piece = read_rgb8(full).int()[:, 60:140, 40:140]
        # Half a step of rounding may fall the other way.
        assert (
            min(
                int((sheet[:, top : top + 80, left : left + 100] - piece).abs().max())
                for top in {32}
                for left in range(0, sheet.shape[2] - 99)
            )
            <= 1
        )


@pytest.mark.parametrize("name", ["e.png", "f.png", "d.png"])
def test_every_kind_of_picture_makes_a_sheet(
    name: str, upscale: Upscale, mixed: Path, tmp_path: Path
) -> None:
    for words in (["-s", "3"], ["--width", "50"], ["--wrap", "x", "--strength", "0.5"]):
        out = tmp_path / f"{words[0]}.webp"
        given = ("-i", mixed / name, "-o", out, "--crop", "0,0,1,1", "-n", "tiny,other")
        assert upscale(*given, *words, "-q") == 0
        assert size(out)[0] > 100


def test_a_crop_through_a_model_file_and_a_pipe(shelf: Path, mixed: Path) -> None:
    command = [sys.executable, "-m", "adapool_sr", "upscale", "-i", "-", "-o", "-", "-q"]
    path = shelf / "other-x2.safetensors"
    done = subprocess.run(
        [*command, "--model-path", str(path), "--threads", "1", "--crop", "0,0,8,8"],
        input=(mixed / "a.png").read_bytes(),
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(b"\x89PNG")


# --- wrong usage -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-s", "2", "--width", "90"], "-s and --width: stand for two sizes; leave one out"),
        (["--width", "9", "--height", "9"], "--width and --height: stand for two sizes"),
        (["--fit", "9x9", "--max-side", "9"], "--max-side and --fit: stand for two sizes"),
        (["--fit", "90"], "--fit: must be WIDTHxHEIGHT, as in 1920x1080, got '90'"),
        (["--fit", "0x9"], "--fit: must be at least 1x1"),
        (["--width", "0"], "--width: must be a whole number of at least 1"),
        (["--skip-larger"], "--skip-larger: needs a size"),
        (["--strict"], "--strict: says what --verify is to do; add --verify"),
        (["--strength", "3"], "--strength: must be 0 to 2, got '3'"),
        (["--strength", "nan"], "--strength: must be 0 to 2, got 'nan'"),
        (["--wrap", "z"], "--wrap: invalid choice: 'z'"),
        (["--consistent", "-s", "1"], "--consistent: has no meaning at -s 1"),
        (["--crop", "1,2,3"], "--crop: must be x,y,width,height in pixels, got '1,2,3'"),
        (["--crop", "1,2,3,0"], "--crop: must hold pixels"),
        (["--crop", "0,0,5,5", "--verify"], "--crop and --verify: have no meaning together"),
        (["-n", "tiny,other"], "-n tiny,other: names several models; --crop compares them"),
        (["-n", "tiny,", "--crop", "0,0,1,1"], "has an empty name"),
        (["-n", "tiny,nonsense", "--crop", "0,0,1,1"], "model 'nonsense': is not known"),
    ],
)
def test_flags_that_contradict_each_other_are_refused_before_torch_is_loaded(
    words: list[str], said: str, mixed: Path
) -> None:
    code = (
        "import sys; from adapool_sr.cli.main import main; status = main(sys.argv[1:]); "
        "print(status, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "upscale", "-i", str(mixed / "a.png"), "-o", "x.png", *words],
        cwd=mixed.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "2 False\n"
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert not (mixed.parent / "x.png").exists()


def test_a_crop_beyond_the_picture_or_of_a_folder_is_refused(
    upscale: Upscale, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "x.png"
    assert upscale("-i", mixed / "a.png", "-o", out, "--crop", "30,0,20,5") == 2
    assert "--crop 30,0,20,5: reaches beyond the picture's 40x30 pixels" in capsys.readouterr().err
    assert upscale("-i", mixed, "-o", out, "--crop", "0,0,2,2") == 2
    assert "--crop: takes one picture, the input is a folder" in capsys.readouterr().err
    assert not out.exists()
