"""The wheel holds every file of the package: what an editable install hides when it is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Folders of the checkout and where the wheel has them.
FOLDERS = {
    "adapool_sr": "adapool_sr",
    "app": "adapool_sr/app",
    "configs": "adapool_sr/configs",
    "csrc": "adapool_sr/csrc",
}


def tracked() -> list[str]:
    """The checkout's files as git knows them."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and its checkout, to know which files belong")
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    out = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in out.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.slow
def test_the_wheel_holds_exactly_the_packages_files(tmp_path: Path) -> None:
    files = tracked()
    source = tmp_path / "source"  # a copy: setuptools would reuse a stale build/ of the checkout
    for name in files:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        FOLDERS[top] + name.removeprefix(top)
        for name in files
        if (top := name.split("/")[0]) in FOLDERS
    }
    assert held == expected
