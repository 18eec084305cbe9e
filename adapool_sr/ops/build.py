"""Finds or builds the native kernels, loads them, and says which kernels run and why.

A wheel for Linux carries them built (``adapool.so`` beside this file): one binary for every torch
from 2.10 and for every processor of its kind. Elsewhere, and where that one does not load, the
sources (``csrc/`` in a checkout, ``adapool_sr.csrc`` in a wheel) are compiled by ninja into a
cache: ``$ADAPOOL_CACHE``, else ``$XDG_CACHE_HOME/adapool_sr``, else ``~/.cache/adapool_sr``; a
private folder under the system's temporary one where that can't be written. A binary's name holds a
hash of torch's version, the compiler, the flags and the sources, so that nothing stale is ever
loaded. It is built in a folder of its own and renamed into place whole, under a file lock that the
system frees with the process that holds it: a killed build blocks nobody.

The native library adds CPU kernels to the operators of :mod:`adapool_sr.ops.library`. A kernel that
meets a geometry, dtype or shape that is not its own calls the operator of the same name in
``adapool_reference`` through the dispatcher, so nobody has to ask beforehand what is covered.

Environment: ``ADAPOOL_NATIVE=0`` keeps to the reference; ``ADAPOOL_ISA=avx512|avx2|baseline``
allows no wider instruction set; ``CXX`` names the compiler.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import logging
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import filelock
import torch

__all__ = ["ISAS", "BuildError", "Status", "build_into", "library_path", "load", "status"]

_log = logging.getLogger(__name__)

ISAS = ("avx512", "avx2", "baseline")

# Put there by scripts/wheel.py; a checkout has none.
_PREBUILT = Path(__file__).with_name("adapool.so")

# A build takes half a minute, or minutes on a machine that is busy with other things; who
# waits longer than this for another's uses the reference.
_LOCK_SECONDS = 300.0
_BUILD_SECONDS = 600.0

# -O2 compiles a third longer and runs no faster: the inner loops are unrolled by hand. No
# -ffast-math: NaN and infinity must survive. No contraction: see csrc/common/vector.h.
_FLAGS = ["-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
_FLAGS += ["-fno-math-errno", "-w"]  # so that a square root is an instruction
# Nothing of csrc/cpu/portable.cpp may be seen from outside.
_EXPORTS = "{ global: adapool_*; local: *; };"
_TORCH_FLAGS = ["-DTORCH_TARGET_VERSION=0x020a000000000000"]  # the stable ABI of 2.10 and later
_ISA_FLAGS = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
    "baseline": [],
}
_HOST_SOURCES = (
    "cpu/isa.cpp",
    "cpu/portable.cpp",
    "cpu/pool.cpp",
    "cpu/unpool.cpp",
    "cpu/enlarge.cpp",
    "cpu/convolve.cpp",
)
_KERNEL_SOURCES = ("cpu/kernels.cpp", "cpu/general.cpp", "cpu/tiles.cpp")
# Sums in registers and addresses of many arrays: at -O1 it takes twice the time.
_SOURCE_FLAGS = {"cpu/tiles.cpp": "-O2"}


@dataclass(frozen=True)
class Status:
    """Which kernels the operators run on the CPU.

    Attributes:
        kernel: "native", or "reference" (plain PyTorch).
        isa: the instruction set of the native kernels ("avx512", "avx2", "baseline"), else "".
        why: the reason, for a person.
    """

    kernel: Literal["native", "reference"]
    isa: str
    why: str


class BuildError(RuntimeError):
    """The kernels can't be built here; the message says why."""


_status: Status | None = None
_once = threading.Lock()


def status() -> Status:
    """What :func:`load` found, without building or loading anything."""
    return _status or Status("reference", "", "no operator was called yet")


def load() -> Status:
    """Load the native kernels, building them if the cache has none; later calls cost nothing.

    Where they can't be had, one ``RuntimeWarning`` says why and what to do, and the reference runs.

    Raises:
        ValueError: ``ADAPOOL_ISA`` names no instruction set.
    """
    global _status
    if _status is None:
        with _once:
            if _status is not None:
                return _status
            _status, error = _load()
        if error:
            warnings.warn(
                f"the native pooling kernels are not available: {error}. The operators run in "
                "plain PyTorch, many times slower. Install a C++17 compiler (g++ or clang++), or "
                "set ADAPOOL_NATIVE=0 to silence this.",
                RuntimeWarning,
                stacklevel=2,
            )
    return _status


def library_path() -> Path:
    """The native library's file: the wheel's, else the cache's, built if that has none.

    Raises:
        BuildError: it can't be built.
    """
    return _PREBUILT if _PREBUILT.exists() else _find_or_build()


