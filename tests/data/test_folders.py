from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapool_sr.data.folders import find_images, find_lr, refuse_evaluation_pictures
from adapool_sr.data.images import Source, size_of
from adapool_sr.files.errors import ConfigError, MissingFileError, UnreadableFileError


def save(path: Path, width: int, height: int, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("name", ["0001.png", "0001x2.png", "0001_x2.png", "0001x2.bmp"])
def test_a_low_resolution_has_its_photos_path_and_stem(tmp_path: Path, name: str) -> None:
    high = save(tmp_path / "hr" / "a" / "0001.png", 8, 8)
    low = save(tmp_path / "lr" / "a" / name, 4, 4)
    save(tmp_path / "lr" / "b" / "0001.png", 4, 4)
    assert find_lr([high], str(tmp_path / "hr"), str(tmp_path / "lr"), 2) == [low]


def test_hr_and_lr_may_stand_in_the_names(tmp_path: Path) -> None:
    high = save(tmp_path / "img_001_SRF_2_HR.png", 8, 8)
    low = save(tmp_path / "img_001_SRF_2_LR.png", 4, 4)
    assert find_lr([high], str(tmp_path), str(tmp_path), 2) == [low]


def test_each_root_has_its_own_low_resolutions(tmp_path: Path) -> None:
    highs = [save(tmp_path / part / "1.png", 8, 8) for part in ("a", "b")]
    lows = [save(tmp_path / f"{part}_low" / "1.png", 4, 4) for part in ("a", "b")]
    roots = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert find_lr(highs, roots, [f"{root}_low" for root in roots], 2) == lows
    with pytest.raises(ConfigError, match=r"data\.lr_root: names 1 folders for 2 of HR"):
        find_lr(highs, roots, str(tmp_path / "a_low"), 2)


def test_a_missing_low_resolution_is_named(tmp_path: Path) -> None:
    high = save(tmp_path / "hr" / "0001.png", 8, 8)
    save(tmp_path / "lr" / "0002.png", 4, 4)
    with pytest.raises(MissingFileError, match=r"0001\.png: has no low resolution .*lr/0001\.\*"):
        find_lr([high], str(tmp_path / "hr"), str(tmp_path / "lr"), 2)


def test_left_over_rows_are_cut_off_the_photo(tmp_path: Path) -> None:
    high = save(tmp_path / "hr.png", 21, 14)
    low = save(tmp_path / "lr.png", 7, 4)
    pair = Source(high, 3, 1, 1.0, low).read()
    assert pair.hr.shape == (3, 12, 21)
    with Image.open(low) as image:
        assert np.array_equal(pair.lr, np.asarray(image).transpose(2, 0, 1))
    grown = Source(high, 3, 30, 1.0, low).read()
    assert (grown.hr.shape, grown.lr.shape, grown.grown) == ((3, 30, 30), (3, 10, 10), True)
    assert np.array_equal(grown.lr[:, :4, :7], pair.lr)


@pytest.mark.parametrize("size", [(7, 5), (8, 4), (14, 8), (6, 4)])
def test_another_size_is_refused_with_both_names(tmp_path: Path, size: tuple[int, int]) -> None:
    high, low = save(tmp_path / "hr.png", 21, 14), save(tmp_path / "lr.png", *size)
    told = rf"lr\.png: is {size[0]}x{size[1]}, but hr\.png of 21x14 asks for 7x4 at x3; check"
    with pytest.raises(UnreadableFileError, match=told):
        Source(high, 3, 1, 1.0, low).read()


def test_pictures_of_b100_do_not_train(tmp_path: Path) -> None:
    paths = [save(tmp_path / name, 481, 321) for name in ("101085.png", "302003.png")]
    refuse_evaluation_pictures(paths[1:])
    told = r"data\.root: .* holds pictures of B100 \(101085\.png\).*data\.holdout"
    with pytest.raises(ConfigError, match=told):
        refuse_evaluation_pictures(paths)


def test_sizes_come_from_headers(tmp_path: Path) -> None:
    assert size_of(save(tmp_path / "a.png", 5, 3)) == (5, 3)
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(UnreadableFileError, match=r"b\.png: is no picture"):
        size_of(tmp_path / "b.png")


def test_a_named_set_is_listed_by_its_split(tmp_path: Path) -> None:
    names = [f"t{n}" for n in range(1, 65)] + [f"tt{n}" for n in range(1, 28)]
    for name in [*names, "other"]:
        (tmp_path / f"{name}.png").touch()
    found, left_out = find_images(f"T91={tmp_path}", ["tt*"])
    assert len(found) == 64
    assert left_out == 27
