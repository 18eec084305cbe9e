"""Random maps and the calls of every operator that fit them, on any device; how results compare."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from adapool_sr.ops.geometry import Geometry, output_size

Pooling = tuple[list[int], list[int], list[int], bool]

# Of the largest value of each result. IDW's gradient has 1/d in it, with d as small as the values'
# rounding.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 5e-6,
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
}
IDW_FACTOR = 20
PAIRS = ([2, 2], [2, 2], [0, 0])
FORMATS = {"contiguous": False, "channels_last": True}

# Windows that take wide accesses, the same cut and unaligned, overlapping, and apart; with sizes
# and a number of channels.
GEOMETRIES: list[tuple[Pooling, list[int], int]] = [
    ((*PAIRS, False), [8, 16], 8),
    ((*PAIRS, True), [7, 13], 3),
    (([3, 3], [2, 2], [1, 1], True), [9, 8], 3),
    (([3, 2], [3, 4], [0, 1], False), [11, 9], 5),
]

EXTREMES = [
    [1e30, -2e30, 3e29, 1e30],
    [-1e30, 1.0, 2.0, 3.0],
    [1e-30, -2e-30, 3e-31, 1e-30],
    [2e-20, 1e-20, -5e-20, 0.0],
    [1e-39, 2e-39, 3e-39, 4e-39],
    [1e-40, 0.0, 0.0, 0.0],
    [1e-44, 1e-44, 1e-44, 1e-44],
    [1.0, -1.0, 2.0, -2.0],
    [1e20, -1e20, 0.0, 0.0],
    [0.0, 0.0, 0.0, 0.0],
    [-0.0, 0.0, -0.0, 5.0],
    [1e30, 1.0, 1e-30, 0.0],
    [90.0, 0.0, -200.0, 89.0],
    [-1e4, -1e4, -1e4, 1e4],
    [3e8, 3e8, 3e8, 2e8],
    [7.0, 7.0, 7.0, 7.0],
]


def formatted(t: Tensor, channels_last: bool) -> Tensor:
    return t.movedim(1, -1).contiguous().movedim(-1, 1) if channels_last else t.contiguous()


class Maps:
    """Random maps of one geometry, for every operator."""

    def __init__(
        self,
        window: Pooling,
        size: list[int],
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
        batch: int = 2,
        channels: int = 3,
        beta: str = "channel",
        relu: bool = False,
        device: str = "cpu",
    ) -> None:
        self.window, self.size, rank = window, size, len(size)
        kernel, stride, padding, ceil_mode = window
        geometry = Geometry(tuple(kernel), tuple(stride), tuple(padding), ceil_mode, tuple(size))
        out = list(output_size(geometry))
        mask = [o * k for o, k in zip(out, kernel, strict=True)]

        def new(space: list[int]) -> Tensor:
            values = torch.randn(batch, channels, *space).to(device, dtype)
            return formatted(values, channels_last)

        self.x, self.y, self.grad_u, self.grad_y = map(new, (size, out, size, out))
        self.mask, self.mask_em, self.grad_mask, self.grad_em = (new(mask) for _ in range(4))
        if relu:
            self.x = self.x.relu()
        ones = [1] * rank
        shape = {
            "scalar": [1, 1, *ones],
            "channel": [1, channels, *ones],
            "batch map": [batch, 1, *out],
            "full": [batch, channels, *out],
        }[beta]
        self.beta = torch.rand(shape).to(device, dtype)

    def calls(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Every operator with arguments that fit, both ways of the gradient, both kinds of gain."""
        x, y, beta, w = self.x, self.y, self.beta, self.window
        for exact in (True, False):
            yield "ada_pool", (x, beta, *w, exact)
            yield "ada_pool_backward", (self.grad_y, None, None, x, beta, *w, exact)
            yield "ada_unpool_like_backward", (self.grad_u, y, x, beta, *w, exact, 0.0)
        yield "ada_pool_masks", (x, beta, *w, True)
        for first, second in ((self.grad_mask, self.grad_em), (self.grad_mask, None)):
            yield "ada_pool_backward", (self.grad_y, first, second, x, beta, *w, True)
        for gain, masks in itertools.product((0.0, 1.5), ((self.mask_em, beta), (None, None))):
            arguments = (y, self.mask, *masks, self.size, *w, gain)
            yield "ada_unpool", arguments
            yield "ada_unpool_backward", (self.grad_u, *arguments)
        for gain in (0.0, 1.5):
            yield "ada_unpool_like", (y, x, beta, *w, True, gain)
        yield "ada_unpool_like_backward", (self.grad_u, y, x, beta, *w, True, 1.5)
        rules = [("l2", 1.0, True, False), ("huber", 0.7, False, False), ("l1", 1.0, False, False)]
        for name, rule in [("edscw", ()), ("em", ()), *(("idw", rule) for rule in rules)]:
            yield f"{name}_pool", (x, *w, True, *rule)
            yield f"{name}_pool_masks", (x, *w, True, *rule)
            for mask, exact in ((None, True), (None, False), (self.grad_mask, True)):
                yield f"{name}_pool_backward", (self.grad_y, mask, x, *w, exact, *rule)


def run(ops: Any, name: str, arguments: tuple[Any, ...]) -> list[Tensor]:
    result = getattr(ops, name)(*arguments)
    return [result] if isinstance(result, Tensor) else list(result)


def strides(t: Tensor) -> list[int]:
    """Strides where they say something: that of a dimension of size 1 is arbitrary."""
    return [s for s, n in zip(t.stride(), t.shape, strict=True) if n > 1]


def assert_near(
    name: str, got: list[Tensor], wanted: list[Tensor], note: object, idw_factor: float = IDW_FACTOR
) -> None:
    """Shapes, dtypes and strides the same, values by :data:`TOLERANCE`."""
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted, strict=True):
        assert (a.shape, a.dtype, strides(a)) == (b.shape, b.dtype, strides(b)), (name, note)
        if not a.numel():
            continue
        tolerance = TOLERANCE[got[0].dtype] * (idw_factor if name == "idw_pool_backward" else 1)
        worst = (a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1)
        assert worst <= tolerance, (name, float(worst), note)


def assert_same(got: list[Tensor], wanted: list[Tensor], note: object) -> None:
    """Bit for bit, NaN too."""
    for a, b in zip(got, wanted, strict=True):
        assert a.shape == b.shape, note
        assert torch.equal(a.nan_to_num(nan=123.0), b.nan_to_num(nan=123.0)), note
        assert torch.equal(a.isnan(), b.isnan()), note
