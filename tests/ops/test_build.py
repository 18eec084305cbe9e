"""The build of the native kernels: its cache, its lock, and what happens where it can't be done.

Most tests put a script in the compiler's place (``CXX``) that copies the real library, so that a
build takes no time and can be stopped where the test wants it.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import filelock
import pytest
import torch

from adapool_sr.ops import build

CHECK = """
import warnings, torch
from adapool_sr import ops
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    y = [ops.adapool2d(x, 0.5, 2) for _ in range(3)][-1]
assert torch.allclose(y, torch.ops.adapool_reference.ada_pool(
    x, torch.full((1, 1, 1, 1), 0.5), [2, 2], [2, 2], [0, 0], False, True)), y
from adapool_sr.ops import build
print(build.status().kernel, len(caught), *(w.category.__name__ for w in caught))
for w in caught:
    print(w.message)
"""

FAKE = """#!/bin/sh
# Stands for the compiler: leaves empty objects and links by copying.
[ "$1" = --version ] && echo "fake 1.0" && exit
out= last=
for word; do [ "$last" = -o ] && out=$word; last=$word; done
echo "$out" >> '{log}'
while [ -e '{stop}' ]; do sleep 0.1; done
[ -e '{fail}' ] && echo "error: no sense in it" >&2 && exit 1
case "$out" in *.so) cp '{library}' "$out" ;; *) : > "$out"; echo "$out:" > "$out.d" ;; esac
"""


def find_compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)


class Place:
    """A compiler that does nothing, an empty cache, and processes that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder, folder / "cache"
        self.log, self.stop, self.fail = (folder / name for name in ("log", "stop", "fail"))
        self.compiler, self.real = folder / "c++", build.library_path()
        self.compiler.write_text(
            FAKE.format(log=self.log, stop=self.stop, fail=self.fail, library=build.library_path())
        )
        self.compiler.chmod(0o755)

    def env(self, **changes: str) -> dict[str, str]:
        names = {"CXX": self.compiler, "ADAPOOL_CACHE": self.cache, "TMPDIR": self.folder}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("ADAPOOL_")}
        return {**kept, "OMP_NUM_THREADS": "1", **{k: str(v) for k, v in names.items()}, **changes}

    def start(self, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", CHECK],
            env=self.env(**changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, **changes: str) -> list[str]:
        return finish(self.start(**changes))

    def use_here(self, monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
        """Make this process build in this place, as if nothing had been loaded yet."""
        for name, value in self.env(**changes).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("ADAPOOL_ISA", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(self.folder))
        monkeypatch.setattr(build, "_status", None)

    def calls(self) -> list[str]:
        """What the compiler was asked to make."""
        return self.log.read_text().split() if self.log.exists() else []

    def wait_for_compiler(self) -> None:
        deadline = time.monotonic() + 60
        while not self.calls():
            assert time.monotonic() < deadline, "the build never began"
            time.sleep(0.05)


def finish(process: subprocess.Popen[str]) -> list[str]:
    """The lines that a process printed, once it has ended well."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.splitlines()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    if os.environ.get("ADAPOOL_NATIVE") == "0" or find_compiler() is None:
        pytest.skip("no native library to copy")
    return Place(tmp_path)


def test_the_first_use_builds_and_the_second_finds_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.use_here(monkeypatch)
    library = build.library_path()
    assert library.read_bytes() == place.real.read_bytes()
    made = place.calls()
    assert made.count("adapool.so") == 1
    assert build.library_path() == library
    assert place.calls() == made
    assert not list(place.cache.glob("*.part-*"))
    (lock,) = place.cache.glob("*.lock")
    with filelock.FileLock(lock, timeout=0):
        pass


def test_the_wheels_own_binary_is_preferred(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.use_here(monkeypatch, PATH="/nonexistent")
    prebuilt = place.folder / "adapool.so"
    shutil.copyfile(place.real, prebuilt)
    monkeypatch.setattr(build, "_PREBUILT", prebuilt)
    assert build.load().why == f"prebuilt: {prebuilt}"
    assert build.library_path() == prebuilt
    assert place.calls() == []


def test_a_prebuilt_binary_that_does_not_load_is_replaced_by_a_built_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.use_here(monkeypatch)
    prebuilt = place.folder / "adapool.so"
    prebuilt.write_bytes(b"for another processor")
    monkeypatch.setattr(build, "_PREBUILT", prebuilt)
    status = build.load()
    assert status.kernel == "native"
    assert status.why.startswith("built for this machine: ")
    assert place.calls().count("adapool.so") == 1


def test_a_wheels_binary_is_built_without_cache_and_leaves_nothing_beside_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.use_here(monkeypatch)
    folder = place.folder / "out"
    folder.mkdir()
    build.build_into(folder / "adapool.so")
    assert list(folder.iterdir()) == [folder / "adapool.so"]
    assert not place.cache.exists()


def test_two_processes_build_once(place: Place) -> None:
    place.stop.touch()
    processes = [place.start() for _ in range(2)]
    place.wait_for_compiler()
    time.sleep(1)
    place.stop.unlink()
    assert [finish(process) for process in processes] == [["native 0"]] * 2
    assert place.calls().count("adapool.so") == 1


def test_a_killed_build_does_not_block_the_next(place: Place) -> None:
    place.stop.touch()
    killed = place.start()
    try:
        place.wait_for_compiler()
        os.kill(killed.pid, signal.SIGKILL)  # ninja and its children live on, as after a real kill
        killed.wait(60)
        assert list(place.cache.glob("*.part-*"))
        begun = time.monotonic()
        following = place.start()
        time.sleep(0.5)
        place.stop.unlink()
        assert finish(following) == ["native 0"]
        assert time.monotonic() - begun < 60
        assert not list(place.cache.glob("*.part-*"))
    finally:
        place.stop.unlink(missing_ok=True)
        for pipe in (killed.stdout, killed.stderr):
            assert pipe is not None
            pipe.close()


def test_waiting_for_another_build_ends(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.use_here(monkeypatch)
    library = build.library_path()
    library.unlink()
    monkeypatch.setattr(build, "_LOCK_SECONDS", 0.2)
    with (
        filelock.FileLock(library.with_suffix(".lock")),
        pytest.warns(RuntimeWarning, match="another process has been building for more than"),
    ):
        assert build.load().kernel == "reference"


def test_without_a_compiler_one_warning_and_the_reference(place: Place) -> None:
    first, message = place.run(PATH="/nonexistent", CXX="")
    assert first == "reference 1 RuntimeWarning"
    assert "no C++ compiler found" in message
    assert "Install a C++17 compiler" in message


def test_a_failing_compiler_is_quoted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.use_here(monkeypatch)
    place.fail.touch()
    with pytest.warns(RuntimeWarning, match="error: no sense in it"):
        status = build.load()
    assert build.load() is status, "a second warning would be an error"
    assert (status.kernel, status.isa) == ("reference", "")
    assert "error: no sense in it" in status.why
    place.fail.unlink()
    assert build.library_path().exists(), "the failure left nothing in the way"


def test_a_cache_that_cannot_be_written_is_replaced(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "file").touch()
    place.use_here(monkeypatch, ADAPOOL_CACHE=str(place.folder / "file" / "cache"))
    library = build.library_path()
    assert library.parent == place.folder / f"adapool_sr-{os.getuid()}"
    assert library.parent.stat().st_mode & 0o777 == 0o700
    made = place.calls()
    assert build.library_path() == library
    assert place.calls() == made


def test_a_full_cache_is_only_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.use_here(monkeypatch)
    library = build.library_path()
    library.with_suffix(".lock").unlink()
    place.cache.chmod(0o555)
    try:
        assert build.library_path() == library
        assert list(place.cache.iterdir()) == [library]
    finally:
        place.cache.chmod(0o755)


def test_a_temporary_folder_of_somebody_else_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = tmp_path / f"adapool_sr-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(build.BuildError, match="can be written by somebody else"):
        build._private_temporary()


def test_the_reference_can_be_asked_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.use_here(monkeypatch, ADAPOOL_NATIVE="0")
    assert build.load() == build.Status("reference", "", "ADAPOOL_NATIVE=0")
    assert build.status() == build.load()
    assert place.calls() == []


def test_the_cache_follows_the_xdg_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ADAPOOL_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build._cache_dir() == tmp_path / "adapool_sr"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert build._cache_dir() == tmp_path / ".cache" / "adapool_sr"


def test_the_name_changes_with_what_it_is_built_from(tmp_path: Path) -> None:
    sources = tmp_path / "csrc"
    shutil.copytree(build._sources(), sources)
    text = build._ninja_file(sources, "c++", ("baseline",))

    def name(version: str = "g++ 12", extra: str = "") -> str:
        return build._key(sources, "c++", version, text + extra)

    first = name()
    assert name() == first
    others = {name(version="g++ 13"), name(extra=" -O3")}
    header = sources / "common" / "weights.h"
    header.write_text(header.read_text() + "\n")
    others.add(name())
    assert len(others | {first}) == 4


def test_every_source_is_where_the_package_looks() -> None:
    for source in (*build._HOST_SOURCES, *build._KERNEL_SOURCES):
        assert (build._sources() / source).is_file()


@pytest.mark.slow
def test_a_cold_build_takes_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_compiler() is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("ADAPOOL_CACHE", str(tmp_path))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert build.library_path().parent == tmp_path
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor seconds, which a busy machine stretches less than the clock's; two cores halve them,
    # to less than a minute.
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 100


@pytest.mark.parametrize(
    ("found", "asked", "built"),
    [
        ("AVX512", "", "avx512"),
        ("AVX512", "avx2", "avx2"),
        ("AVX2", "avx512", "avx2"),
        ("AVX2", "", "avx2"),
        ("DEFAULT", "", "baseline"),
        ("NO AVX", "avx512", "baseline"),
    ],
)
def test_a_build_for_this_machine_has_the_kernels_that_run_here(
    found: str, asked: str, built: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_is_x86", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: found)
    monkeypatch.setenv("ADAPOOL_ISA", asked)
    assert build._isa() == built
    text = build._ninja_file(build._sources(), "c++", (built,))
    assert {isa for isa in build.ISAS if f"-DADAPOOL_ISA={isa}" in text} == {built}
    assert f"-DADAPOOL_ONLY={built}" in text


def test_a_compiler_with_a_static_library_alone_links_it(tmp_path: Path) -> None:
    """What ``portable.cpp`` defines gives way to the same names in an archive."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C++ compiler")
    user = tmp_path / "user.cpp"
    user.write_text(
        "#include <string>\nstd::string twice(const char* s) { return s + std::string(s); }\n"
    )
    linked = tmp_path / "linked.so"
    command = [str(compiler), "-std=c++17", "-fPIC", "-shared", "-static-libstdc++", str(user)]
    command += [str(build._sources() / "cpu/portable.cpp"), "-o", str(linked)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "cannot find -lstdc++" in done.stderr:
        pytest.skip("no static C++ library")
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_kernels_compile_for_arm(tmp_path: Path) -> None:
    compiler = shutil.which("aarch64-linux-gnu-g++")
    if compiler is None:
        pytest.skip("no compiler for ARM at hand")
    include = Path(torch.__file__).parent / "include"
    torch_flags = [*build._TORCH_FLAGS, "-isystem", str(include)]
    torch_flags += ["-isystem", str(include / "torch" / "csrc" / "api" / "include")]
    for name in (*build._KERNEL_SOURCES, *build._HOST_SOURCES):
        extra = ["-DADAPOOL_ISA=baseline"] if name in build._KERNEL_SOURCES else torch_flags
        extra = [*extra, "-DADAPOOL_ONLY=baseline"]
        source, result = build._sources() / name, tmp_path / Path(name).with_suffix(".o").name
        command = [compiler, *build._FLAGS, *extra, "-c", str(source), "-o", str(result)]
        subprocess.run(command, check=True)


def test_a_build_left_early_leaves_no_compiler_running(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = place.folder / "still-here"
    sleeper = f"sleep 30 & echo $! > '{marker}'; wait"
    monkeypatch.setattr(build, "_BUILD_SECONDS", 1.0)
    with pytest.raises(subprocess.TimeoutExpired):
        build._run(["sh", "-c", sleeper])
    started = int(marker.read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{started}").exists():
        state = Path(f"/proc/{started}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":  # dead, not yet collected by its new parent
            break
        assert time.monotonic() < deadline, "the compiler's process goes on"
        time.sleep(0.05)
