"""Runs csrc/cuda on the CPU, all but the launches: operators in the namespace ``adapool_emulated``.

As a plugin (``pytest -p cuda_emulator``) it lets the tests of the operators run on them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import torch

from adapool_sr.ops import build, functional, library

__all__ = ["NAMESPACE", "Emulation", "build_library", "find_compiler"]

NAMESPACE = "adapool_emulated"
SOURCES = ("ada_pool", "ada_unpool", "single_pool", "emulate")
FLAGS = [
    "-std=c++17",
    "-O1",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-strict-aliasing",
    "-w",
    "-DADAPOOL_EMULATE",
    "-DTORCH_TARGET_VERSION=0x020a000000000000",
]
LIBRARY = "ADAPOOL_EMULATED_LIBRARY"  # where a parent process has built it


def find_compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)


def build_library(folder: Path, compiler: str) -> Path:
    """Compile the emulation."""
    root = Path(torch.__file__).parent
    includes = [root / "include", root / "include" / "torch" / "csrc" / "api" / "include"]
    flags = [*FLAGS, *(f"-isystem{path}" for path in includes)]
    sources = build._sources() / "cuda"

    def compile_one(name: str) -> Path:
        target = folder / f"{name}.o"
        command = [compiler, *flags, "-c", str(sources / f"{name}.cpp"), "-o", str(target)]
        subprocess.run(command, check=True)
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(map(str, pool.map(compile_one, SOURCES)))
    result = folder / "emulated.so"
    link = [compiler, "-shared", *objects, "-o", str(result), f"-L{root / 'lib'}", "-ltorch_cpu"]
    subprocess.run(link, check=True)
    return result


class Emulation:
    """The loaded library."""

    _registered: ClassVar[list[torch.library.Library]] = []

    def __init__(self, path: Path) -> None:
        if not self._registered:
            self._registered.append(library._register(NAMESPACE))
            torch.ops.load_library(str(path))  # type: ignore[no-untyped-call]
        self._library = ctypes.CDLL(str(path))
        self.set()

    def set(self, most_items: int = 2**31 - 1, turn: int = 0) -> None:
        """How many work items may be numbered at once; the order of blocks and threads, 0 to 3."""
        self._library.adapool_emulate(ctypes.c_int64(most_items), ctypes.c_int64(turn))

    def counts(self) -> tuple[int, int]:
        """Launches since the last call, and those of them that took wide accesses."""
        launches, tiles = ctypes.c_int64(), ctypes.c_int64()
        self._library.adapool_emulated(ctypes.byref(launches), ctypes.byref(tiles))
        return launches.value, tiles.value

    def divide(self, n: int, by: int) -> tuple[int, int]:
        """Quotient and remainder."""
        quotient, rest = ctypes.c_uint32(), ctypes.c_uint32()
        self._library.adapool_divide(by, n, ctypes.byref(quotient), ctypes.byref(rest))
        return quotient.value, rest.value


# --- as a plugin -----------------------------------------------------------------------------


@contextlib.contextmanager
def _built() -> Iterator[Path]:
    if LIBRARY in os.environ:
        yield Path(os.environ[LIBRARY])
        return
    compiler = find_compiler()
    assert compiler is not None
    with tempfile.TemporaryDirectory() as folder:
        yield build_library(Path(folder), compiler)


def pytest_configure() -> None:
    import pooling_truth

    with _built() as path:
        emulation = Emulation(path)
    functional._namespace = NAMESPACE
    functional._load_native = lambda *_: True
    pooling_truth.NAMESPACES = (NAMESPACE,)  # type: ignore[assignment]
    emulation.counts()
