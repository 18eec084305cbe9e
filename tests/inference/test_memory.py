from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from adapool_sr.inference import memory
from adapool_sr.inference.memory import available_bytes, bytes_per_pixel, largest_tile

CPU = torch.device("cpu")
GIB = 1 << 30


def test_the_probe_finds_the_peak_of_live_tensors() -> None:
    class Widening(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            wide = x.repeat(1, 4, 1, 1)  # 12 floats a pixel
            del x
            return wide[:, :3] + 1.0  # 3 more while the 12 live

    found = bytes_per_pixel(Widening(), 3, CPU, torch.float32)
    assert found == pytest.approx(memory._SCRATCH * 4 * (3 + 12 + 3))


def test_tensors_that_are_gone_do_not_count() -> None:
    class Long(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for _ in range(50):
                x = x + 1
            return x

    found = bytes_per_pixel(Long(), 3, CPU, torch.float32)
    assert found <= memory._SCRATCH * 4 * 3 * 4


@pytest.mark.parametrize("reusing", [False, True])
@pytest.mark.parametrize(("free", "on_cpu"), [(4 * GIB, True), (4 * GIB, False), (64 << 20, True)])
def test_the_largest_tile_fits_with_its_halo(
    free: int, on_cpu: bool, reusing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_reusing", reusing)
    side = largest_tile(free, 2000.0, halo=22, multiple=8, on_cpu=on_cpu)
    budget = min(free // 2, GIB if reusing else GIB // 2) if on_cpu else free // 2
    assert side % 8 == 0
    assert (side + 44) ** 2 * 2000 <= budget
    assert (side + 8 + 44 + 1) ** 2 * 2000 > budget


def test_there_is_always_some_tile() -> None:
    assert largest_tile(0, 2000.0, halo=22, multiple=8, on_cpu=True) == 32
    assert largest_tile(0, 2000.0, halo=22, multiple=64, on_cpu=True) == 64


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_limits_of_control_groups_are_read_up_to_the_root(tmp_path: Path) -> None:
    root, own = tmp_path / "cgroup", tmp_path / "own"
    own.write_text("0::/a/b\n1:cpu:/x\n")
    write(root / "a" / "b", memory__max="max", memory__current="5")
    write(root / "a", memory__max="1000", memory__current="400", memory__stat="inactive_file 50\n")
    assert memory._group_bytes(root, own) == [650]
    own.write_text("4:memory:/job\n0::/\n")
    write(
        root / "memory" / "job",
        **{"memory__limit_in_bytes": "900", "memory__usage_in_bytes": "100"},
    )
    assert memory._group_bytes(root, own) == [800]


def test_the_smaller_of_machine_and_group_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_group_bytes", lambda: [3 * GIB, 2 * GIB])
    monkeypatch.setattr(memory, "_machine_bytes", lambda _: 5 * GIB)
    monkeypatch.setattr(memory, "_kept_bytes", lambda: 5)
    assert available_bytes(CPU) == 2 * GIB + 5
    monkeypatch.setattr(memory, "_machine_bytes", lambda _: 1 * GIB)
    assert available_bytes(CPU) == 1 * GIB + 5


def test_available_memory_of_this_machine_is_read(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:   7 kB\n")
    assert memory._machine_bytes(meminfo) == 7 * 1024
    assert memory._machine_bytes(tmp_path / "absent") is None


REUSE = """
import resource
import torch
from adapool_sr.inference.memory import _kept_bytes, release_memory, reuse_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def layer():
    return torch.ones(40 << 18)  # 40 MB

reused = {reuse} and reuse_memory()
assert reused == {reuse}
def anew():
    before = faults()
    for _ in range(10):
        layer()
    return faults() - before

# The heap grows until it has room for an aligned block between what stays, and what another
# thread allocates may let it grow once more: the quietest of some rounds tells.
print(min(anew() for _ in range(6)))
kept, held = _kept_bytes(), resident()
release_memory()
print(kept >> 20, (held - resident()) >> 20)
"""


def reuse(wanted: bool) -> list[int]:
    """Page faults of ten blocks of 40 MB (seen for a new one: 532 in huge pages, 10,241 in small
    ones), the MB kept, the MB given back.
    """
    words = subprocess.run(
        [sys.executable, "-c", REUSE.format(reuse=wanted)],
        env={k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(word) for word in words.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept_and_given_back() -> None:
    faults, kept, returned = reuse(True)
    assert faults < 100
    assert kept >= 40
    assert returned >= 40


def test_nothing_is_kept_unless_asked_for() -> None:
    faults, kept, _ = reuse(False)
    assert faults > 10 * 100
    assert kept == 0
