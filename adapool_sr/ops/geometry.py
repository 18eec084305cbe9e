"""Where the windows of a pooling lie: sizes, checks, and the ways between a map and its windows.

Three layouts, written for any rank with ``out`` the output's size:

- a *map* (N, C, *size): the input, one value a pixel;
- a *mask* (N, C, *(out·kernel)): window by window, entry a·kernel + i belongs to input position
  a·stride − padding + i along each dimension; positions in the padding hold 0;
- *pieces*: K tensors (N, C, *out), one for each position inside the window, in row-major order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = [
    "Geometry",
    "Windows",
    "in_format_of",
    "is_channels_last",
    "make_geometry",
    "new_map",
    "output_size",
]


class Geometry(NamedTuple):
    """The windows of one pooling call; one entry a spatial dimension.

    Attributes:
        kernel: window size, each ≥ 1.
        stride: step from window to window, each ≥ 1.
        padding: positions beside the input that windows may cover; they take no part in anything.
        ceil_mode: whether a last window may stick out of the padded input.
        size: the input's spatial size.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    ceil_mode: bool
    size: tuple[int, ...]


def _per_dimension(name: str, value: int | Sequence[int], rank: int, least: int) -> tuple[int, ...]:
    """Turn one int or ``rank`` ints into a tuple, naming the argument where they are neither."""
    if isinstance(value, int) and not isinstance(value, bool):
        values: tuple[int, ...] = (value,) * rank
    elif isinstance(value, (tuple, list, torch.Size)):
        values = tuple(value)
        for item in values:
            if not isinstance(item, int) or isinstance(item, bool):
                raise TypeError(f"{name} must hold ints, got {value!r}")
        if len(values) != rank:
            raise ValueError(f"{name} must be one int or {rank} ints, got {len(values)}: {value!r}")
    else:
        raise TypeError(f"{name} must be an int or {rank} ints, got {value!r}")
    for item in values:
        if item < least:
            raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return values


def output_size(geometry: Geometry) -> tuple[int, ...]:
    """Number of windows along each dimension, by the rule of ``F.avg_pool2d``."""
    kernel, stride, padding, ceil_mode, size = geometry
    out = []
    for k, s, p, n in zip(kernel, stride, padding, size, strict=True):
        count = (n + 2 * p - k + (s - 1 if ceil_mode else 0)) // s + 1
        # PyTorch's rule: the last window starts inside the input or its left padding. It always
        # does where k >= s + p, which spares a symbolic size a question that it can't answer.
        if ceil_mode and k < s + p and (count - 1) * s >= n + p:
            count -= 1
        out.append(count)
    return tuple(out)


# Checked geometries of windows that are plain ints: what a network calls over and over.
_CHECKED: dict[tuple[Any, ...], Geometry] = {}
_MOST_CHECKED = 256


def make_geometry(
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: int | Sequence[int],
    ceil_mode: bool,
    size: Sequence[int],
) -> Geometry:
    """Check the arguments of a pooling call against the input's spatial ``size``.

    Raises:
        TypeError: an argument is not made of ints, or ``ceil_mode`` is not a bool.
        ValueError: kernel or stride < 1, wrong length, padding < 0 or > kernel/2, or a window that
            is larger than the padded input.
    """
    key = (kernel_size, stride, padding, ceil_mode, *size)
    # A bool equals an int, and a symbol of a traced graph has no hash: neither may be a key.
    plain = not torch.compiler.is_compiling() and {int} == {
        *map(type, (kernel_size, padding, *size))
    }
    plain = plain and type(ceil_mode) is bool and (stride is None or type(stride) is int)
    if plain and key in _CHECKED:
        return _CHECKED[key]
    geometry = _make_geometry(kernel_size, stride, padding, ceil_mode, size)
    if plain and len(_CHECKED) < _MOST_CHECKED:
        _CHECKED[key] = geometry
    return geometry


