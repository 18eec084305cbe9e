"""What benchmarks/pooling.py times: maps, windows and the contenders of each row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from adapool_sr import ops
from adapool_sr.ops import reference

__all__ = ["COLUMNS", "DTYPES", "METHODS", "SHAPES", "Function", "Row", "Setting", "Shape"]

Function = Callable[[], object]

METHODS = ("ada", "edscw", "em", "idw")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
COLUMNS = ("ours", "like", "copy", "avg", "max", "reference", "compiled")
_IDW = ("l2", 1.0, False, False)


@dataclass(frozen=True)
class Shape:
    """A map and the windows over it."""

    name: str
    size: tuple[int, ...]
    kernel: int
    stride: int
    padding: int

    @property
    def rank(self) -> int:
        """Number of dimensions of the space."""
        return len(self.size) - 2

    @property
    def window(self) -> tuple[list[int], list[int], list[int], bool]:
        """The operators' arguments."""
        k, s, p = ([n] * self.rank for n in (self.kernel, self.stride, self.padding))
        return k, s, p, False

    def formats(self) -> dict[str, torch.memory_format]:
        """Memory formats by name."""
        last = torch.channels_last if self.rank == 2 else torch.channels_last_3d
        return {"contiguous": torch.contiguous_format, "channels_last": last}


SHAPES = (
    Shape("2x2", (8, 64, 128, 128), 2, 2, 0),
    Shape("3x3 s2", (8, 64, 128, 128), 3, 2, 1),
    Shape("2x2x2", (2, 32, 32, 64, 64), 2, 2, 0),
)


@dataclass
class Row:
    """One line of the table."""

    shape: str
    method: str
    layout: str
    dtype: str
    operation: str
    functions: dict[str, Function]
    moved: int  # bytes that must be read or written
    milliseconds: dict[str, float] = field(default_factory=dict)

    def words(self) -> str:
        """What --only looks in."""
        return f"{self.shape} {self.method} {self.layout} {self.dtype} {self.operation}"

    def ours(self) -> float:
        """Milliseconds of the better of ours."""
        return min(self.milliseconds[k] for k in ("ours", "like") if k in self.milliseconds)

    def ratio(self, to: str) -> float | None:
        """Ours over the time of another contender, if it ran."""
        return self.ours() / self.milliseconds[to] if to in self.milliseconds else None

    def as_dict(self, copied: int) -> dict[str, Any]:
        """For JSON; ``copied`` are the bytes that a copy moves."""
        copy = self.milliseconds.get("copy")
        return {
            "shape": self.shape,
            "method": self.method,
            "layout": self.layout,
            "dtype": self.dtype,
            "operation": self.operation,
            "milliseconds": {k: round(v, 4) for k, v in self.milliseconds.items()},
            "ratios": {c: round(r, 3) for c in COLUMNS[2:] if (r := self.ratio(c)) is not None},
            "gigabytes_per_second": round(self.moved / self.ours() / 1e6, 2),
            "copy_gigabytes_per_second": round(copied / copy / 1e6, 2) if copy else None,
        }


