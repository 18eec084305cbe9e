import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest

from adapool_sr.data import store
from adapool_sr.data.images import Pair, Source, read_all
from adapool_sr.files.errors import UnreadableFileError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAPOOL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "store"


@pytest.fixture
def sources(photo_dir: Path) -> list[Source]:
    paths = sorted(photo_dir.glob("*.png"))
    return [Source(path, 2, 130) for path in paths] + [Source(paths[0], 2, 1, 0.5)]


def stores(home: Path) -> list[Path]:
    return [path for path in home.iterdir() if path.suffix != ".lock"]


def same(a: list[Pair], b: list[Pair]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x.hr, y.hr)
        and np.array_equal(x.lr, y.lr)
        and (x.path, x.grown) == (y.path, y.grown)
        for x, y in zip(a, b, strict=True)
    )


def test_a_store_gives_what_reading_gives_and_reads_once(
    home: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = list(read_all(sources))
    made, words = store.open_stored(sources)
    assert same(made, wanted)
    assert words == f"mapped from {stores(home)[0]}, made now"
    monkeypatch.setattr(Source, "read", None)
    again, words = store.open_stored(sources)
    assert same(again, wanted)
    assert words == f"mapped from {stores(home)[0]}"


def test_equal_sizes_are_kept_once(home: Path, photo_dir: Path) -> None:
    sources = [Source(path, 1) for path in sorted(photo_dir.glob("*.png"))]
    pairs, _ = store.open_stored(sources)
    assert same(pairs, list(read_all(sources)))
    pixels = (stores(home)[0] / "pixels.bin").stat().st_size
    assert pixels < 1.5 * sum(pair.hr.size for pair in pairs)


@pytest.mark.parametrize("change", ["content", "scale", "photos", "shrink"])
def test_a_stale_store_is_never_used(
    home: Path, photo_dir: Path, tmp_path: Path, change: str
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("photo_1.png", "photo_2.png"):
        (folder / name).write_bytes((photo_dir / name).read_bytes())
    sources = [Source(path, 2) for path in sorted(folder.iterdir())]
    store.open_stored(sources)
    if change == "content":
        (folder / "photo_1.png").write_bytes((photo_dir / "photo_3.png").read_bytes())
    elif change == "scale":
        sources = [Source(source.path, 4) for source in sources]
    elif change == "photos":
        sources = sources[:1]
    else:
        sources = [Source(source.path, 2, 1, 0.5) for source in sources]
    pairs, words = store.open_stored(sources)
    assert words.endswith("made now")
    assert same(pairs, list(read_all(sources)))


def test_a_bad_photo_leaves_no_store(home: Path, photo_dir: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes((photo_dir / "photo_1.png").read_bytes()[:900])
    with pytest.raises(UnreadableFileError, match=r"torn\.png"):
        store.open_stored([Source(photo_dir / "photo_1.png", 2), Source(torn, 2)])
    assert stores(home) == []


def test_a_full_disk_means_memory(
    home: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "_append", full)
    told = rf"data\.store: no store in {home} \(No space left on device\); photos are kept in mem"
    with pytest.warns(UserWarning, match=told):
        pairs, words = store.open_stored(sources)
    assert same(pairs, list(read_all(sources)))
    assert words == "in memory"
    assert stores(home) == []


def test_a_place_that_cannot_be_written_means_memory(home: Path, sources: list[Source]) -> None:
    home.parent.mkdir()
    home.write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match=r"data\.store: no store in .*; photos are kept in memory"):
        pairs, words = store.open_stored(sources)
    assert len(pairs) == len(sources)
    assert words == "in memory"


def test_a_damaged_store_is_not_believed(home: Path, sources: list[Source]) -> None:
    store.open_stored(sources)
    pixels = stores(home)[0] / "pixels.bin"
    os.truncate(pixels, 5000)
    pairs, words = store.open_stored(sources)
    assert same(pairs, list(read_all(sources)))
    assert words.endswith("made now")


def test_what_a_killed_run_left_is_no_hindrance(home: Path, sources: list[Source]) -> None:
    store.open_stored(sources)
    made = stores(home)[0]
    part = made.with_name(f".{made.name}.part")
    made.rename(part)
    pairs, words = store.open_stored(sources)
    assert same(pairs, list(read_all(sources)))
    assert words.endswith("made now")
    assert stores(home) == [made]


def test_stores_that_nobody_used_for_a_month_go(home: Path, sources: list[Source]) -> None:
    store.open_stored(sources[:2])
    store.open_stored(sources[:3])
    old, kept = sorted(stores(home), key=lambda path: (path / "pixels.bin").stat().st_size)
    month = time.time() - 31 * 24 * 3600
    os.utime(old / "index.json", (month, month))
    store.open_stored(sources)
    assert old not in stores(home)
    assert kept in stores(home)
    assert len(stores(home)) == 2


def test_small_sets_are_not_worth_a_store(sources: list[Source], tmp_path: Path) -> None:
    assert not store.worth_storing(sources)
    (tmp_path / "large.png").write_bytes(b"\0" * 9_000_000)
    assert store.worth_storing([*sources, Source(tmp_path / "large.png", 2)])
    assert not store.worth_storing([Source(tmp_path / "nowhere.png", 2)])