def _make_geometry(
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None,
    padding: int | Sequence[int],
    ceil_mode: bool,
    size: Sequence[int],
) -> Geometry:
    rank = len(size)
    kernel = _per_dimension("kernel_size", kernel_size, rank, 1)
    step = kernel if stride is None else _per_dimension("stride", stride, rank, 1)
    pad = _per_dimension("padding", padding, rank, 0)
    if not isinstance(ceil_mode, bool):
        raise TypeError(f"ceil_mode must be a bool, got {ceil_mode!r}")
    for k, p in zip(kernel, pad, strict=True):
        if 2 * p > k:
            raise ValueError(
                f"padding must be at most half of kernel_size, "
                f"got padding {padding!r} for kernel_size {kernel_size!r}"
            )
    geometry = Geometry(kernel, step, pad, ceil_mode, tuple(size))
    if min(size) < 1 or min(output_size(geometry)) < 1:
        raise ValueError(
            f"kernel_size {kernel_size!r} is larger than the padded input: "
            f"size {tuple(size)}, padding {padding!r}"
        )
    return geometry


def is_channels_last(x: Tensor) -> bool:
    """Whether the dense format nearest to ``x`` has the channels innermost; else contiguous is."""
    return not x.is_contiguous() and x.dim() > 3 and x.shape[1] > 1 and x.stride(1) == 1


def new_map(like: Tensor, space: Sequence[int]) -> Tensor:
    """An uninitialised (N, C, *space) of the dtype, device and nearest format of ``like``."""
    batch, channels = like.shape[:2]
    if is_channels_last(like):
        return like.new_empty((batch, *space, channels)).movedim(-1, 1)
    return like.new_empty((batch, channels, *space))


def in_format_of(like: Tensor, x: Tensor) -> Tensor:
    """The map ``x``, dense, in the format nearest to that of ``like``; also under ``vmap``."""
    if is_channels_last(like):
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    return x.contiguous()


def _outer(vectors: list[Tensor]) -> Tensor:
    """Product of one vector a dimension: shape (len, len, …)."""
    return reduce(lambda a, b: a.unsqueeze(-1) * b, vectors)


def _fitted(x: Tensor, size: Sequence[int], larger: bool) -> Tensor:
    """The map ``x`` filled up with zeros to ``size``, or cut to it where that is not larger."""
    if not larger:
        whole: list[Any] = [slice(0, n) for n in size]
        return x[(..., *whole)]
    more = [n - m for n, m in zip(size, x.shape[-len(size) :], strict=True)]
    if all(isinstance(n, int) for n in more) and not any(more):
        return x
    return F.pad(x, [side for n in reversed(more) for side in (0, n)])