class Setting:
    """One shape, layout and dtype: maps and what is done with them."""

    def __init__(
        self, shape: Shape, memory_format: torch.memory_format, dtype: torch.dtype
    ) -> None:
        self.shape, self.window = shape, shape.window
        x = torch.randn(shape.size).to(dtype).contiguous(memory_format=memory_format)
        self.x, self.leaf = x, x.clone().requires_grad_()
        self.beta = torch.full((), 0.5, dtype=dtype)
        self.leaf_beta = self.beta.clone().requires_grad_()
        self.avg = (F.avg_pool2d, F.avg_pool3d)[shape.rank - 2]
        self.max = (F.max_pool2d, F.max_pool3d)[shape.rank - 2]
        self.max_unpool: Any = (F.max_unpool2d, F.max_unpool3d)[shape.rank - 2]
        self.unpool = getattr(ops, f"adaunpool{shape.rank}d")
        self.y = (
            ops.empool2d(x, *self._sizes()) if shape.rank == 2 else ops.empool3d(x, *self._sizes())
        )
        self.grad = torch.randn_like(self.y)
        # PyTorch has no average pooling of half precisions in three dimensions.
        self.has_avg = shape.rank == 2 or dtype == torch.float32

    def _sizes(self) -> tuple[int, int, int]:
        return self.shape.kernel, self.shape.stride, self.shape.padding

    def _pool(self, method: str, leaf: bool = False, **more: Any) -> Any:
        function = getattr(ops, f"{method}pool{self.shape.rank}d")
        x, beta = (self.leaf, self.leaf_beta) if leaf else (self.x, self.beta)
        return function(x, *([beta] if method == "ada" else []), *self._sizes(), **more)

    def _reference(self, method: str, masks: bool = False, leaf: bool = False) -> Any:
        function = getattr(reference, f"{method}_pool{'_masks' if masks else ''}")
        x, beta = (self.leaf, self.leaf_beta) if leaf else (self.x, self.beta)
        beta = beta.view((1,) * x.dim())
        rule = _IDW if method == "idw" else ()
        return function(x, *([beta] if method == "ada" else []), *self.window, True, *rule)

    def _backward(self, forward: Callable[[], Tensor]) -> Function:
        def run() -> None:
            self.leaf.grad = self.leaf_beta.grad = None
            forward().backward(self.grad)  # type: ignore[no-untyped-call]

        return run

    def rows(self, method: str, layout: str, dtype: str, compiled: bool) -> Iterator[Row]:
        """Every operation of one method."""
        x, y, sizes = self.x, self.y, self._sizes()
        small, large = y.numel() * y.element_size(), x.numel() * x.element_size()
        mask = small * self.shape.kernel**self.shape.rank
        masks = 2 if method == "ada" else 1
        of = (self.shape.name, method, layout, dtype)
        compile_: Callable[..., Any] = torch.compile(self._reference, dynamic=False)
        with_avg = {"avg": lambda: self.avg(x, *sizes)} if self.has_avg else {}
        backward_avg = (
            {"avg": self._backward(lambda: self.avg(self.leaf, *sizes))} if self.has_avg else {}
        )
        forward: dict[str, Function] = {
            "ours": lambda: self._pool(method),
            "copy": x.clone,
            **with_avg,
            "max": lambda: self.max(x, *sizes),
            "reference": lambda: self._reference(method),
        }
        both: dict[str, Function] = {
            "ours": self._backward(lambda: self._pool(method, leaf=True)),
            **backward_avg,
            "max": self._backward(lambda: self.max(self.leaf, *sizes)),
            "reference": self._backward(lambda: self._reference(method, leaf=True)),
        }
        if compiled:
            forward["compiled"] = lambda: compile_(method)
            both["compiled"] = self._backward(lambda: compile_(method, leaf=True))
        yield Row(*of, "forward", forward, large + small)
        kept: dict[str, Function] = {
            "ours": lambda: self._pool(method, return_masks=True),
            "max": lambda: self.max(x, *sizes, return_indices=True),
            "reference": lambda: self._reference(method, masks=True),
        }
        yield Row(*of, "forward with masks", kept, large + small + masks * mask)
        yield Row(*of, "forward + backward", both, 3 * large + 2 * small)
        yield Row(*of, "pool, unpool", self._pairs(method), 2 * large + 2 * small)

    def _pairs(self, method: str) -> dict[str, Function]:
        sizes = self._sizes()
        space = self.x.shape[2:]
        window = dict(zip(("kernel_size", "stride", "padding"), sizes, strict=True))

        def ours() -> Tensor:
            y, masks = self._pool(method, return_masks=True)
            plain = {} if method == "ada" else {**window, "output_size": space}
            return self.unpool(y, masks, gain="area", **plain)  # type: ignore[no-any-return]

        def like() -> Tensor:
            y = self._pool(method)
            return self.unpool(y, like=self.x, beta=self.beta, gain="area", **window)  # type: ignore[no-any-return]

        def largest() -> Any:
            y, indices = self.max(self.x, *sizes, return_indices=True)
            return self.max_unpool(y, indices, *sizes, list(self.x.shape))

        def plain() -> Any:
            y, mask, *em = self._reference(method, masks=True)
            beta = [self.beta.view((1,) * self.x.dim())] if em else [None]
            more = (*(em or [None]), *beta, list(space), *self.window, 0.0)
            return reference.ada_unpool(y, mask, *more)

        found: dict[str, Function] = {"ours": ours, "max": largest, "reference": plain}
        return {**found, "like": like} if method == "ada" else found
