"""Runs the CUDA kernels' own code on the CPU: csrc/cuda/emulate.cpp, compiled by g++ or clang++."""

from __future__ import annotations

import ctypes
import functools
import math
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adapool_sr.ops.geometry import Geometry, is_channels_last, new_map, output_size

__all__ = ["Emulator", "build", "find_compiler"]

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-fno-strict-aliasing", "-w"]

OPERATIONS = ["pool", "pool_backward", "like", "like_backward", "unpool", "unpool_backward"]
WEIGHTINGS = ["ada", "edscw", "em", "idw"]
TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
ROLES = [
    "x",
    "beta",
    "y",
    "gradient",
    "u",
    "mask",
    "mask_em",
    "grad_mask",
    "grad_mask_em",
    "grad_y",
    "grad_beta",
]


class Map(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("batch", ctypes.c_int64),
        ("channel", ctypes.c_int64),
        ("space", ctypes.c_int64 * 3),
    ]


class EmulatedCall(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("operation", "weighting", "type", "channels_last")),
        *((name, ctypes.c_int32) for name in ("batch", "channels")),
        *((name, ctypes.c_int32 * 3) for name in ("size", "out", "kernel", "stride", "padding")),
        *((name, ctypes.c_int32) for name in ("weight_grad", "huber", "drop")),
        *((name, ctypes.c_int32) for name in ("beta_gradient", "beta_varies")),
        ("most_items", ctypes.c_int64),
        ("seed", ctypes.c_int64),
        ("delta", ctypes.c_double),
        ("gain", ctypes.c_double),
        ("maps", Map * len(ROLES)),
        ("beta_sums", ctypes.c_void_p),
    ]


def find_compiler() -> str | None:
    return next(filter(None, map(shutil.which, ("g++", "clang++", "c++"))), None)


