"""The fetching of Debian's photos, with packages that the tests stand in for."""

import hashlib
import io
import struct
from pathlib import Path

import pytest
from PIL import Image

from adapool_sr.data import debian_photos
from adapool_sr.files.errors import UsageError

Rows = list[dict[str, str]]


def jpeg(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (10, 120, 200)).save(file, "JPEG")
    return file.getvalue()


PHOTOS = {f"usr/share/{name}.jpg": jpeg(size) for name, size in
          {"sea": (40, 20), "tree": (30, 30), "rock": (20, 40)}.items()}  # fmt: skip


def row(name: str, licence: str) -> dict[str, str]:
    source = f"usr/share/{name}.jpg"
    return {
        "file": f"p_{name}.webp",
        "package": "p",
        "licence": licence,
        "author": "A. N. Other",
        "factor": "2",
        "sha256": hashlib.sha256(PHOTOS[source]).hexdigest(),
        "source": source,
    }


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Rows:
    """A table of three photos in one package, and a machine that has it."""
    found = [row("sea", "CC0-1.0"), row("tree", "GPL-2+"), row("rock", "MIT")]
    read = debian_photos.read_table
    table = debian_photos.TABLE
    monkeypatch.setattr(
        debian_photos, "read_table", lambda path: found if path == table else read(path)
    )
    monkeypatch.setattr(debian_photos, "_check_machine", lambda packages: [])

    def download(package: str, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        (folder / "p_1.deb").touch()
        return folder / "p_1.deb"

    monkeypatch.setattr(debian_photos, "_download", download)
    monkeypatch.setattr(
        debian_photos,
        "_members",
        lambda deb, wanted: ((path, PHOTOS[path]) for path in wanted if path in PHOTOS),
    )
    return found


def fetch(out: Path, no_copyleft: bool = False) -> tuple[Rows, list[str], list[str]]:
    said: list[str] = []
    done, troubles = debian_photos.fetch_photos(out, no_copyleft, said.append)
    return done, troubles, said


def test_photos_are_shrunk_and_listed(rows: Rows, tmp_path: Path) -> None:
    done, troubles, said = fetch(tmp_path / "out")
    assert (len(done), troubles, said) == (3, [], ["p: 3 photos"])
    with Image.open(tmp_path / "out" / "p_sea.webp") as photo:
        assert photo.size == (20, 10)
    listed = debian_photos.read_table(tmp_path / "out" / "manifest.tsv")
    first = listed[0]
    assert (first["file"], first["width"], first["author"]) == ("p_sea.webp", "20", "A. N. Other")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["manifest.tsv", "p_rock.webp", "p_sea.webp", "p_tree.webp"]


def test_copyleft_can_be_left_out(rows: Rows, tmp_path: Path) -> None:
    done, _, _ = fetch(tmp_path, no_copyleft=True)
    assert [r["file"] for r in done] == ["p_sea.webp", "p_rock.webp"]


def test_what_is_done_is_not_fetched_again(rows: Rows, tmp_path: Path) -> None:
    fetch(tmp_path)
    (tmp_path / "p_tree.webp").unlink()
    done, _, said = fetch(tmp_path)
    assert (len(done), said) == (3, ["p: 1 photos"])
    assert fetch(tmp_path)[2] == []


def test_another_version_is_named_and_the_others_are_made(rows: Rows, tmp_path: Path) -> None:
    rows[1]["sha256"] = "0" * 64
    done, troubles, _ = fetch(tmp_path)
    assert len(done) == 2
    assert troubles == ["p: usr/share/tree.jpg: sha256 differs: another version of the package?"]


def test_a_folder_of_other_photos_is_refused(rows: Rows, tmp_path: Path) -> None:
    fetch(tmp_path)
    with pytest.raises(UsageError, match="holds photos that this run does not list"):
        fetch(tmp_path, no_copyleft=True)


def test_a_machine_without_apt_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="apt-get, apt-cache, dpkg-deb: not found; run it on Deb"):
        fetch(tmp_path / "out")


def test_the_table_lists_99_photos_and_63_without_copyleft() -> None:
    rows = debian_photos.read_table(debian_photos.TABLE)
    free = [r for r in rows if not debian_photos.is_copyleft(r)]
    assert (len(rows), len(free)) == (99, 63)
    assert all(len(r["sha256"]) == 64 and r["author"] and r["licence"] for r in rows)


def test_the_largest_jpeg_of_an_eet_file_is_found() -> None:
    entries = [b"not this", jpeg((8, 8)), jpeg((64, 64))]
    head = 12 + 24 * len(entries)
    places, at = [], head
    for entry in entries:
        places.append(struct.pack(">6I", at, len(entry), 0, 0, 0, 0))
        at += len(entry)
    eet = struct.pack(">3I", debian_photos.EET_MAGIC, len(entries), 0)
    assert debian_photos.largest_jpeg(eet + b"".join(places + entries)) == entries[2]
    with pytest.raises(ValueError, match="not an EET file"):
        debian_photos.largest_jpeg(b"\0" * 64)
