from collections.abc import Callable
from pathlib import Path

import pytest

from adapool_sr.data import layouts
from adapool_sr.data.layouts import B100, TRAINING_SETS, evaluation_pictures, named_root, photos_of
from adapool_sr.files.errors import MissingFileError, UsageError

Touch = Callable[..., None]


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def div2k(root: Path) -> None:
    touch(root / "DIV2K_train_HR", *(f"{n:04}.png" for n in range(1, 801)))
    touch(root / "DIV2K_valid_HR", *(f"{n:04}.png" for n in range(801, 901)))


def stems(entry: str, folder: Path) -> set[str]:
    found = TRAINING_SETS[entry]
    return {path.stem for path in photos_of(found, folder, found.train)}


def test_a_named_root_is_told_from_a_folder(tmp_path: Path) -> None:
    named = named_root(f"div2k={tmp_path}")
    assert named == (TRAINING_SETS["div2k"], tmp_path)
    assert named_root(str(tmp_path)) is None
    assert named_root(f"{tmp_path}/a=b") is None
    assert layouts.set_label("DIV2K=/data/x") == "DIV2K"
    assert layouts.set_label(tmp_path / "mine") == "mine"


def test_unknown_names_are_refused_unless_they_are_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="'DIV3K' is no known set; one of: DIV2K, Flickr2K"):
        named_root("DIV3K=photos")
    with pytest.raises(UsageError, match="names no folder"):
        named_root("DIV2K=")
    Path("DIV3K=photos").mkdir()
    assert named_root("DIV3K=photos") is None


def test_div2k_has_its_official_split(tmp_path: Path) -> None:
    div2k(tmp_path)
    touch(tmp_path / "DIV2K_train_HR", "0801.png", "readme.png")
    assert stems("div2k", tmp_path) == {f"{n:04}" for n in range(1, 801)}
    entry = TRAINING_SETS["div2k"]
    assert entry.val is not None
    assert layouts.has_part(tmp_path, entry.val)
    assert len(photos_of(entry, tmp_path, entry.val)) == 100


def test_missing_pictures_are_counted_and_named(tmp_path: Path) -> None:
    div2k(tmp_path)
    (tmp_path / "DIV2K_train_HR" / "0007.png").unlink()
    told = r"DIV2K: .*DIV2K_train_HR: holds 799 of the 800 pictures, not 0007; adapool-sr prepare"
    with pytest.raises(MissingFileError, match=told):
        stems("div2k", tmp_path)


def test_a_missing_part_names_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"Flickr2K: .*: holds no Flickr2K_HR"):
        stems("flickr2k", tmp_path)
    with pytest.raises(MissingFileError, match=r"Flickr2K: .*nowhere: no such folder"):
        stems("flickr2k", tmp_path / "nowhere")


def test_bsds_trains_on_train_and_test_without_set5s_woman(tmp_path: Path) -> None:
    images = tmp_path / "BSDS500" / "data" / "images"
    touch(images / "train", "302003.jpg", *(f"{n}.jpg" for n in range(400_000, 400_199)))
    touch(images / "test", *(f"{n}.jpg" for n in range(500_000, 500_200)))
    touch(images / "val", *(f"{n}.jpg" for n in B100))
    found = stems("bsds500", tmp_path)
    assert len(found) == 399
    assert not found & (B100 | {"302003"})
    assert len(stems("bsds200", tmp_path)) == 199


def test_b100_has_a_hundred_pictures() -> None:
    assert len(B100) == 100


def test_t91_is_one_flat_folder(tmp_path: Path) -> None:
    touch(tmp_path, *(f"t{n}.png" for n in range(1, 65)), *(f"tt{n}.png" for n in range(1, 28)))
    touch(tmp_path / "more", "t99.png")
    assert len(stems("t91", tmp_path)) == 91


def test_published_low_resolutions_are_found_by_scale(tmp_path: Path) -> None:
    entry = TRAINING_SETS["div2k"]
    low = tmp_path / "DIV2K_train_LR_bicubic_X4" / "X4"
    low.mkdir(parents=True)
    assert layouts.low_folder(entry, tmp_path, entry.train, 4) == low
    told = r"holds no DIV2K_train_LR_bicubic/X2; leave data\.lr_root out"
    with pytest.raises(MissingFileError, match=told):
        layouts.low_folder(entry, tmp_path, entry.train, 2)
    with pytest.raises(MissingFileError, match=r"T91: .* has no published LR"):
        layouts.low_folder(TRAINING_SETS["t91"], tmp_path, TRAINING_SETS["t91"].train, 2)


@pytest.mark.parametrize(
    ("name", "size", "is_b100"),
    [
        ("101085.jpg", (481, 321), True),
        ("bsds_101085.png", (321, 481), True),
        ("3096.png", (480, 312), True),
        ("8023x2.png", (480, 320), True),
        ("IMG_3096.JPG", (4000, 3000), False),
        ("302003.jpg", (481, 321), False),
        ("0101085.png", (481, 321), False),
        ("baby.png", (481, 321), False),
    ],
)
def test_b100_is_known_by_number_and_size(name: str, size: tuple[int, int], is_b100: bool) -> None:
    assert bool(evaluation_pictures([Path(name)], lambda _: size)) is is_b100
