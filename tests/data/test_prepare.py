from pathlib import Path

import pytest
from PIL import Image

from adapool_sr.data.layouts import B100
from adapool_sr.data.prepare import EVALUATION_SETS, check_set
from adapool_sr.files.errors import MissingFileError, UnreadableFileError


def save(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 40)).save(path)


def set5(folder: Path, shrink: int = 1, less: int = 0) -> None:
    for name, (width, height) in EVALUATION_SETS["set5"].sizes.items():
        save(folder / f"{name}.png", (width // shrink - less, height // shrink - less))


def test_a_good_set_says_how_to_use_it(tmp_path: Path) -> None:
    set5(tmp_path)
    found = check_set("set5", tmp_path)
    assert (found.good, found.failed, found.exit_status) == (5, [], 0)
    assert found.found == ["Set5: 5 pictures, all of them decoded"]
    assert found.use == [f"adapool-sr evaluate -n tiny-x2 --data Set5={tmp_path}"]


def test_cropped_pictures_pass_and_are_mentioned(tmp_path: Path) -> None:
    set5(tmp_path, less=8)
    found = check_set("set5", tmp_path)
    assert found.exit_status == 0
    assert "5 smaller than the original by up to 8 pixels" in found.found[0]


def test_wrong_sizes_and_damaged_files_are_named(tmp_path: Path) -> None:
    set5(tmp_path)
    save(tmp_path / "bird.png", (144, 144))
    torn = (tmp_path / "baby.png").read_bytes()[:300]
    (tmp_path / "baby.png").write_bytes(torn)
    ticks: list[int] = []
    found = check_set("set5", tmp_path, lambda: ticks.append(1))
    assert (found.good, len(found.failed), found.exit_status, len(ticks)) == (3, 2, 3, 5)
    told = dict(found.failed)
    assert told[str(tmp_path / "bird.png")] == "is 144x144; Set5's own is 288x288"
    assert str(tmp_path / "baby.png") in told


def test_a_folder_of_low_resolutions_is_no_set(tmp_path: Path) -> None:
    set5(tmp_path, shrink=2)
    assert check_set("set5", tmp_path).exit_status == 1


def test_low_resolutions_beside_the_set_are_refused(tmp_path: Path) -> None:
    for k in range(1, 6):
        save(tmp_path / f"img_00{k}_SRF_2_HR.png", (24, 24))
        save(tmp_path / f"img_00{k}_SRF_2_LR.png", (12, 12))
    with pytest.raises(UnreadableFileError, match=r"Set5: .*5 low-resolution pictures"):
        check_set("set5", tmp_path)


def test_a_wrong_count_names_what_is_missing(tmp_path: Path) -> None:
    set5(tmp_path)
    (tmp_path / "woman.png").unlink()
    with pytest.raises(MissingFileError, match=r"Set5: .*holds 4 pictures; the set has 5, not wom"):
        check_set("set5", tmp_path)
    with pytest.raises(MissingFileError, match="nowhere: no such folder"):
        check_set("set5", tmp_path / "nowhere")


def test_b100_is_known_by_names_and_sizes(tmp_path: Path) -> None:
    for number, name in enumerate(sorted(B100)):
        save(tmp_path / f"{name}.png", (481, 321) if number % 2 else (320, 480))
    found = check_set("b100", tmp_path)
    assert found.exit_status == 0
    assert "50 smaller than the original by up to 1 pixels" in found.found[0]
    save(tmp_path / "101085.png", (240, 160))
    assert check_set("b100", tmp_path).exit_status == 3


@pytest.mark.parametrize(("longest", "good"), [(1024, True), (512, False), (1020, True)])
def test_urban100_in_half_size_is_refused(tmp_path: Path, longest: int, good: bool) -> None:
    for k in range(1, 101):
        save(tmp_path / f"img_{k:03}.png", (longest, 8) if k > 3 else (longest // 2, 8))
    if good:
        assert check_set("urban100", tmp_path).exit_status == 0
    else:
        with pytest.raises(UnreadableFileError, match=r"Urban100: .*512 pixels long.*SRF_2"):
            check_set("urban100", tmp_path)


def div2k(root: Path, low: tuple[int, int] = (4, 3)) -> None:
    for part, first, last in (("train", 1, 801), ("valid", 801, 901)):
        for n in range(first, last):
            save(root / f"DIV2K_{part}_HR" / f"{n:04}.png", (9, 6))
            save(root / f"DIV2K_{part}_LR_bicubic" / "X2" / f"{n:04}x2.png", low)


@pytest.mark.slow
def test_div2k_is_checked_with_its_low_resolutions(tmp_path: Path) -> None:
    div2k(tmp_path)
    found = check_set("div2k", tmp_path)
    assert (found.good, found.exit_status) == (900, 0)
    root = f"DIV2K={tmp_path}"
    assert found.use == [
        f"--data.root {root}",
        f"--data.root {root} --data.lr_root {root} --data.scale 2",
    ]
    save(tmp_path / "DIV2K_train_LR_bicubic" / "X2" / "0005x2.png", (5, 3))
    found = check_set("div2k", tmp_path)
    assert [why for _, why in found.failed] == ["is 5x3; 0005.png asks for 4x3 at x2"]
    (tmp_path / "DIV2K_valid_LR_bicubic" / "X2" / "0900x2.png").unlink()
    with pytest.raises(MissingFileError, match=r"0900\.png: has no low resolution"):
        check_set("div2k", tmp_path)


def test_bsds_and_t91_are_checked(tmp_path: Path) -> None:
    for n in range(400_000, 400_199):
        save(tmp_path / "images" / "train" / f"{n}.jpg", (48, 32))
    found = check_set("bsds", tmp_path)
    assert (found.good, found.use) == (199, [f"--data.root BSDS200={tmp_path}"])
    with pytest.raises(MissingFileError, match=r"T91: .*holds 0 of the 91 pictures"):
        check_set("t91", tmp_path)
