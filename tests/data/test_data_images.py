from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adapool_sr.data import find_images, load_pair, load_pairs
from adapool_sr.files.errors import (
    ConfigError,
    MissingFileError,
    UnreadableFileError,
    UsageError,
)
from adapool_sr.imaging import imresize


def save(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_folders_are_listed_with_their_folders_each_file_once(tmp_path: Path) -> None:
    for name in ("a/img10.png", "a/img2.png", "a/deep/z.webp", "b/x.jpg"):
        save(tmp_path / name, 4, 4)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    found, left_out = find_images([str(tmp_path / "a"), str(tmp_path / "b"), str(tmp_path)])
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert sorted(names) == ["a/deep/z.webp", "a/img10.png", "a/img2.png", "b/x.jpg"]
    assert names.index("a/img2.png") < names.index("a/img10.png") < names.index("b/x.jpg")
    assert left_out == 0


def test_patterns_keep_files_out_by_name_or_path(tmp_path: Path) -> None:
    for name in ("a/cat_1.png", "a/cat_2.png", "a/dog.png", "b/cat_3.png", "b/owl.png"):
        save(tmp_path / name, 4, 4)
    found, left_out = find_images(str(tmp_path), ["cat_*"])
    assert [path.name for path in found] == ["dog.png", "owl.png"]
    assert left_out == 3
    found, left_out = find_images(str(tmp_path), ["*/b/*"])
    assert [path.name for path in found] == ["cat_1.png", "cat_2.png", "dog.png"]


def test_a_photo_is_cropped_and_shrunk_exactly(tmp_path: Path) -> None:
    pixels = save(tmp_path / "p.png", 37, 41)
    pair = load_pair(tmp_path / "p.png", 3)
    hr = torch.from_numpy(pixels[:36, :39].transpose(2, 0, 1).copy())
    assert torch.equal(torch.from_numpy(pair.hr), hr)
    assert torch.equal(torch.from_numpy(pair.lr), imresize(hr, 1 / 3))
    assert (pair.name, pair.grown) == ("p", False)
    assert pair.megapixels == pytest.approx(36 * 39 / 1e6)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 40), (40, 5), (33, 31)])
def test_a_small_photo_is_mirrored_out(tmp_path: Path, height: int, width: int) -> None:
    pixels = save(tmp_path / "p.png", height, width).transpose(2, 0, 1)
    pair = load_pair(tmp_path / "p.png", 2, least=32)
    assert min(pair.hr.shape[1:]) == 32
    assert pair.hr.shape[1] == 2 * pair.lr.shape[1]
    assert pair.grown
    rows, columns = min(height, pair.hr.shape[1]), min(width, pair.hr.shape[2])
    assert np.array_equal(pair.hr[:, :rows, :columns], pixels[:, :rows, :columns])
    if height < 32:  # the first row beyond the photo repeats its last one
        assert np.array_equal(pair.hr[:, height], pair.hr[:, height - 1])


def test_grey_photos_become_rgb(grey_dir: Path) -> None:
    pair = load_pair(grey_dir / "grey_1.png", 2)
    assert pair.hr.shape == (3, 48, 64)
    assert np.array_equal(pair.hr[0], pair.hr[2])


def test_many_photos_come_in_their_order(photo_dir: Path) -> None:
    paths, _ = find_images(str(photo_dir))
    pairs = load_pairs(paths, 2)
    assert [pair.path for pair in pairs] == paths
    for pair in pairs:
        assert np.array_equal(pair.lr, load_pair(pair.path, 2).lr)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere: no such folder"):
        find_images(str(tmp_path / "nowhere"))


def test_an_empty_folder_is_named_with_a_remedy(tmp_path: Path) -> None:
    save(tmp_path / "full" / "a.png", 4, 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="empty: holds no pictures; give a folder of png"):
        find_images([str(tmp_path / "full"), str(tmp_path / "empty")])


def test_a_file_for_a_folder_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 4, 4)
    with pytest.raises(UsageError, match=r"a\.png: is a file"):
        find_images(str(tmp_path / "a.png"))


def test_a_holdout_of_everything_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 4, 4)
    with pytest.raises(ConfigError, match=r"data\.holdout: leaves out all 1 pictures of .*fewer"):
        find_images(str(tmp_path), ["*"])


def test_no_folder_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.root: is an empty list"):
        find_images([])


def test_a_damaged_file_is_named(photo_dir: Path, tmp_path: Path) -> None:
    good = (photo_dir / "photo_1.png").read_bytes()
    (tmp_path / "good.png").write_bytes(good)
    (tmp_path / "torn.png").write_bytes(good[: len(good) // 2])
    with pytest.raises(UnreadableFileError, match=r"torn\.png"):
        load_pairs(find_images(str(tmp_path))[0], 2)
