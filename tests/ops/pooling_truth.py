"""The pooling specification once more, in NumPy loops that share nothing with the package."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from adapool_sr.ops import functional, library

Array = npt.NDArray[np.float64]
Pair = tuple[int, int]
Window = tuple[Pair, Pair, Pair, bool]

# The one tolerance rule: against the float64 truth of the same (rounded) input, relative to the
# largest value for results, i.e. a few ulp of the dtype.
TOLERANCE = {
    torch.float64: 1e-13,
    torch.float32: 1e-6,
    torch.float16: 1e-3,
    torch.bfloat16: 8e-3,
}

NAMESPACES = library.NAMESPACES


def use_namespace(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the functions call the operators of ``namespace``; skip where it is no other kernel."""
    if namespace == "adapool" and not functional._load_native():
        pytest.skip("no native kernel here: the same reference would run twice")
    monkeypatch.setattr(functional, "_namespace", namespace)


def relu_like(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Half zeros, as behind a ReLU; the first windows of 4x4 are all zeros."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x.relu()
    x[..., :4, :4] = 0
    return x.to(dtype)


def mixed(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal values of both signs."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def assert_near(got: Tensor, expected: Array, dtype: torch.dtype) -> None:
    """Compare by :data:`TOLERANCE`."""
    assert tuple(got.shape) == expected.shape
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    worst = float(np.abs(got.detach().double().numpy() - expected).max(initial=0))
    assert worst <= TOLERANCE[dtype] * scale, f"off by {worst} at {dtype}"


# kernel, stride, padding, ceil_mode
WINDOWS: list[Window] = [
    ((2, 2), (2, 2), (0, 0), False),
    ((2, 2), (2, 2), (0, 0), True),
    ((3, 3), (2, 2), (1, 1), False),
    ((3, 3), (2, 2), (1, 1), True),
    ((2, 2), (1, 1), (1, 1), True),
    ((3, 2), (1, 3), (1, 0), False),
    ((1, 1), (1, 1), (0, 0), False),
    ((2, 3), (3, 2), (0, 1), True),
    ((4, 4), (3, 3), (2, 2), True),
]


def starts(size: int, kernel: int, stride: int, padding: int, ceil_mode: bool) -> list[int]:
    """First row of each window; negative in the left padding."""
    found: list[int] = []
    start = -padding
    while True:
        whole = start + kernel <= size + padding
        sticks_out = ceil_mode and start < size and start + kernel - stride < size + padding
        if not (whole or sticks_out):
            return found
        found.append(start)
        start += stride


def cells(size: Pair, window: Window) -> Iterator[tuple[Pair, list[tuple[Pair, Pair]]]]:
    """For each output cell, (place in the mask, place in the image) of its valid positions."""
    kernel, stride, padding, ceil_mode = window
    rows = starts(size[0], kernel[0], stride[0], padding[0], ceil_mode)
    columns = starts(size[1], kernel[1], stride[1], padding[1], ceil_mode)
    for a, top in enumerate(rows):
        for b, left in enumerate(columns):
            members = [
                ((a * kernel[0] + i, b * kernel[1] + j), (top + i, left + j))
                for i in range(kernel[0])
                for j in range(kernel[1])
                if 0 <= top + i < size[0] and 0 <= left + j < size[1]
            ]
            yield (a, b), members


def output_size(size: Pair, window: Window) -> Pair:
    kernel, stride, padding, ceil_mode = window
    rows = starts(size[0], kernel[0], stride[0], padding[0], ceil_mode)
    columns = starts(size[1], kernel[1], stride[1], padding[1], ceil_mode)
    return len(rows), len(columns)


def weights(values: list[float], method: str) -> list[float]:
    mean = math.fsum(values) / len(values)
    if method == "em":
        top = max(values)
        exponentials = [math.exp(v - top) for v in values]
    else:
        exponentials = []
        for v in values:
            bottom = v * v + mean * mean
            exponentials.append(math.exp(2 * abs(v * mean) / bottom if bottom else 0.0))
    return [e / math.fsum(exponentials) for e in exponentials]


def pool(x: Array, window: Window, method: str) -> tuple[Array, Array]:
    """(y, mask) of eDSCW or eM pooling; x is (N, C, H, W)."""
    n, c, *size = x.shape
    out = output_size((size[0], size[1]), window)
    kernel = window[0]
    y = np.zeros((n, c, *out))
    mask = np.zeros((n, c, out[0] * kernel[0], out[1] * kernel[1]))
    for image in range(n):
        for channel in range(c):
            for cell, members in cells((size[0], size[1]), window):
                values = [float(x[image, channel, r, s]) for _, (r, s) in members]
                ws = weights(values, method)
                y[image, channel, *cell] = math.fsum(w * v for w, v in zip(ws, values, strict=True))
                for w, (place, _) in zip(ws, members, strict=True):
                    mask[image, channel, *place] = w
    return y, mask


def unpool(y: Array, mask: Array, size: Pair, window: Window, gain: float | str) -> Array:
    """Spread y (N, C, oH, oW) by one mask."""
    u = np.zeros((*y.shape[:2], *size))
    cover = np.zeros(size)
    for cell, members in cells(size, window):
        factor = len(members) if gain == "area" else float(gain)
        for place, pixel in members:
            cover[pixel] += 1
            u[:, :, *pixel] += factor * y[:, :, *cell] * mask[:, :, *place]
    return u / np.maximum(cover, 1) if gain == "area" else u


def expand(mask_shaped: Array, kernel: Pair) -> Array:
    """Repeat a value for each window over the window's entries of a mask."""
    return np.repeat(np.repeat(mask_shaped, kernel[0], axis=-2), kernel[1], axis=-1)
