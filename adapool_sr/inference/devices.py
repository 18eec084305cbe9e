"""Which device and number format a network runs in."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import torch

from adapool_sr.files.errors import UsageError

__all__ = ["PRECISIONS", "choose_device", "choose_precision", "has_fast_bfloat16"]

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """Find the device that a name asks for.

    Args:
        name: "auto" (CUDA where there is one, else the CPU), "cpu", "cuda", "cuda:1" or any
            other name that torch knows.

    Raises:
        UsageError: no such device in this machine or this build of torch.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except Exception as error:  # each backend has its own way to say that it is absent
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"device '{name}'", f"is not usable here ({why})", "use cpu") from error
    return device


def choose_precision(
    name: str, device: torch.device, allowed: Collection[torch.dtype] = tuple(PRECISIONS.values())
) -> torch.dtype:
    """Find the number format of the computation.

    Args:
        name: "auto", "fp32", "bf16" or "fp16". Auto is bfloat16 where the processor computes
            in it (2.1 to 2.6 times as fast as float32 on AVX-512 cores that do; several times
            slower on those that don't), float16 on CUDA, else float32.
        device: where it is to run.
        allowed: what the network can run in; auto is float32 where it can't in what is fast.

    Raises:
        UsageError: an unknown name, or one that is not allowed.
    """
    if name == "auto":
        fast = torch.float16 if device.type == "cuda" else torch.float32
        if device.type == "cpu" and has_fast_bfloat16():
            fast = torch.bfloat16
        return fast if fast in allowed else torch.float32
    if name not in PRECISIONS:
        raise UsageError(f"precision '{name}'", "is not known", "use auto, fp32, bf16 or fp16")
    if PRECISIONS[name] not in allowed:
        names = ", ".join(key for key, dtype in PRECISIONS.items() if dtype in allowed)
        raise UsageError(f"precision '{name}'", "is not for this model", f"use auto or {names}")
    return PRECISIONS[name]


def has_fast_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX512-BF16 or AMX-BF16)."""
    try:
        text = cpuinfo.read_text()
    except OSError:  # not Linux: float32 is right everywhere
        return False
    for line in text.splitlines():
        if line.startswith("flags"):
            return bool({"avx512_bf16", "amx_bf16"} & set(line.split()))
    return False
