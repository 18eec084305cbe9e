import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from adapool_sr.data import leaves
from adapool_sr.data.leaves import SIDE, Leaves, write_leaves
from adapool_sr.files.errors import FullDiskError, UnreadableFileError, UnwritableFileError

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handful of shapes in a picture: quickly drawn."""
    monkeypatch.setattr(leaves, "_SHAPES", (5, 9))


@pytest.fixture
def photos(photo_dir: Path) -> list[Path]:
    return sorted(photo_dir.iterdir())


def pixels_of(paths: Sequence[Path]) -> list[Pixels]:
    pictures = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(np.asarray(image.convert("RGB")))
    return pictures


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.usefixtures("few")
def test_a_picture_depends_on_photos_seed_and_number_alone(photos: list[Path]) -> None:
    given = pixels_of(photos)
    source = Leaves(given, seed=7)
    first = source.picture(3)
    assert first.shape == (SIDE, SIDE, 3)
    assert first.dtype == np.uint8
    other = source.picture(4)
    assert np.array_equal(source.picture(3), first)
    assert np.array_equal(Leaves(given, seed=7).picture(3), first)
    for unlike in (other, Leaves(given, seed=8).picture(3), Leaves(given[:1], 7).picture(3)):
        assert (unlike != first).mean() > 0.5


@pytest.mark.usefixtures("few")
def test_any_seed_of_the_samples_draws(photos: list[Path]) -> None:
    assert Leaves(pixels_of(photos[:1]), 2**64 - 1).picture(0).shape == (SIDE, SIDE, 3)


def test_a_whole_picture_has_many_edges_and_the_photos_colours(photos: list[Path]) -> None:
    given = pixels_of(photos)
    drawn = Leaves(given).picture(0).astype(int)
    assert min(drawn.min((0, 1))) < 60
    assert max(drawn.max((0, 1))) > 180
    means = np.stack([photo.mean((0, 1)) for photo in given])
    assert np.abs(drawn.mean((0, 1)) - means.mean(0)).max() < 40
    # A fifth of all neighbours differ by more than 8 levels, and as many by at most 1.
    steps = np.abs(np.diff(drawn, axis=1)).max(2)
    assert (steps > 8).mean() > 0.15
    assert (steps <= 1).mean() > 0.15


@pytest.mark.usefixtures("few")
def test_grey_photos_make_grey_pictures() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 30, 1), dtype=np.uint8)
    drawn = Leaves([np.repeat(grey, 3, axis=2)]).picture(0).astype(int)
    assert np.ptp(drawn, axis=2).max() <= 1
    assert np.ptp(drawn) > 50


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1)])
def test_tiny_photos_serve(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaves, "_SHAPES", (40, 41))  # textures among them
    drawn = Leaves([np.full((*size, 3), (200, 100, 50), np.uint8)]).picture(0)
    assert np.abs(drawn.astype(int) - (200, 100, 50)).max() <= 1  # there is no other colour


@pytest.mark.parametrize("radius", [9.0, 60.0, 500.0])
def test_every_shape_is_a_mask_that_covers_something(radius: float, photos: list[Path]) -> None:
    for kind in ("_ellipse", "_rectangle", "_polygon", "_lines", "_letters"):
        canvas = leaves._Canvas(pixels_of(photos[:1]), np.random.default_rng(1))
        covered = 0
        for _ in range(6):
            mask = np.zeros((int(2 * radius + 5),) * 2, np.uint8)
            getattr(canvas, kind)(mask, radius)
            covered += int(mask.max() > 100 and 0.002 < (mask > 0).mean() < 0.95)
        assert covered >= 4, kind


@pytest.mark.usefixtures("few")
def test_missing_pictures_are_written_and_standing_ones_kept(
    photos: list[Path], tmp_path: Path
) -> None:
    folder, told = tmp_path / "new" / "leaves", []
    assert write_leaves(folder, photos, 3, 5, lambda: told.append(1)) == 3
    assert (names_in(folder), len(told)) == ([f"leaf_000{k}.png" for k in range(3)], 3)
    source = Leaves(pixels_of(photos), 5)
    for number, written in enumerate(pixels_of(sorted(folder.iterdir()))):
        assert np.array_equal(written, source.picture(number))
    second = folder / "leaf_0001.png"
    before = second.read_bytes()
    second.unlink()
    (folder / "leaf_0000.png").write_bytes(b"mine")
    (folder / ".leaf_0001.png.part").write_bytes(b"torn")  # of a run that was killed
    assert write_leaves(folder, photos, 3, 5, lambda: told.append(1)) == 1
    assert len(told) == 6
    assert second.read_bytes() == before
    assert (folder / "leaf_0000.png").read_bytes() == b"mine"
    assert len(names_in(folder)) == 3
    assert write_leaves(folder, [tmp_path / "gone.png"], 3) == 0  # no photo is needed any more


def test_no_more_photos_than_needed_are_read_and_of_large_ones_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [tmp_path / f"{k}.png" for k in range(5)]
    large = np.zeros((700, 20, 3), np.uint8)
    large[94:606] = 255
    for number, path in enumerate(paths):
        if number in (0, 2):
            Image.fromarray(large).save(path)
        else:
            path.write_bytes(b"not read")
    monkeypatch.setattr(leaves, "_TEXTURES", 2)
    monkeypatch.setattr(leaves, "_SHAPES", (5, 6))
    write_leaves(tmp_path / "out", paths, 1)
    assert pixels_of([tmp_path / "out" / "leaf_0000.png"])[0].min() >= 254


def slow(self: Leaves, number: int) -> Pixels:
    time.sleep(0.02)
    return np.full((4, 4, 3), number, np.uint8)


def test_an_interrupted_run_stops_soon_and_is_resumed(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Leaves, "picture", slow)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_leaves(tmp_path, photos, 200, on_written=interrupt)
    names = names_in(tmp_path)
    assert 1 <= len(names) < 150
    assert all(name.startswith("leaf_") for name in names)  # nothing half written
    assert write_leaves(tmp_path, photos, 200) == 200 - len(names)
    drawn = pixels_of(sorted(tmp_path.iterdir()))
    assert [int(picture.max()) for picture in drawn] == list(range(200))


def test_a_full_disk_ends_the_run_and_leaves_nothing(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = []

    def full(self: Image.Image, file: Any, kind: str) -> None:
        saved.append(file.write(b"\x89PNG"))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Leaves, "picture", slow)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(FullDiskError, match=r"leaf_0000\.png: .*free some space"):
        write_leaves(tmp_path, photos, 200)
    assert names_in(tmp_path) == []
    assert len(saved) < 150


def test_a_folder_that_cannot_be_made_is_an_unwritable_file(
    photos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file" / "leaves"):
        with pytest.raises(UnwritableFileError, match=r"file.*: could not be written"):
            write_leaves(place, photos, 1)


def test_a_photo_that_cannot_be_read_is_named(photos: list[Path], tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(photos[0].read_bytes()[:200])
    with pytest.raises(UnreadableFileError, match=r"torn\.png"):
        write_leaves(tmp_path / "out", [photos[0], torn], 1)
    assert names_in(tmp_path / "out") == []