def build_into(library: Path) -> None:
    """Build the native library as the file ``library``, with no cache and no lock: for a wheel.

    It has the kernels of every instruction set and chooses when it is loaded; one that is built for
    this machine has those that run here.

    Raises:
        BuildError: it can't be built; says why.
    """
    text = _ninja_file(_sources(), _compiler()[0], ISAS if _is_x86() else ("baseline",))
    folder = Path(tempfile.mkdtemp(prefix="adapool-", dir=library.parent))
    _build(text, library, folder)


def _load() -> tuple[Status, str]:
    """What runs, and what went wrong, if anything did."""
    if os.environ.get("ADAPOOL_NATIVE") == "0":
        return Status("reference", "", "ADAPOOL_NATIVE=0"), ""
    _isa()  # refuses a name that is none, whatever is found below
    if _PREBUILT.exists():
        try:
            return Status("native", _load_library(_PREBUILT), f"prebuilt: {_PREBUILT}"), ""
        except (OSError, RuntimeError) as error:
            _log.info("the prebuilt kernels do not load, building others: %s", error)
    try:
        library = _find_or_build()
        return Status("native", _load_library(library), f"built for this machine: {library}"), ""
    except (BuildError, OSError, RuntimeError) as error:
        return Status("reference", "", str(error)), str(error)


def _load_library(library: Path) -> str:
    """Register the kernels with torch; the instruction set that they chose."""
    torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
    read = ctypes.CDLL(str(library)).adapool_isa
    read.restype = ctypes.c_char_p
    chosen: bytes = read()
    return chosen.decode()


# --- what is built ---------------------------------------------------------------------------


def _sources() -> Path:
    """The folder of the C++ sources, in a checkout or an installed wheel."""
    spec = importlib.util.find_spec("adapool_sr.csrc")
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    beside = Path(__file__).parents[2] / "csrc"  # of a checkout that was not installed
    if beside.is_dir():
        return beside
    raise BuildError("the package was installed without its C++ sources")


def _compiler() -> tuple[str, str]:
    """The compiler's path and what it says of itself."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    for name in names:
        path = shutil.which(name)
        if path is None:
            continue
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return path, done.stdout.partition("\n")[0]
    raise BuildError(f"no C++ compiler found (looked for {', '.join(names)})")


def _ninja() -> str:
    """The ninja binary: that of the Python package, else the system's."""
    with contextlib.suppress(ImportError):
        import ninja

        path = Path(ninja.BIN_DIR) / "ninja"
        if path.exists():
            return str(path)
    found = shutil.which("ninja")
    if found is None:
        raise BuildError("ninja not found; run: pip install ninja")
    return found


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def _isa() -> str:
    """The widest instruction set that this processor has and ``ADAPOOL_ISA`` allows."""
    # What torch's own kernels run on; it asks of the processor what the kernels here need.
    found = torch.backends.cpu.get_cpu_capability() if _is_x86() else ""
    widest = {"AVX512": "avx512", "AVX2": "avx2"}.get(found, "baseline")
    asked = os.environ.get("ADAPOOL_ISA") or widest
    if asked not in ISAS:
        raise ValueError(f"ADAPOOL_ISA must be one of {', '.join(ISAS)}, got {asked!r}")
    return max(asked, widest, key=ISAS.index)  # the narrower of the two


def _key(
    sources: Path,
    compiler: str,
    version: str,
    ninja_file: str,
    folders: tuple[str, ...] = ("common", "cpu"),
) -> str:
    """A name that changes with everything the binary depends on."""
    digest = hashlib.sha256()
    for part in (torch.__version__, compiler, version, platform.machine(), ninja_file):
        digest.update(part.encode() + b"\0")
    files = (path for folder in folders for path in (sources / folder).iterdir())
    for path in sorted(path for path in files if path.is_file()):
        digest.update(path.relative_to(sources).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:20]


def _escape(path: str | Path) -> str:
    """A path as ninja and the shell that it calls take it."""
    text = str(path)
    for char in "$ :":
        text = text.replace(char, "$" + char)
    return text


