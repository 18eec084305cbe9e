"""The pooling specification once more, in NumPy loops that share nothing with the package."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from adapool_sr.ops import functional, library

Array = npt.NDArray[np.float64]
Ints = tuple[int, ...]
Window = tuple[Ints, Ints, Ints, bool]
Vectors = list[list[float]]

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


def cells(size: Ints, window: Window) -> Iterator[tuple[Ints, list[tuple[Ints, Ints]]]]:
    """For each output cell, (place in the mask, place in the image) of its valid positions."""
    kernel, stride, padding, ceil_mode = window
    firsts = [
        starts(n, k, s, p, ceil_mode)
        for n, k, s, p in zip(size, kernel, stride, padding, strict=True)
    ]
    for cell in itertools.product(*(range(len(first)) for first in firsts)):
        members = []
        for inner in itertools.product(*map(range, kernel)):
            pixel = tuple(first[a] + i for first, a, i in zip(firsts, cell, inner, strict=True))
            if all(0 <= p < n for p, n in zip(pixel, size, strict=True)):
                place = tuple(a * k + i for a, k, i in zip(cell, kernel, inner, strict=True))
                members.append((place, pixel))
        yield cell, members


def output_size(size: Ints, window: Window) -> Ints:
    kernel, stride, padding, ceil_mode = window
    return tuple(
        len(starts(n, k, s, p, ceil_mode))
        for n, k, s, p in zip(size, kernel, stride, padding, strict=True)
    )


def similarity(a: list[float], b: list[float], name: str) -> float:
    """Of two vectors; 0 where its divisor is 0."""
    product = math.fsum(i * j for i, j in zip(a, b, strict=True))
    squares = [math.fsum(i * i for i in v) for v in (a, b)]
    top, bottom = {
        "dsc": (2 * abs(product), squares[0] + squares[1]),
        "cosine": (product, math.sqrt(squares[0]) * math.sqrt(squares[1])),
        "pce": (product, squares[0] + squares[1] - product),
    }[name]
    return top / bottom if bottom else 0.0


def distance(a: list[float], b: list[float], name: str, delta: float) -> float:
    sizes = [abs(i - j) for i, j in zip(a, b, strict=True)]
    if name in ("l1", "chebyshev"):
        return math.fsum(sizes) if name == "l1" else max(sizes)
    d = math.sqrt(math.fsum(n * n for n in sizes))
    return d if name == "l2" else delta**2 * (math.sqrt(1 + (d / delta) ** 2) - 1)


def weights(vectors: Vectors, method: str, delta: float = 1.0, drop: bool = False) -> list[float]:
    """Of the positions of one window: "em" (one channel), a similarity or a distance by name."""
    count = len(vectors)
    mean = [math.fsum(values) / count for values in zip(*vectors, strict=True)]
    if method == "em":
        top = max(v for (v,) in vectors)
        parts = [math.exp(v - top) for (v,) in vectors]
    elif method in ("dsc", "cosine", "pce"):
        parts = [math.exp(similarity(v, mean, method)) for v in vectors]
    else:
        ds = [distance(v, mean, method, delta) for v in vectors]
        if all(ds) or (drop and any(ds)):
            parts = [1 / d if d else 0.0 for d in ds]
        else:
            parts = [float(d == 0) for d in ds]
    return [part / math.fsum(parts) for part in parts]


def pool(
    x: Array, window: Window, method: str, vector: bool = False, **rule: Any
) -> tuple[Array, Array]:
    """(y, mask) of a pooling; x is (N, C, *size); a ``vector`` mask has one channel."""
    n, c, *size = x.shape
    method = "dsc" if method == "edscw" else method
    out = output_size(tuple(size), window)
    y = np.zeros((n, c, *out))
    space = [o * k for o, k in zip(out, window[0], strict=True)]
    mask = np.zeros((n, 1 if vector else c, *space))
    groups = [list(range(c))] if vector else [[channel] for channel in range(c)]
    for image, (index, group) in itertools.product(range(n), enumerate(groups)):
        for cell, members in cells(tuple(size), window):
            vectors = [[float(x[image, k, *pixel]) for k in group] for _, pixel in members]
            ws = weights(vectors, method, **rule)
            for at, k in enumerate(group):
                y[image, k, *cell] = math.fsum(w * v[at] for w, v in zip(ws, vectors, strict=True))
            for w, (place, _) in zip(ws, members, strict=True):
                mask[image, index, *place] = w
    return y, mask


def everywhere(position: Ints) -> tuple[Any, ...]:
    """Index of a position in all images and channels."""
    return (..., *position)


def unpool(y: Array, mask: Array, size: Ints, window: Window, gain: float | str) -> Array:
    """Spread y (N, C, *out) by one mask."""
    u = np.zeros((*y.shape[:2], *size))
    cover = np.zeros(size)
    for cell, members in cells(size, window):
        factor = len(members) if gain == "area" else float(gain)
        for place, pixel in members:
            cover[pixel] += 1
            u[everywhere(pixel)] += factor * y[everywhere(cell)] * mask[everywhere(place)]
    return u / np.maximum(cover, 1) if gain == "area" else u