class Windows:
    """The windows of ``geometry`` on ``device``: cuts maps into pieces and puts pieces together.

    Attributes:
        out: the output's spatial size.
        count: K, the positions of each window inside the image; an int where all are whole,
            else a tensor of shape ``out``.
        cover: how many windows contain each input position, at least 1; an int where that is 1
            everywhere, else a tensor of shape ``size``.
        valid: one bool tensor of shape ``out`` for each piece: where it lies inside the image;
            None where all do.
    """

    def __init__(
        self,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        ceil_mode: bool,
        size: Sequence[int],
        like: Tensor,
    ) -> None:
        self.geometry = Geometry(
            tuple(kernel), tuple(stride), tuple(padding), ceil_mode, tuple(size)
        )
        self.out = output_size(self.geometry)
        self.rank = len(self.out)
        self._slices: list[tuple[Any, ...]] = [
            (..., *(slice(i, None, k) for i, k in zip(offset, kernel, strict=True)))
            for offset in itertools.product(*(range(k) for k in kernel))
        ]
        self.count: Tensor | int = math.prod(kernel)
        self.cover: Tensor | int = 1
        self.valid: list[Tensor] | None = None
        # Windows that lie side by side need no index: a mask is the map itself, cut or filled up.
        self._abutting = tuple(kernel) == tuple(stride) and not any(padding)
        # A graph that is traced with dynamic sizes must hold for every size: where a last window
        # may stick out, it is taken to do so, whatever the size that is traced.
        self._symbolic = any(isinstance(n, torch.SymInt) for n in size)
        self.tiling = self._abutting and (
            not ceil_mode
            or (
                not self._symbolic
                and all(o * k <= n for o, k, n in zip(self.out, kernel, size, strict=True))
            )
        )
        if self.tiling:
            return
        index = [
            (torch.arange(o, device=like.device)[:, None] * s - p)
            + torch.arange(k, device=like.device)
            for o, k, s, p in zip(self.out, kernel, stride, padding, strict=True)
        ]
        inside = [(i >= 0) & (i < n) for i, n in zip(index, size, strict=True)]
        self._inside = _outer([i.flatten() for i in inside])
        self.count = _outer([i.sum(1) for i in inside]).to(like.dtype)
        self.valid = self.split(self._inside)
        if self._abutting:
            return
        self._index = [i.clamp(0, n - 1).flatten() for i, n in zip(index, size, strict=True)]
        self._sources = self._find_sources(like.device)
        covers = [sum(ok.long() for _, ok in sources) for sources in self._sources]
        self.cover = _outer([torch.as_tensor(c) for c in covers]).clamp(min=1).to(like.dtype)

    def _find_sources(self, device: torch.device) -> list[list[tuple[Tensor, Tensor]]]:
        """For each dimension, the mask entries that belong to each input position.

        One (index, whether it exists) pair for each of the at most ⌈kernel/stride⌉ windows that
        can contain a position; adding them in this order needs no atomics.
        """
        kernel, stride, padding, _, size = self.geometry
        dimensions = []
        for k, s, p, n, o in zip(kernel, stride, padding, size, self.out, strict=True):
            position = torch.arange(n, device=device) + p
            sources = []
            for back in range(-(-k // s)):
                window = torch.div(position, s, rounding_mode="floor") - back
                inner = position - window * s
                exists = (window >= 0) & (window < o) & (inner < k)
                sources.append((torch.where(exists, window * k + inner, 0), exists))
            dimensions.append(sources)
        return dimensions

    def split(self, mask: Tensor) -> list[Tensor]:
        """Cut a mask (…, *(out·kernel)) into its K pieces (…, *out), as views."""
        return [mask[piece] for piece in self._slices]

    def _space(self) -> list[int]:
        """The spatial size of a mask."""
        return [o * k for o, k in zip(self.out, self.geometry.kernel, strict=True)]

    def join(self, pieces: Sequence[Tensor]) -> Tensor:
        """Lay K pieces (N, C, *out) out as one mask, in the first piece's memory format."""
        if self._symbolic:  # a graph that is to be exported takes no writing into views
            parts = list(pieces)
            for dim, k in enumerate(reversed(self.geometry.kernel), start=1):
                groups = [parts[i : i + k] for i in range(0, len(parts), k)]
                parts = [torch.stack(group, -dim).flatten(-dim - 1, -dim) for group in groups]
            return parts[0]
        mask = new_map(pieces[0], self._space())
        for where, piece in zip(self._slices, pieces, strict=True):
            mask[where] = piece
        return mask

    def take(self, x: Tensor) -> list[Tensor]:
        """Cut a map (N, C, *size) into its K pieces (N, C, *out); 0 in the padding."""
        if self._abutting:
            return self.split(_fitted(x, self._space(), self.geometry.ceil_mode))
        for dim, index in enumerate(self._index, start=-self.rank):
            x = x.index_select(dim, index)
        # where, not a product: a NaN of the image must not come back from the padding.
        return self.split(torch.where(self._inside, x, 0))

    def put(self, pieces: Sequence[Tensor]) -> Tensor:
        """Add K pieces (N, C, *out) up at their input positions: a map (N, C, *size)."""
        mask = self.join(pieces)
        if self._abutting:
            return _fitted(mask, self.geometry.size, not self.geometry.ceil_mode)
        for dim, sources in enumerate(self._sources, start=-self.rank):
            tail = (1,) * (-1 - dim)
            parts = [
                torch.where(exists.view(-1, *tail), mask.index_select(dim, index), 0)
                for index, exists in sources
            ]
            mask = reduce(torch.add, parts)
        return mask

    def only_valid(self, pieces: Sequence[Tensor], other: float) -> list[Tensor]:
        """The pieces with ``other`` in the padding."""
        if self.valid is None:
            return list(pieces)
        return [torch.where(v, p, other) for v, p in zip(self.valid, pieces, strict=True)]
