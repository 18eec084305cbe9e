"""Finds or builds the CUDA kernels (``csrc/cuda``), at the first call with a CUDA tensor.

``nvcc`` builds them for the graphics cards that torch sees, into the cache of
:mod:`adapool_sr.ops.build` and by the same rules; host code is compiled as there. The library has
CUDA's runtime in it and calls torch through the stable ABI: one binary serves every torch from
2.10. Where it can't be had, one warning says why, and the operators run in plain PyTorch on the
device.

Environment: ``ADAPOOL_CUDA=0`` keeps to the reference; ``ADAPOOL_CUDA_LIBRARY`` names a library
built elsewhere (``make cuda``), which is then loaded and nothing else; ``ADAPOOL_CUDA_ARCH`` names
what is built for, e.g. ``80;90+PTX``, with or without a card; ``NVCC`` names the compiler.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from adapool_sr.ops import build
from adapool_sr.ops.build import BuildError

__all__ = ["ALL_ARCHITECTURES", "Status", "build_into", "find_nvcc", "load", "ninja_file", "status"]

ALL_ARCHITECTURES = ("75", "80", "86", "89", "90+PTX")
"""What ``make cuda`` builds for: Turing to Hopper, and whatever follows."""

# No contraction: see csrc/cuda/scalar.h.
_NVCC_FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-Xfatbin=-compress-all"]
_NVCC_FLAGS += ["-Xcompiler=-fPIC,-fvisibility=hidden"]
_DEVICE_SOURCES = ("bfloat16.cu", "float16.cu", "float32.cu", "float64.cu", "sums.cu")
_HOST_SOURCES = ("ada_pool.cpp", "ada_unpool.cpp", "single_pool.cpp")


@dataclass(frozen=True)
class Status:
    """Which kernels the operators run on a CUDA device.

    Attributes:
        kernel: "native", or "reference" (plain PyTorch).
        why: the reason, for a person.
    """

    kernel: Literal["native", "reference"]
    why: str


_status: Status | None = None
_once = threading.Lock()


def status() -> Status:
    """What :func:`load` found, without building or loading anything."""
    return _status or Status("reference", "no operator was called with a CUDA tensor yet")


def load() -> Status:
    """Load the CUDA kernels, building them if the cache has none; later calls cost nothing.

    Where they can't be had, one ``RuntimeWarning`` says why and what to do, and the reference runs.
    """
    global _status
    if _status is None:
        with _once:
            if _status is not None:
                return _status
            _status, error = _load()
        if error:
            warnings.warn(
                f"the CUDA pooling kernels are not available: {error}. The operators run in plain "
                "PyTorch, many times slower. Install the CUDA toolkit (nvcc) and a C++17 "
                "compiler, or set ADAPOOL_CUDA=0 to silence this.",
                RuntimeWarning,
                stacklevel=2,
            )
    return _status


def build_into(library: Path, architectures: Sequence[str] = ALL_ARCHITECTURES) -> None:
    """Build the CUDA library as the file ``library``, with no cache and no lock.

    Args:
        library: the file to make.
        architectures: compute capabilities without the dot, "+PTX" after one that is to serve
            later cards too.

    Raises:
        BuildError: it can't be built; says why.
    """
    text = ninja_file(build._sources(), build._compiler()[0], find_nvcc()[0], architectures)
    folder = Path(tempfile.mkdtemp(prefix="adapool-cuda-", dir=library.parent))
    build._build(text, library, folder)


def find_nvcc() -> tuple[str, str]:
    """The compiler's path and its release, e.g. "13.0".

    Raises:
        BuildError: there is none.
    """
    home = os.environ.get("CUDA_HOME")
    names = [os.environ["NVCC"]] if os.environ.get("NVCC") else []
    names += [*([f"{home}/bin/nvcc"] if home else []), "nvcc", "/usr/local/cuda/bin/nvcc"]
    for name in names:
        path = shutil.which(name)
        if path is None:
            continue
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        found = re.search(r"release (\d+\.\d+)", done.stdout)
        if done.returncode == 0 and found:
            return path, found[1]
    raise BuildError(f"no nvcc found (looked for {', '.join(names)})")


def _load() -> tuple[Status, str]:
    """What runs, and what went wrong, if anything did."""
    for name in ("ADAPOOL_CUDA", "ADAPOOL_NATIVE"):
        if os.environ.get(name) == "0":
            return Status("reference", f"{name}=0"), ""
    given = os.environ.get("ADAPOOL_CUDA_LIBRARY")
    if not given and (torch.version.cuda is None or not torch.cuda.is_available()):
        return Status("reference", "torch sees no CUDA device"), ""
    try:
        library = Path(given) if given else _find_or_build()
        torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    except (BuildError, OSError, RuntimeError) as error:
        return Status("reference", str(error)), str(error)
    why = f"ADAPOOL_CUDA_LIBRARY: {library}" if given else f"built for this machine: {library}"
    return Status("native", why), ""


def _check_driver(release: str) -> None:
    """A runtime newer than the driver's major version would fail at the first kernel."""
    read = getattr(torch._C, "_cuda_getDriverVersion", None)  # a torch without CUDA has none
    driver = 1000 if read is None else read() // 1000
    if int(release.partition(".")[0]) > driver:
        raise BuildError(f"nvcc {release} is newer than the driver, which is for CUDA {driver}")


