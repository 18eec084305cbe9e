"""Free photographs out of Debian 12's own packages, made ready for training.

Each package is fetched with ``apt-get download`` (nothing is installed, no root needed), the files
that ``debian_photos.tsv`` lists are read out of it, checked against their sha256, shrunk by the
listed factor (Lanczos) and written losslessly. After an interruption it goes on: what the manifest
lists as done is skipped. Fetches 0.7 GB; needs Debian 12 with package lists and 0.6 GB free.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from PIL import Image, ImageOps

from adapool_sr.files.errors import UsageError
from adapool_sr.files.writing import make_folder, whole, write_whole

__all__ = ["fetch_photos", "is_copyleft", "largest_jpeg", "read_table"]

TABLE = Path(__file__).with_name("debian_photos.tsv")
COLUMNS = ("file", "package", "licence", "author", "factor", "width", "height", "sha256", "source")
EET_MAGIC = 0x1EE70F42  # of EFL's src/lib/eet/eet_lib.c

Row = dict[str, str]


def read_table(path: Path) -> list[Row]:
    """Rows of a tab-separated file with a header; none where it does not exist."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _write_manifest(path: Path, rows: list[Row]) -> None:
    lines = ["\t".join(COLUMNS), *("\t".join(row[c] for c in COLUMNS) for row in rows)]
    write_whole(path, ("\n".join(lines) + "\n").encode())


def is_copyleft(row: Row) -> bool:
    """Whether the photo's licence binds what is made from it."""
    return "GPL" in row["licence"] or "-SA" in row["licence"]


def _download(package: str, folder: Path) -> Path:
    """Fetch a package; apt checks it against the signed lists and keeps one that is whole.

    Raises:
        RuntimeError: apt could not fetch it.
    """
    folder.mkdir(exist_ok=True)
    command = ["apt-get", "download", "-q", package]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    debs = sorted(folder.glob(f"{package}_*.deb"), key=lambda deb: deb.stat().st_mtime)
    if run.returncode or not debs:
        raise RuntimeError(f"{' '.join(command)}: {run.stderr.strip() or 'no .deb came'}")
    return debs[-1]


def _members(deb: Path, wanted: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Yield (path, bytes) of the wanted files, streamed out of the package."""
    command = ["dpkg-deb", "--fsys-tarfile", str(deb)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as dpkg:
        if dpkg.stdout is None:
            return
        with tarfile.open(fileobj=dpkg.stdout, mode="r|") as tar:
            for item in tar:
                path = item.name.removeprefix("./")
                content = tar.extractfile(item) if path in wanted else None
                if content is not None:
                    yield path, content.read()
        dpkg.stdout.read()  # the padding, so that dpkg-deb ends well


def largest_jpeg(eet: bytes) -> bytes:
    """The largest JPEG in an EET container (Enlightenment's .edj); its directory is big-endian.

    Raises:
        ValueError: it is no EET file or holds no JPEG.
    """
    magic, count, _ = struct.unpack_from(">3I", eet)
    if magic != EET_MAGIC:
        raise ValueError("not an EET file")
    spans = [struct.unpack_from(">2I", eet, 12 + 24 * index) for index in range(count)]
    entries = (eet[at : at + size] for at, size in spans)
    return max((entry for entry in entries if entry.startswith(b"\xff\xd8\xff")), key=len)


def _make(row: Row, data: bytes, out: Path) -> Row:
    """Write one photo, whole or not at all; give its row with width and height.

    Raises:
        ValueError: the file is not the listed one.
    """
    if row["source"].endswith(".edj"):
        data = largest_jpeg(data)
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        raise ValueError("sha256 differs: another version of the package?")
    photo = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    alpha = photo.convert("RGBA").getchannel("A") if photo.mode in ("RGBA", "LA", "P") else None
    if alpha is not None and alpha.getextrema() != (255, 255):
        raise ValueError("is transparent in places")
    factor = float(row["factor"])
    width, height = (round(side / factor) for side in photo.size)
    small = photo.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    with whole(out / row["file"]) as file:
        small.save(file, "WEBP", lossless=True, method=3)
    return {**row, "width": str(width), "height": str(height)}


def _check_machine(packages: list[str]) -> list[str]:
    """Give the packages that apt does not know.

    Raises:
        UsageError: apt is absent or knows none of them.
    """
    missing = [tool for tool in ("apt-get", "apt-cache", "dpkg-deb") if not shutil.which(tool)]
    if missing:
        raise UsageError(
            ", ".join(missing), "not found", "run it on Debian 12 or in a container of it"
        )
    if not packages:
        return []
    show = ["apt-cache", "show", "--no-all-versions", *packages]
    known = subprocess.run(show, capture_output=True, text=True, check=False).stdout
    unknown = [name for name in packages if f"Package: {name}\n" not in known]
    if len(unknown) == len(packages):
        raise UsageError("apt", "knows none of the packages", "run apt-get update as root first")
    return unknown


def fetch_photos(
    out: Path, no_copyleft: bool, say: Callable[[str], None]
) -> tuple[list[Row], list[str]]:
    """Make all photos that are not there yet.

    Args:
        out: folder of the photos and their ``manifest.tsv``; made if absent.
        no_copyleft: leave out GPL, LGPL and CC-BY-SA.
        say: is told each package.

    Returns:
        The rows of the photos that are there, and what went wrong, in words.

    Raises:
        UsageError: the machine or the folder does not allow it.
        UnwritableFileError: the folder cannot be written.
    """
    rows = [row for row in read_table(TABLE) if not (no_copyleft and is_copyleft(row))]
    manifest = out / "manifest.tsv"
    before = {row["file"]: row for row in read_table(manifest)}
    if set(before) - {row["file"] for row in rows}:
        raise UsageError(
            str(out), "holds photos that this run does not list", "take an empty folder"
        )
    make_folder(out)
    done: dict[str, Row] = {}
    for row in rows:
        old = before.get(row["file"])
        same = old and (old["sha256"], old["factor"]) == (row["sha256"], row["factor"])
        if old and same and (out / row["file"]).exists():
            done[row["file"]] = old
    todo = [row for row in rows if row["file"] not in done]
    packages = list(dict.fromkeys(row["package"] for row in todo))
    unknown = _check_machine(packages)
    troubles = [f"{name}: not in this machine's package lists" for name in unknown]
    for package in packages:
        if package in unknown:
            continue
        here = [row for row in todo if row["package"] == package]
        say(f"{package}: {len(here)} photos")
        troubles += _unpack(package, here, out, done)
        _write_manifest(manifest, [done[row["file"]] for row in rows if row["file"] in done])
    if not troubles:
        shutil.rmtree(out / ".debs", ignore_errors=True)
    return list(done.values()), troubles


def _unpack(package: str, rows: list[Row], out: Path, done: dict[str, Row]) -> list[str]:
    """Make one package's photos and add them to ``done``; give what went wrong."""
    troubles = []
    here = {row["source"]: row for row in rows}
    try:
        deb = _download(package, out / ".debs")
        for path, data in _members(deb, list(here)):
            row = here.pop(path)
            try:
                done[row["file"]] = _make(row, data, out)
            except (ValueError, OSError) as error:
                troubles.append(f"{package}: {path}: {error}")
        troubles += [f"{package}: {path}: not in the package" for path in here]
        os.remove(deb)
    except (RuntimeError, tarfile.TarError) as error:
        troubles.append(str(error))
    return troubles
