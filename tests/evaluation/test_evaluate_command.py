import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from adapool_sr.cli.main import main
from adapool_sr.models import AdaPoolSR, checkpoint


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = AdaPoolSR(scale=2, widths=(8, 8), blocks=(0, 1))
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    checkpoint.save(path, network, name="small-x2", license="CC0-1.0", training={})
    return path


def test_the_table_goes_to_standard_output(
    model_file: Path, photo_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model_path", str(model_file), "--data", f"Six={photo_dir}", "--per-image"]
    assert main(["evaluate", *words, "--precision", "fp32", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "small-x2" in out
    assert "\nSix " in out
    assert "photo_6.png" in out
    assert "border:  2 pixels" in out


def test_json_is_one_object_a_line(
    model_file: Path, photo_dir: Path, grey_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model-path", str(model_file), "--data", str(photo_dir), "--data", f"g={grey_dir}"]
    assert main(["evaluate", *words, "--json", "--threads", "1"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["event"] for e in events] == ["start", *["file"] * 18, "done"]
    done = events[-1]
    assert [(row["set"], row["images"]) for row in done["sets"]] == [(photo_dir.name, 6), ("g", 12)]
    figures = [e["bicubic_psnr"] for e in events[1:7]]
    assert done["sets"][0]["bicubic_psnr"] == pytest.approx(sum(figures) / 6)
    assert set(done["foot"]) >= {"channel", "border", "resize", "range"}


def test_several_models_files_and_a_montage(
    model_file: Path, photo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv_file, sheet = tmp_path / "new" / "six.csv", tmp_path / "crops.png"
    words = ["-n", "tiny-x2", "--model-path", str(model_file), "--data", str(photo_dir)]
    words += ["--csv", str(csv_file), "--montage", str(sheet), "--crops", "2", "--jpeg", "80"]
    assert main(["evaluate", *words, "--threads", "1", "--self-ensemble"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[2].split()[2:] == ["bicubic", "tiny-x2", "gain", "small-x2", "gain"]
    assert "JPEG quality 80" in out
    assert "self-ensemble of eight" in out
    assert len(csv_file.read_text().splitlines()) == 1 + 2 * 6
    with Image.open(sheet) as image:
        assert image.height > 4 * 200


@pytest.mark.parametrize(("flag", "name"), [("--csv", "mine.csv"), ("--montage", "mine.png")])
def test_a_file_that_exists_is_kept_without_overwrite(
    flag: str,
    name: str,
    model_file: Path,
    photo_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / name
    file.write_text("mine")
    words = [
        "evaluate",
        "--model-path",
        str(model_file),
        "--data",
        str(photo_dir),
        "--threads",
        "1",
    ]
    words += [flag, str(file)]
    assert main(words) == 2
    assert f"{file}: exists; give --overwrite to replace it" in capsys.readouterr().err
    assert file.read_bytes() == b"mine"
    assert main([*words, "-q", "--overwrite"]) == 0
    assert file.read_bytes() != b"mine"


def test_quiet_prints_nothing(
    model_file: Path, photo_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model-path", str(model_file), "--data", str(photo_dir), "-q", "--threads", "1"]
    assert main(["evaluate", *words]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_bad_picture_is_named_counted_and_exits_3(
    model_file: Path, photo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(photo_dir / "photo_1.png", tmp_path)
    (tmp_path / "torn.png").write_bytes(b"no picture")
    words = ["--model-path", str(model_file), "--data", str(tmp_path), "--threads", "1"]
    assert main(["evaluate", *words]) == 3
    out, err = capsys.readouterr()
    assert "torn.png" in err
    assert err.splitlines()[-1] == "1 measured, 1 failed"
    assert f"\n{tmp_path.name}" in out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--data", "{photos}", "-s", "1.5"], "--scale: must be whole and at least 1, got 1.5"),
        (["--data", "{photos}", "-n", "no-such"], "no-such"),
        (["--data", "{photos}", "--model-path", "gone.ckpt"], "gone.ckpt"),
        (["--data", "{photos}", "-n", "tiny-x2,"], "--name: holds an empty name"),
        (["--data", "{photos}", "--montage", "crops.jpg"], "--montage crops.jpg: is written as"),
        (["--data", "{photos}", "--csv", "{photos}"], "is a folder; give a file's name"),
        (["--data", "{photos}", "--jpeg", "0"], "--jpeg: must be 1 to 100, got '0'"),
        ([], "--data: is required"),
    ],
)
def test_wrong_usage_exits_2_with_one_line(
    words: list[str], error: str, photo_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("{photos}", str(photo_dir)) for word in words]
    assert main(["evaluate", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("adapool-sr: error: ")
    assert error in err
    assert err.count("\n") == 1


def test_consistent_results_are_measured_and_said_so(
    model_file: Path, photo_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--model-path", str(model_file), "--data", str(photo_dir), "--threads", "1"]
    gains = []
    for flags in ([], ["--consistent"]):
        assert main(["evaluate", *words, *flags]) == 0
        out = capsys.readouterr().out
        gains.append(float(out.splitlines()[3].split()[-1]))
        assert ("made consistent with the input" in out) is bool(flags)
    # Bicubic alone is what this untrained network gives: consistency sharpens it.
    assert gains[1] > gains[0] + 0.3