def _architectures(nvcc: str) -> list[str]:
    """What to build for: what the environment says, or the cards that torch sees."""
    wanted = os.environ.get("ADAPOOL_CUDA_ARCH")
    if wanted:
        return [a.strip().replace(".", "") for a in wanted.replace(",", ";").split(";")]
    listed = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=False)
    known = sorted({int(n) for n in re.findall(r"sm_(\d+)\b", listed.stdout)})
    if not known:
        raise BuildError(f"{nvcc} names no architecture")
    found = set()
    for device in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(device)
        capability = 10 * major + minor
        older = [n for n in known if n <= capability]
        if not older:
            raise BuildError(f"{nvcc} does not build for compute capability {major}.{minor}")
        found.add(str(capability) if capability in known else f"{older[-1]}+PTX")
    return sorted(found)


def _find_or_build() -> Path:
    """The path of the CUDA library, built if no cache has it."""
    nvcc, release = find_nvcc()
    _check_driver(release)
    sources = build._sources()
    compiler, version = build._compiler()
    text = ninja_file(sources, compiler, nvcc, _architectures(nvcc))
    key = build._key(sources, compiler, version + release, text, ("common", "cuda"))
    return build._cached(f"adapool-cuda-{key}", text)


def ninja_file(sources: Path, compiler: str, nvcc: str, architectures: Sequence[str]) -> str:
    """The text of build.ninja: a file of kernels for each type, and the host's code.

    Raises:
        BuildError: an architecture is none.
    """
    codes = []
    for name in architectures:
        number, plus, _ = name.partition("+PTX")
        if not re.fullmatch(r"\d{2,3}[af]?", number):
            raise BuildError(f"an architecture is a number such as 90 or 90+PTX, got {name!r}")
        codes.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if plus:
            codes.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    root = Path(torch.__file__).parent
    include = [root / "include", root / "include" / "torch" / "csrc" / "api" / "include"]
    host = [*build._FLAGS, *build._TORCH_FLAGS, "-DUSE_CUDA", *(f"-isystem '{p}'" for p in include)]
    link = f"'{nvcc}' -shared --cudart static -Xlinker --version-script=exports.map $in -o $out"
    needs = f"-L'{root / 'lib'}' -ltorch_cpu -Xlinker --no-as-needed -ltorch_cuda"
    # A torch without CUDA has no libtorch_cuda: an empty one of its name stands for it, so that a
    # library can be built where it can't run.
    stub = "" if (root / "lib" / "libtorch_cuda.so").exists() else "libtorch_cuda.so"
    lines = [
        "rule device",
        f"  command = '{nvcc}' {' '.join([*_NVCC_FLAGS, *codes])} -MD -MF $out.d -c '$in' -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule host",
        f"  command = '{compiler}' {' '.join(host)} -MD -MF $out.d -c '$in' -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule stub",
        f"  command = '{compiler}' -shared -Wl,-soname,$out -o $out -x c /dev/null",
        "rule link",
        f"  command = {link} -L. {needs}",
    ]
    objects = []
    for source in (*_DEVICE_SOURCES, *_HOST_SOURCES):
        name = f"{Path(source).stem}.o"
        rule = "device" if source.endswith(".cu") else "host"
        lines.append(f"build {name}: {rule} {build._escape(sources / 'cuda' / source)}")
        objects.append(name)
    if stub:
        lines.append(f"build {stub}: stub")
    after = f" | {stub}" if stub else ""
    lines += [f"build adapool.so: link {' '.join(objects)}{after}", "default adapool.so", ""]
    return "\n".join(lines)
