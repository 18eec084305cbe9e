"""The build of the CUDA kernels: what is asked of nvcc, and what happens where it can't be done."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adapool_sr.ops import build, build_cuda
from adapool_sr.ops.build import BuildError


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing had been loaded yet and nothing were set."""
    for name in ("ADAPOOL_CUDA", "ADAPOOL_NATIVE", "ADAPOOL_CUDA_LIBRARY", "ADAPOOL_CUDA_ARCH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(build_cuda, "_status", None)


def nvcc_like(folder: Path, release: str = "13.0", codes: str = "sm_75 sm_90") -> str:
    script = folder / "nvcc"
    answers = f'--version) echo "tools, release {release}, V1";; --list-gpu-code) echo {codes};;'
    script.write_text(f'#!/bin/sh\ncase "$1" in {answers} esac\n')
    script.chmod(0o755)
    return str(script)


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("name", ["ADAPOOL_CUDA", "ADAPOOL_NATIVE"])
def test_the_reference_can_be_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "0")
    assert build_cuda.load() == build_cuda.Status("reference", f"{name}=0")
    assert build_cuda.status() == build_cuda.load()


@pytest.mark.usefixtures("fresh")
def test_without_a_device_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert build_cuda.load() == build_cuda.Status("reference", "torch sees no CUDA device")


@pytest.mark.usefixtures("fresh")
def test_without_nvcc_one_warning_and_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("NVCC", "/nonexistent/nvcc")
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.warns(RuntimeWarning, match=r"no nvcc found .*Install the CUDA toolkit"):
        status = build_cuda.load()
    assert build_cuda.load() is status, "a second warning would be an error"
    assert status.kernel == "reference"


@pytest.mark.usefixtures("fresh")
def test_a_named_library_that_does_not_load_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "other.so"
    library.write_bytes(b"no library")
    monkeypatch.setenv("ADAPOOL_CUDA_LIBRARY", str(library))
    with pytest.warns(RuntimeWarning, match=r"CUDA pooling kernels are not available: .*other\.so"):
        assert build_cuda.load().kernel == "reference"


def test_nvcc_is_asked_for_its_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVCC", nvcc_like(tmp_path, "12.8"))
    assert build_cuda.find_nvcc() == (str(tmp_path / "nvcc"), "12.8")


def test_an_nvcc_newer_than_the_driver_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_cuda_getDriverVersion", lambda: 12080, raising=False)
    build_cuda._check_driver("12.9")
    with pytest.raises(BuildError, match="newer than the driver, which is for CUDA 12"):
        build_cuda._check_driver("13.0")


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), "90"), ((8, 6), "75+PTX"), ((12, 0), "90+PTX")]
)
@pytest.mark.usefixtures("fresh")
def test_the_card_decides_what_is_built(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capability: tuple[int, int],
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    nvcc = nvcc_like(tmp_path)
    assert build_cuda._architectures(nvcc) == [expected]
    monkeypatch.setenv("ADAPOOL_CUDA_ARCH", "8.0; 90+PTX")
    assert build_cuda._architectures(nvcc) == ["80", "90+PTX"]


def test_a_card_that_nvcc_has_forgotten_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADAPOOL_CUDA_ARCH", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    with pytest.raises(BuildError, match=r"does not build for compute capability 7\.0"):
        build_cuda._architectures(nvcc_like(tmp_path))


def test_the_ninja_file_names_every_source_and_architecture() -> None:
    text = build_cuda.ninja_file(build._sources(), "c++", "nvcc", build_cuda.ALL_ARCHITECTURES)
    sources = build._sources() / "cuda"
    for source in (*build_cuda._DEVICE_SOURCES, *build_cuda._HOST_SOURCES):
        assert (sources / source).is_file()
        assert f"/cuda/{source}" in text
    for code in ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "compute_90"):
        assert f"code={code}" in text
    with pytest.raises(BuildError, match=r"an architecture is a number .*got 'hopper'"):
        build_cuda.ninja_file(build._sources(), "c++", "nvcc", ["hopper"])


def test_the_cpu_libraries_name_does_not_follow_the_cuda_sources(tmp_path: Path) -> None:
    sources = tmp_path / "csrc"
    shutil.copytree(build._sources(), sources)

    def names() -> tuple[str, str]:
        cpu = build._key(sources, "c++", "1", "text")
        return cpu, build._key(sources, "c++", "1", "text", ("cuda",))

    before = names()
    header = sources / "cuda" / "lanes.h"
    header.write_text(header.read_text() + "\n")
    after = names()
    assert before[0] == after[0]
    assert before[1] != after[1]


# --- with nvcc -------------------------------------------------------------------------------

# Loads the library beside an empty libtorch_cuda, as if there were a device; counts the operators.
CHECK = """
import ctypes, sys, torch
from adapool_sr.ops import library
ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
torch.ops.load_library(sys.argv[2])
names = [s.partition("(")[0] for s in library.SCHEMAS]
has = torch._C._dispatch_has_kernel_for_dispatch_key
found = [n for n in names if has(f"adapool::{n}", "CUDA")]
assert found == [n for n in names if "." not in n], found
"""
STUB = "int aoti_torch_get_current_cuda_stream(int device, void** stream) { return 1; }"


def spills(log: str) -> dict[str, tuple[int, int]]:
    """Bytes of stack and of spills by kernel."""
    pattern = (
        r"Function properties for (\S+)\s+"
        r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    )
    found = re.findall(pattern, log)
    return {name: (int(stack), int(out) + int(back)) for name, stack, out, back in found}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_everything_compiles_and_no_2x2_kernel_spills(tmp_path: Path) -> None:
    try:
        nvcc, _ = build_cuda.find_nvcc()
        compiler, _ = build._compiler()
    except BuildError as error:
        pytest.skip(str(error))
    arch = os.environ.get("ADAPOOL_CUDA_ARCH", "90")
    text = build_cuda.ninja_file(build._sources(), compiler, nvcc, arch.split(";"))
    text = text.replace("-fmad=false", "-fmad=false -Xptxas=-v")
    (tmp_path / "build.ninja").write_text(text)
    (tmp_path / "exports.map").write_text(build._EXPORTS)
    output, code = build._run([build._ninja(), "-v", "-C", str(tmp_path)])
    assert code == 0, output[-3000:]
    tiles = {name: found for name, found in spills(output).items() if "Tile" in name}
    # 28 kinds for each of three types and each architecture.
    assert len(tiles) == 3 * 28
    assert set(tiles.values()) == {(0, 0)}
    stub = tmp_path / "libtorch_cuda.so"
    source = tmp_path / "stub.c"
    source.write_text(STUB)
    soname = "-Wl,-soname,libtorch_cuda.so"
    subprocess.run([compiler, "-shared", soname, "-xc", str(source), "-o", str(stub)], check=True)
    check = [sys.executable, "-c", CHECK, str(stub), str(tmp_path / "adapool.so")]
    subprocess.run(check, check=True)
