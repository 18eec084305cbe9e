"""The wheel and the source archive: complete, and of use where there is no compiler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from adapool_sr.ops import build

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "datasets" / "samples"
# Folders of the checkout and where the wheel has them.
FOLDERS = {
    "adapool_sr": "adapool_sr",
    "app": "adapool_sr/app",
    "configs": "adapool_sr/configs",
    "csrc": "adapool_sr/csrc",
}
KERNELS = "adapool_sr/ops/adapool.so"

pytestmark = pytest.mark.slow


def tracked() -> list[str]:
    """The checkout's files as git knows them."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and its checkout, to know which files belong")
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    out = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in out.split("\0") if name and (ROOT / name).is_file()]


def succeed(*words: str | Path, env: dict[str, str] | None = None) -> str:
    """The standard output of a command that must end well."""
    command = [str(word) for word in words]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: setuptools would reuse what lies in build/ of the real one."""
    folder = tmp_path_factory.mktemp("source")
    for name in tracked():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    return folder


@pytest.fixture(scope="session")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``make wheel`` writes."""
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("no C++ compiler to build the wheel's kernels")
    folder = tmp_path_factory.mktemp("wheel")
    env = {**os.environ, "PYTHONPATH": str(source)}
    out = succeed(sys.executable, source / "scripts" / "wheel.py", folder, env=env)
    (path,) = folder.iterdir()
    assert out.strip() == str(path)
    return path


def test_the_wheel_holds_exactly_the_packages_files_and_the_kernels(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    held = {name for name in names if ".dist-info/" not in name}
    expected = {
        FOLDERS[top] + name.removeprefix(top)
        for name in tracked()
        if (top := name.split("/")[0]) in FOLDERS
    }
    assert held == expected | {KERNELS}


def test_the_wheel_is_for_every_python_and_every_linux_that_torch_runs_on(wheel: Path) -> None:
    assert "-py3-none-manylinux_2_28_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/WHEEL"))
        words = archive.read(name).decode()
    assert "Root-Is-Purelib: false" in words


@pytest.mark.parametrize("isa", build.ISAS)
def test_the_wheels_kernels_are_of_every_instruction_set(
    isa: str, wheel: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        library = archive.extract(KERNELS, tmp_path)
    code = (
        "import ctypes, torch\n"
        f"read = ctypes.CDLL({library!r}).adapool_isa\n"
        "read.restype = ctypes.c_char_p\n"
        "print(read().decode())\n"
    )
    out = succeed(sys.executable, "-c", code, env={**os.environ, "ADAPOOL_ISA": isa})
    # What asks for more than the processor has gets what it has.
    assert out.strip() == max(isa, build.load().isa, key=build.ISAS.index)


def test_the_source_archive_holds_all_that_git_does(source: Path, tmp_path: Path) -> None:
    words = ["-m", "build", "--sdist", "--no-isolation", "--outdir"]
    succeed(sys.executable, *words, tmp_path, source)
    (path,) = tmp_path.iterdir()
    with tarfile.open(path) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    private = (".git", ".ci/")
    assert {name for name in tracked() if not name.startswith(private)} <= held


class Installed:
    """An environment of its own, where no program is on the PATH but Python's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=True)

    def install(self, requirement: str) -> None:
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c"]
        python = self.folder / "bin" / "python"
        succeed(python, *pip, ROOT / "constraints.txt", requirement)

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        keep = {name: value for name, value in os.environ.items() if name.startswith("LC_")}
        return subprocess.run(
            [str(self.folder / "bin" / "adapool-sr"), *map(str, words)],
            cwd=self.folder,
            env={**keep, "PATH": "/nonexistent", "HOME": str(self.folder / "home")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )


@pytest.fixture(scope="session")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """``pip install adapool-sr``, no extra."""
    place = Installed(tmp_path_factory.mktemp("bare"))
    place.install(str(wheel))
    return place


@pytest.fixture(scope="session")
def full(bare: Installed, wheel: Path) -> Installed:
    """``pip install 'adapool-sr[all]'`` there too: the tests that want it bare stand first."""
    bare.install(f"{wheel}[all]")
    return bare


@pytest.mark.timeout(900)
def test_without_a_compiler_info_shows_the_fast_kernels(bare: Installed) -> None:
    done = bare.run("info", "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["kernels"]["cpu"] == "native"
    assert facts["kernels"]["why"].startswith("prebuilt: ")
    assert done.stderr == ""
    assert not (bare.folder / "home").exists()  # nothing was built into a cache


@pytest.mark.timeout(900)
def test_the_bare_install_upscales(bare: Installed) -> None:
    photo = SAMPLES / "otters.png"
    done = bare.run("upscale", "-i", photo, "-o", bare.folder / "large.png")
    assert done.returncode == 0, done.stderr
    with Image.open(photo) as before, Image.open(bare.folder / "large.png") as after:
        assert after.size == (2 * before.width, 2 * before.height)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("extra", "words"), [("train", ["fit", "-c", "any.yaml"]), ("app", ["app"])]
)
def test_an_absent_extra_is_one_sentence(bare: Installed, extra: str, words: list[str]) -> None:
    done = bare.run(*words)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"needs the extra '{extra}'; run: pip install 'adapool-sr[{extra}]'")


@pytest.mark.timeout(900)
def test_with_the_extras_one_step_of_fit_runs(full: Installed, photo_dir: Path) -> None:
    (config,) = full.folder.glob("lib/*/site-packages/adapool_sr/configs/sr_x2_tiny.yaml")
    runs = full.folder / "runs"
    words = [f"--data.root={photo_dir}", "--data.holdout=null", "--data.weights={}"]
    words += ["--data.patch_size=48", "--data.batch_size=2", "--data.val_every=3"]
    done = full.run("fit", "-c", config, *words, "--trainer.max_steps=1",
                    "--model.total_steps=1", "--model.warmup_steps=0",
                    f"--trainer.default_root_dir={runs}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert list(runs.rglob("last.ckpt"))
