import re
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapool_sr.cli import prepare
from adapool_sr.cli.main import main
from adapool_sr.data import debian_photos

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "sr_x2_tiny.yaml"
PREVIEW = ["--preview", "3", "sheet.png", "-c", str(CONFIG), "--data.holdout", "null"]


@pytest.fixture
def set5(tmp_path: Path) -> Path:
    from adapool_sr.data.prepare import EVALUATION_SETS

    for name, size in EVALUATION_SETS["set5"].sizes.items():
        Image.new("L", size).save(tmp_path / f"{name}.png")
    return tmp_path


def test_a_good_set_is_status_0(set5: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "Set5", str(set5)]) == 0
    out, err = capsys.readouterr()
    assert "use: adapool-sr evaluate -n tiny-x2 --data Set5=" in out
    assert err == ""
    assert main(["prepare", "set5", str(set5), "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_a_damaged_file_is_named_and_status_3(
    set5: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (set5 / "bird.png").write_bytes(b"\x89PNG")
    assert main(["prepare", "set5", str(set5)]) == 3
    out, err = capsys.readouterr()
    assert re.search(r"^adapool-sr: error: \S*bird\.png: ", err, re.M)
    assert err.endswith("4 good, 1 failed\n")
    assert "use:" not in out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "NAME DIR: are required"),
        (["set5"], "NAME DIR: are required"),
        (["div2", "x"], r"div2: is no known set; did you mean div2k\?"),
        (["set5", "nowhere"], "nowhere: no such folder"),
        (["set5", "x", "--no-copyleft"], "--no-copyleft: belongs to debian-photos"),
        (["set5", "x", "--data.root", "y"], r"--data\.\*: belong to --preview"),
        (["set5", "--preview", "3", "a.png"], "set5: stands beside --preview"),
        (["--preview", "0", "a.png"], "--preview: must be a whole number of at least 1"),
        (["--preview", "3", "a.jpg"], r"a\.jpg: is not named \.png"),
        ([*PREVIEW, "--data.root", "nowhere"], "nowhere: no such folder"),
        ([*PREVIEW, "--data.root", ".", "--data.degradation", "blurry"], r"degradation\.kind: is"),
    ],
)
def test_wrong_words_are_one_line_and_status_2(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf"adapool-sr: error: .*{told}.*\n", err)
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("degradation", ["bicubic", "second_order"])
def test_a_preview_shows_hr_beside_the_enlarged_lr(
    photo_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, degradation: str
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [*PREVIEW, "--data.root", str(photo_dir), "--data.patch_size", "48", "-q"]
    words += ["--data.degradation", degradation]
    assert main(["prepare", *words]) == 0
    with Image.open("sheet.png") as image:
        sheet = np.asarray(image.convert("RGB")).astype(float)
    shown, gap = 192, 8
    assert sheet.shape[0] == 3 * (shown + gap) + gap
    hr = sheet[gap : gap + shown, gap : gap + shown]
    lr = sheet[gap : gap + shown, 2 * gap + shown : 2 * (gap + shown)]
    assert np.abs(hr.mean((0, 1)) - lr.mean((0, 1))).max() < 8
    assert np.array_equal(lr[:8, :8], np.broadcast_to(lr[:1, :1], (8, 8, 3)))  # one LR pixel
    assert (sheet[:, 2 * (gap + shown) :] < 100).any()  # the words
    assert main(["prepare", *words]) == 2  # it is there already
    assert main(["prepare", *words, "--overwrite"]) == 0


def test_the_previews_flags_are_the_data_modules() -> None:
    from adapool_sr.data import SRDataModule

    assert {key for key, _, _ in prepare._DATA_FLAGS} <= set(signature(SRDataModule).parameters)


@pytest.mark.parametrize(
    ("done", "troubles", "status"), [(2, [], 0), (2, ["p: x: no"], 3), (0, ["p: x: no"], 1)]
)
def test_fetching_gives_its_status(
    done: int,
    troubles: list[str],
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [{"width": "1000", "height": "500"}] * done
    monkeypatch.setattr(debian_photos, "fetch_photos", lambda *_: (rows, troubles))
    assert main(["prepare", "debian-photos", str(tmp_path), "--no-copyleft"]) == status
    out, err = capsys.readouterr()
    assert out.startswith(f"{done} photos, {done * 0.5:.1f} megapixels")
    assert ("adapool-sr: error: p: x: no" in err) is bool(troubles)