def _ninja_file(sources: Path, compiler: str, isas: tuple[str, ...]) -> str:
    """The text of build.ninja: the host code once, the kernels once an instruction set."""
    root = Path(torch.__file__).parent
    include = [root / "include", root / "include" / "torch" / "csrc" / "api" / "include"]
    only = [f"-DADAPOOL_ONLY={isas[0]}"] if len(isas) == 1 else []
    flags = " ".join([*_FLAGS, *only])
    torch_flags = " ".join([*_TORCH_FLAGS, *(f"-isystem '{path}'" for path in include)])
    link = "-Wl,--version-script=exports.map" if sys.platform == "linux" else ""
    lines = [
        f"flags = {flags}",
        "rule compile",
        f"  command = '{compiler}' $flags $extra -MD -MF $out.d -c '$in' -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = '{compiler}' -shared {link} $in -o $out -L'{root / 'lib'}' -ltorch_cpu",
    ]
    objects = []
    # The longest first, so that no processor idles at the end.
    for source in _KERNEL_SOURCES:
        for isa in isas:
            name = f"{Path(source).stem}.{isa}.o"
            lines += [
                f"build {name}: compile {_escape(sources / source)}",
                f"  extra = -DADAPOOL_ISA={isa} {' '.join(_ISA_FLAGS[isa])}"
                f" {_SOURCE_FLAGS.get(source, '')}",
            ]
            objects.append(name)
    for source in _HOST_SOURCES:
        name = f"{Path(source).stem}.o"
        lines += [f"build {name}: compile {_escape(sources / source)}", f"  extra = {torch_flags}"]
        objects.append(name)
    lines += [f"build adapool.so: link {' '.join(objects)}", "default adapool.so", ""]
    return "\n".join(lines)


# --- where it is kept ------------------------------------------------------------------------


def _cache_dir() -> Path:
    if os.environ.get("ADAPOOL_CACHE"):
        return Path(os.environ["ADAPOOL_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "adapool_sr"


def _writable(folder: Path) -> bool:
    """Whether files can be made in ``folder``, which is made if it isn't there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _private_temporary() -> Path:
    """A folder under the system's temporary one that nobody else can write to."""
    folder = Path(tempfile.gettempdir()) / f"adapool_sr-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise BuildError(f"no folder to build in: {error}") from error
    if found.st_uid != os.getuid() or found.st_mode & 0o022 or folder.is_symlink():
        raise BuildError(f"{folder} belongs to or can be written by somebody else")
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock at ``path``; give up after a while."""
    lock = filelock.FileLock(path, timeout=_LOCK_SECONDS)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise BuildError(
            f"another process has been building for more than {_LOCK_SECONDS:.0f} s ({path})"
        ) from None
    except (NotImplementedError, OSError) as error:
        # A file system without locks: building twice is waste, not an error.
        _log.info("building without a lock: %s", error)
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _find_or_build() -> Path:
    """The path of the native library, built if no cache has it."""
    sources = _sources()
    compiler, version = _compiler()
    text = _ninja_file(sources, compiler, (_isa(),))
    return _cached(f"adapool-{_key(sources, compiler, version, text)}", text)


def _cached(name: str, text: str) -> Path:
    """The library of this name, built by the ninja file ``text`` if no cache has it."""
    cache = _cache_dir()
    if (cache / f"{name}.so").exists():
        return cache / f"{name}.so"
    if not _writable(cache):
        cache = _private_temporary()
    library = cache / f"{name}.so"
    if library.exists():
        return library
    with _locked(cache / f"{name}.lock"):
        if not library.exists():  # else another process built it while this one waited
            for left in cache.glob(f"{name}.part-*"):
                shutil.rmtree(left, ignore_errors=True)
            _build(text, library, Path(tempfile.mkdtemp(prefix=f"{name}.part-", dir=cache)))
    return library


def _run(command: list[str]) -> tuple[str, int]:
    """Run a command and all that it starts; when left early, none of them stays behind."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # killing ninja alone would leave its compilers running
    ) as process:
        try:
            output, _ = process.communicate(timeout=_BUILD_SECONDS)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return output, process.returncode


def _build(text: str, library: Path, folder: Path) -> None:
    """Run ninja in ``folder`` and move its result to ``library``."""
    started = time.perf_counter()
    _log.info("building the pooling kernels, once, which takes up to a minute: %s", library)
    try:
        (folder / "build.ninja").write_text(text)
        (folder / "exports.map").write_text(_EXPORTS)
        jobs = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        output, code = _run([_ninja(), "-C", str(folder), "-j", str(jobs)])
        if code != 0:
            raise BuildError(f"the compiler failed:\n{output[-2000:]}")
        os.replace(folder / "adapool.so", library)
    except subprocess.TimeoutExpired:
        raise BuildError(f"the build took more than {_BUILD_SECONDS:.0f} s") from None
    except OSError as error:
        raise BuildError(f"the build failed: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _log.debug("built the pooling kernels in %.1f s", time.perf_counter() - started)