def build(folder: Path, compiler: str) -> ctypes.CDLL:
    """Compile and load the emulation."""
    library = folder / "emulate.so"
    source = ROOT / "csrc" / "cuda" / "emulate.cpp"
    subprocess.run([compiler, *FLAGS, str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.adapool_cuda_workspace.restype = ctypes.c_int64
    loaded.adapool_cuda_run.restype = ctypes.c_int64
    loaded.adapool_cuda_run.argtypes = [ctypes.POINTER(EmulatedCall), ctypes.c_char_p]
    return loaded


def wide(values: Sequence[int], filling: int) -> list[int]:
    """Filled up in front to three."""
    return [filling] * (3 - len(values)) + list(values)


def poisoned(t: Tensor) -> Tensor:
    return t.fill_(math.nan)


class Emulator:
    """The operators of ``torch.ops.adapool`` as the kernels run them.

    Attributes:
        most_items: how many work items may be numbered; larger calls are done in slices.
        seed: changes the order of blocks and threads.
        launches: of the last call.
        tiled: whether the last call took the way of 16-byte accesses.
    """

    def __init__(self, library: ctypes.CDLL, most_items: int = 2**31 - 1, seed: int = 0) -> None:
        self._library = library
        self.most_items, self.seed = most_items, seed
        self.launches, self.tiled = 0, False

    def __getattr__(self, name: str) -> Any:
        for packet in ("ada_unpool_like", "ada_unpool", "ada_pool", "edscw_pool", "em_pool"):
            if name.startswith(packet):
                break
        else:
            packet = "idw_pool"
        if "unpool" in packet:
            return getattr(self, "_" + name.removeprefix("ada_"))
        weighting = packet.removesuffix("_pool")
        method = self._pool_backward if name.endswith("_backward") else self._pool
        return functools.partial(method, weighting, name.endswith("_masks"))

    def _run(
        self,
        operation: str,
        weighting: str,
        like: Tensor,
        geometry: Geometry,
        maps: dict[str, Tensor | None],
        *,
        weight_grad: bool = True,
        gain: float = 1.0,
        beta_sums: Tensor | None = None,
        rule: Sequence[Any] = ("l2", 1.0, False, False),
    ) -> None:
        call = EmulatedCall()
        call.operation, call.weighting = OPERATIONS.index(operation), WEIGHTINGS.index(weighting)
        call.type, call.channels_last = TYPES.index(like.dtype), is_channels_last(like)
        call.batch, call.channels = like.shape[:2]
        call.size[:] = wide(geometry.size, 1)
        call.out[:] = wide(output_size(geometry), 1)
        call.kernel[:], call.stride[:] = wide(geometry.kernel, 1), wide(geometry.stride, 1)
        call.padding[:] = wide(geometry.padding, 0)
        call.weight_grad, call.gain = weight_grad, gain
        call.huber, call.delta, call.drop = rule[0] == "huber", rule[1], rule[2]
        call.most_items, call.seed = self.most_items, self.seed
        for role, t in maps.items():
            if t is not None:
                assert t.device.type == "cpu"
                steps = [0 if n == 1 and role == "beta" else s for n, s in zip(t.shape, t.stride(), strict=True)]
                call.maps[ROLES.index(role)] = Map(
                    t.data_ptr(), steps[0], steps[1], (ctypes.c_int64 * 3)(*wide(steps[2:], 0))
                )
        call.beta_gradient = beta_sums is not None or maps.get("grad_beta") is not None
        call.beta_varies = maps.get("beta") is not None and any(
            n > 1 for n in maps["beta"].shape[2:]  # type: ignore[union-attr]
        )
        if beta_sums is not None:
            call.beta_sums = beta_sums.data_ptr()
        size = self._library.adapool_cuda_workspace(ctypes.byref(call))
        if size < 0:
            raise ValueError("too large")
        guard = 64
        workspace = ctypes.create_string_buffer(b"\xff" * (size + guard), size + guard)
        found = self._library.adapool_cuda_run(ctypes.byref(call), workspace)
        assert workspace.raw[size : size + guard] == b"\xff" * guard, "wrote behind its workspace"
        self.launches, self.tiled = found % 1000, found >= 1000

    def _beta_grad(self, like: Tensor, out: Sequence[int], beta: Tensor) -> tuple[Tensor, bool]:
        """Memory for the gradient of beta, and whether it is a map."""
        varies = any(n > 1 for n in beta.shape[2:])
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        space = list(out) if varies else [1] * len(out)
        return poisoned(torch.empty(*like.shape[:2], *space, dtype=dtype)), varies

    def _pool(self, weighting: str, masks: bool, x: Tensor, *arguments: Any) -> Any:
        beta = None
        if weighting == "ada":
            beta, *arguments = arguments  # type: ignore[assignment]
        kernel, stride, padding, ceil_mode, weight_grad, *rule = arguments
        geometry = Geometry(kernel, stride, padding, ceil_mode, tuple(x.shape[2:]))
        out = output_size(geometry)
        space = [o * k for o, k in zip(out, kernel, strict=True)]
        y = poisoned(new_map(x, out))
        found = [poisoned(new_map(x, space)) for _ in range(1 + (weighting == "ada"))]
        maps = {"x": x, "beta": beta, "y": y}
        if masks:
            maps |= dict(zip(("mask", "mask_em"), found, strict=False))
        self._run("pool", weighting, x, geometry, maps, rule=rule or ("l2", 1.0, False))
        return (y, *found) if masks else y

    def _pool_backward(self, weighting: str, masks: bool, grad: Tensor, *arguments: Any) -> Any:
        ada = weighting == "ada"
        grad_masks, (x, *rest) = arguments[: 1 + ada], arguments[1 + ada :]
        beta = rest.pop(0) if ada else None
        kernel, stride, padding, ceil_mode, weight_grad, *rule = rest
        geometry = Geometry(kernel, stride, padding, ceil_mode, tuple(x.shape[2:]))
        u = poisoned(new_map(x, x.shape[2:]))
        maps = {"x": x, "beta": beta, "gradient": grad, "u": u}
        if weight_grad:
            maps |= dict(zip(("grad_mask", "grad_mask_em"), grad_masks, strict=False))
        extra: dict[str, Any] = {"weight_grad": weight_grad, "rule": rule or ("l2", 1.0, False)}
        if not ada:
            self._run("pool_backward", weighting, x, geometry, maps, **extra)
            return u
        grad_beta, varies = self._beta_grad(x, output_size(geometry), beta)
        sums = None if varies else grad_beta
        if varies:
            maps["grad_beta"] = grad_beta
        self._run("pool_backward", weighting, x, geometry, maps, beta_sums=sums, **extra)
        return u, grad_beta

    def _unpool(self, y: Tensor, mask: Any, em: Any, beta: Any, size: Any, *rest: Any) -> Tensor:
        kernel, stride, padding, ceil_mode, gain = rest
        geometry = Geometry(kernel, stride, padding, ceil_mode, tuple(size))
        u = poisoned(new_map(y, size))
        maps = {"y": y, "mask": mask, "mask_em": em, "beta": beta, "u": u}
        self._run("unpool", "ada", y, geometry, maps, gain=gain)
        return u

    def _unpool_backward(self, grad: Tensor, y: Tensor, mask: Tensor, em: Any, *rest: Any) -> Any:
        beta, size, kernel, stride, padding, ceil_mode, gain = rest
        geometry = Geometry(kernel, stride, padding, ceil_mode, tuple(size))
        grad_y, grad_mask = (poisoned(new_map(t, t.shape[2:])) for t in (y, mask))
        maps = {"gradient": grad, "y": y, "mask": mask, "mask_em": em, "beta": beta}
        maps |= {"grad_y": grad_y, "grad_mask": grad_mask}
        if em is None:
            self._run("unpool_backward", "ada", y, geometry, maps, gain=gain)
            return grad_y, grad_mask, y.new_empty(0), y.new_empty(0)
        grad_em = maps["grad_mask_em"] = poisoned(new_map(em, em.shape[2:]))
        grad_beta, varies = self._beta_grad(y, y.shape[2:], beta)
        if varies:
            maps["grad_beta"] = grad_beta
        sums = None if varies else grad_beta
        self._run("unpool_backward", "ada", y, geometry, maps, gain=gain, beta_sums=sums)
        return grad_y, grad_mask, grad_em, grad_beta

    def _unpool_like(self, y: Tensor, x: Tensor, beta: Tensor, *rest: Any) -> Tensor:
        kernel, stride, padding, ceil_mode, weight_grad, gain = rest
        geometry = Geometry(kernel, stride, padding, ceil_mode, tuple(x.shape[2:]))
        u = poisoned(new_map(y, x.shape[2:]))
        self._run("like", "ada", y, geometry, {"x": x, "y": y, "beta": beta, "u": u}, gain=gain)
        return u

    def _unpool_like_backward(
        self, grad: Tensor, y: Tensor, x: Tensor, beta: Tensor, *rest: Any
    ) -> Any:
        kernel, stride, padding, ceil_mode, weight_grad, gain = rest
        geometry = Geometry(kernel, stride, padding, ceil_mode, tuple(x.shape[2:]))
        grad_y, u = poisoned(new_map(y, y.shape[2:])), poisoned(new_map(x, x.shape[2:]))
        grad_beta, varies = self._beta_grad(y, y.shape[2:], beta)
        maps = {"gradient": grad, "y": y, "x": x, "beta": beta, "grad_y": grad_y, "u": u}
        if varies:
            maps["grad_beta"] = grad_beta
        self._run(
            "like_backward",
            "ada",
            y,
            geometry,
            maps,
            gain=gain,
            weight_grad=weight_grad,
            beta_sums=None if varies else grad_beta,
        )
        return grad_y, u, grad_beta
