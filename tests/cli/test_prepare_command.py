import re
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapool_sr.cli import prepare
from adapool_sr.cli.main import main
from adapool_sr.data import debian_photos, leaves

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "sr_x2_tiny.yaml"
PREVIEW = ["--preview", "3", "sheet.png", "-c", str(CONFIG), "--data.holdout", "null"]
LEAVES = ["dead-leaves", "leaves", "-c", str(CONFIG)]


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
        (["set5", "x", "-c", "y"], r"--data\.\*: belong to --preview and dead-leaves"),
        (["set5", "x", "--overwrite"], "--overwrite: belongs to --preview"),
        (["set5", "x", "--count", "2"], "--count: belongs to dead-leaves"),
        ([*PREVIEW, "--data.root", ".", "--count", "2"], "--count: belongs to dead-leaves"),
        ([*PREVIEW, "--data.root", ".", "--no-copyleft"], "--no-copyleft: belongs to debian"),
        ([*LEAVES, "--count", "0"], "--count: must be a whole number of at least 1"),
        ([*LEAVES, "--no-copyleft"], "--no-copyleft: belongs to debian-photos"),
        ([*LEAVES, "--overwrite"], "--overwrite: belongs to --preview"),
        ([*LEAVES, "--data.scale", "3"], r"--data\.scale: belongs to --preview"),
        ([*LEAVES, "--data.patch_size", "48"], r"--data\.patch-size: belongs to --preview"),
        ([*LEAVES], r"data\.root: is required"),
        ([*LEAVES, "--data.root", "nowhere"], "nowhere: no such folder"),
        ([*LEAVES, "--data.root", ".", "--data.seed", "-1"], r"data\.seed: must be 0 to"),
        (["dead-leafs", *LEAVES[1:], "--count", "2"], r"dead-leafs: .*did you mean dead-leaves\?"),
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
    assert list(tmp_path.iterdir()) == []


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


def test_dead_leaves_are_drawn_once(
    photo_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leaves, "_SHAPES", (5, 9))
    words = ["prepare", *LEAVES, "--data.root", str(photo_dir), "--data.seed", "5"]
    assert main([*words, "--count", "2"]) == 0
    assert capsys.readouterr() == ("leaves: 2 pictures drawn\n", "")
    first = {path.name: path.read_bytes() for path in Path("leaves").iterdir()}
    assert sorted(first) == ["leaf_0000.png", "leaf_0001.png"]
    photos = [np.asarray(Image.open(path)) for path in sorted(photo_dir.iterdir())]
    with Image.open("leaves/leaf_0001.png") as image:
        assert np.array_equal(np.asarray(image), leaves.Leaves(photos, 5).picture(1))
    assert main([*words, "--count", "3"]) == 0
    assert capsys.readouterr() == ("leaves: 1 pictures drawn, 2 stood there\n", "")
    assert sorted(path.name for path in Path("leaves").iterdir()) == [
        *sorted(first),
        "leaf_0002.png",
    ]
    assert {name: Path("leaves", name).read_bytes() for name in first} == first
    assert main([*words, "--count", "3", "-q"]) == 0
    assert capsys.readouterr() == ("", "")


def test_dead_leaves_take_colours_from_what_the_configuration_does_not_hold_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a", "budgie_oakland-zoo-otters_1", "budgie_reef_1"):
        Image.new("RGB", (8, 8)).save(photos / f"{name}.png")
    asked = []

    def write(folder: Path, paths: list[Path], count: int, seed: int, _: object) -> int:
        asked.append((folder, [path.name for path in paths], count, seed))
        return count

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(leaves, "write_leaves", write)
    words = ["prepare", "Dead_Leaves", *LEAVES[1:], "--data.root", str(photos), "-q"]
    assert main(words) == 0
    assert main([*words, "--data.holdout", "[a.png]", "--data.seed", "4", "--count", "9"]) == 0
    assert asked == [
        (Path("leaves"), ["a.png", "budgie_reef_1.png"], prepare.DRAWN_COUNT, 0),
        (Path("leaves"), ["budgie_oakland-zoo-otters_1.png", "budgie_reef_1.png"], 9, 4),
    ]


def test_dead_leaves_take_nothing_from_pictures_that_only_measure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (481, 321)).save(tmp_path / "101085.png")
    assert main(["prepare", *LEAVES, "--data.root", ".", "--count", "1"]) == 2
    assert "holds pictures of B100 (101085.png)" in capsys.readouterr().err
    assert not (tmp_path / "leaves").exists()


def test_a_photo_that_cannot_be_read_is_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn.png").write_bytes(b"\x89PNG")
    assert main(["prepare", *LEAVES, "--data.root", ".", "--count", "1"]) == 1
    assert re.fullmatch(r"adapool-sr: error: torn\.png: .*\n", capsys.readouterr().err)


def test_help_tells_of_dead_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "--help"]) == 0
    out = capsys.readouterr().out
    assert "or dead-leaves, which" in out
    assert "adapool-sr prepare dead-leaves leaves -c configs/" in out
    assert "--count N" in out
