"""How large a tile may be: what a network needs for a pixel, and what the machine has.

And whether this process keeps memory that it freed (:func:`reuse_memory`).
"""

from __future__ import annotations

import ctypes
import math
import os
import re
import weakref
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = [
    "available_bytes",
    "bytes_per_pixel",
    "largest_tile",
    "release_memory",
    "reuse_memory",
]

# What tiles may take on a processor: memory that comes anew from the system for every layer is
# zeroed first and pushes all else out of the caches. 1536x1024 pixels took 1.34 s in tiles of 512,
# 1.52 s of 256 (the halo), 1.85 s whole (one AVX-512 core, bfloat16). Reused memory has no such
# bound: 1.65 s of two cores in tiles of 512, 1.62 of 768, 1.52 of 1024.
_CPU_BUDGET = 512 << 20
_CPU_BUDGET_REUSING = 1 << 30
# Share of the memory that is free: other programs and the result want theirs too.
_SHARE = 0.5
# The probe sees the tensors between operators, not what operators and convolutions hold inside.
# Measured with tiny-x2 as the growth of the process over the probe's sum, 900x700 pixels: with the
# native kernels 1.1 in float32 and 1.2 in bfloat16, with the operators' reference 2.9 and 3.4.
_SCRATCH = 3.5
_PROBE_SIDE = 64
# At least this, whatever the memory: smaller tiles are all halo.
_SMALLEST_SIDE = 32


class _Peak(TorchDispatchMode):  # type: ignore[no-untyped-call] # torch's base has no types
    """Adds up the bytes of the tensors alive at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._seen: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        holders = self._seen.get(key, 0)
        self._seen[key] = holders + 1
        if holders == 0:
            self.live += size
            self.peak = max(self.peak, self.live)
        weakref.finalize(tensor, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._seen[key] -= 1
        if self._seen[key] == 0:
            self.live -= size


def bytes_per_pixel(
    network: nn.Module, channels: int, device: torch.device, precision: torch.dtype
) -> float:
    """Measure what a network needs for each pixel of its input, by one small run.

    Args:
        network: in evaluation mode, on the device; called as ``network((1, channels, H, W))``.
        channels: of its input.
        device: where it runs.
        precision: the number format of the computation.

    Returns:
        Bytes, input and output included, with room for scratch memory.
    """
    x = torch.zeros(1, channels, _PROBE_SIDE, _PROBE_SIDE, device=device)
    reduced = precision != torch.float32
    with (
        torch.inference_mode(),
        torch.autocast(device.type, precision, enabled=reduced),
        _Peak() as peak,
    ):
        network(x)
    return float(_SCRATCH * (peak.peak + x.nbytes) / _PROBE_SIDE**2)


def largest_tile(free: int, pixel_bytes: float, *, halo: int, multiple: int, on_cpu: bool) -> int:
    """The longest side of a square tile whose window fits.

    Args:
        free: bytes that are available on the device.
        pixel_bytes: what the network needs for a pixel of its input.
        halo: pixels around the tile that the network sees too.
        multiple: the side is a multiple of this.
        on_cpu: whether the processor's own bound applies.
    """
    budget = free * _SHARE
    if on_cpu:
        budget = min(budget, _CPU_BUDGET_REUSING if _reusing else _CPU_BUDGET)
    side = math.isqrt(max(0, int(budget / pixel_bytes))) - 2 * halo
    return max(multiple, max(_SMALLEST_SIDE, side) // multiple * multiple)


def available_bytes(device: torch.device) -> int:
    """Memory that a computation on the device may take now.

    On a processor the smaller of what the machine has available and what is left below the
    limits of this process's control groups, and what this process has kept for itself.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    bounds = [_machine_bytes(Path("/proc/meminfo")), *_group_bytes()]
    known = [bound for bound in bounds if bound is not None]
    return max(0, min(known)) + _kept_bytes() if known else 2 << 30


def _machine_bytes(meminfo: Path) -> int | None:
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) * 1024 if match else None


def _group_bytes(
    root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
) -> list[int]:
    """What each limited control group of this process (v2 and v1, and those above) has left."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    left = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif controllers == "memory":
            base = root / "memory"
            names = (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            )
        else:
            continue
        # Inside a container the path may be the host's: then the root is the container's own.
        here = base / path.lstrip("/")
        for folder in [here, *here.parents]:
            if (bound := _left(folder, *names)) is not None:
                left.append(bound)
            if folder == base:
                break
    return left


def _left(folder: Path, limit_name: str, usage_name: str, cache_name: str) -> int | None:
    try:
        limit = int((folder / limit_name).read_text())
        usage = int((folder / usage_name).read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None
    try:
        cache = re.search(
            rf"^{cache_name} (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE
        )
    except OSError:
        cache = None
    return limit - usage + (int(cache[1]) if cache else 0)


# -- keeping memory ---------------------------------------------------------------------------

# mallopt's numbers, malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_KEPT = 2**31 - 1  # bytes; mallopt takes an int
_LARGEST = (1 << 30, 32 << 20)  # of a block that is kept: wished for, and what any glibc takes

_reusing = False


class _MallInfo2(ctypes.Structure):
    """glibc's ``struct mallinfo2``, malloc.h."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    )


def reuse_memory() -> bool:
    """Let this process keep the memory that it frees, up to 2 GiB, for its next tensors.

    Every layer of a network allocates and frees tens of megabytes. glibc takes blocks of that
    size from the system and gives them back at once, and the system zeroes them page by page:
    a fifth to a third of a small network's time. The commands call this first; a program of your
    own may, before its first large tensor. It changes the allocator of the whole process, huge
    pages for torch's tensors included, which is why no import does it.
    :func:`release_memory` gives back what is not in use.

    Returns:
        Whether it took effect: it does with glibc (Linux).
    """
    global _reusing
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read by torch at its first large tensor
    mallopt = _libc("mallopt")
    if mallopt is not None and not _reusing:
        # In this order: the second alone would stop glibc from raising the first by itself.
        # One arena: those of threads end at 64 MB, and what is larger would come from the system.
        _reusing = (
            any(mallopt(_M_MMAP_THRESHOLD, largest) == 1 for largest in _LARGEST)
            and mallopt(_M_TRIM_THRESHOLD, _KEPT) == 1
            and mallopt(_M_ARENA_MAX, 1) == 1
        )
    return _reusing


def release_memory() -> None:
    """Give the system back what :func:`reuse_memory` has kept and nothing uses."""
    trim = _libc("malloc_trim")
    if _reusing and trim is not None:
        trim(0)


def _kept_bytes() -> int:
    """Freed memory that this process has kept: nobody else can have it, its next tensors can."""
    info = _libc("mallinfo2")  # glibc 2.33
    if not _reusing or info is None:
        return 0
    info.restype = _MallInfo2
    return int(info().fordblks)


def _libc(name: str) -> Any:
    """A function of the C library, None where there is none of that name."""
    return getattr(ctypes.CDLL(None), name, None)
