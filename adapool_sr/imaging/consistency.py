"""The smallest change to a picture after which shrinking it gives another picture exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from adapool_sr.imaging.taps import Taps, weigh

__all__ = ["project"]

_Array = npt.NDArray[Any]

# Rows of a shrink further apart than this share no pixel: Keys' kernel is 4 input pixels wide.
_BANDS = 4
_BLOCK = 64  # rows whose products are made at once


def project(large: _Array, small: _Array, rows: Taps, columns: Taps) -> _Array:
    """Move a picture to the nearest one that shrinks to a given one.

    With D the shrink, x the small and y the large picture: y + Dᵀ(D Dᵀ)⁻¹(x − D y), the
    orthogonal projection of y onto the pictures that shrink to x. It is a step of back-projection
    (Irani and Peleg, "Improving Resolution by Image Registration", CVGIP 53(3), 1991) with the
    operator that needs only one, and brings y nearer to every picture that shrinks to x. D is
    separable, and D Dᵀ of an axis a matrix of few bands whose condition is about 2.

    Args:
        large: (L, H, W) y, any float type.
        small: (L, h, w) x.
        rows: the shrink's table for the rows: h outputs, positions within H.
        columns: the same for the columns.

    Returns:
        (L, H, W) float64.

    Raises:
        ValueError: tables of an enlargement.
    """
    left = np.asarray(small, np.float64) - weigh(weigh(large, rows), columns, across=True)
    left = _solve(rows, left)
    left = _solve(columns, left.transpose(0, 2, 1)).transpose(0, 2, 1)
    back = weigh(left, rows.transposed(large.shape[1]))
    back = weigh(back, columns.transposed(large.shape[2]), across=True)
    back += large
    return back


def _solve(taps: Taps, planes: _Array) -> _Array:
    """(D Dᵀ)⁻¹ along the rows of (L, n, m) planes, by Cholesky's factors of the bands."""
    count, length, width = planes.shape
    factor = _cholesky(_gram(taps))
    y = np.ascontiguousarray(planes.transpose(1, 0, 2)).reshape(length, count * width)
    for i in range(length):
        for k in range(1, min(_BANDS, i) + 1):
            y[i] -= factor[k, i - k] * y[i - k]
        y[i] /= factor[0, i]
    for i in reversed(range(length)):
        for k in range(1, min(_BANDS, length - 1 - i) + 1):
            y[i] -= factor[k, i] * y[i + k]
        y[i] /= factor[0, i]
    solved: _Array = y.reshape(length, count, width).transpose(1, 0, 2)
    return solved


def _gram(taps: Taps) -> _Array:
    """(bands + 1, n): entry (k, i) is the product of rows i and i + k of the table's matrix."""
    length = len(taps.index)
    bands = np.zeros((_BANDS + 1, length))
    for start in range(0, length, _BLOCK):
        index = taps.index[start : start + _BLOCK + _BANDS]
        low = int(index.min())
        dense = np.zeros((len(index), int(index.max()) + 1 - low))
        weight = taps.weight[start : start + _BLOCK + _BANDS]
        np.add.at(dense, (np.arange(len(index))[:, None], index - low), weight)
        product = dense @ dense.T
        for k in range(_BANDS + 1):
            diagonal = np.diagonal(product, -k)[:_BLOCK]
            bands[k, start : start + len(diagonal)] = diagonal
    return bands


def _cholesky(bands: _Array) -> _Array:
    """The lower factor of a symmetric matrix, both as bands below the diagonal."""
    length = bands.shape[1]
    # Plain lists: NumPy's scalars would take ten times as long.
    given: list[list[float]] = bands.tolist()
    factor = [[0.0] * length for _ in range(_BANDS + 1)]
    for j in range(length):
        for k in range(min(_BANDS, length - 1 - j) + 1):
            value = given[k][j]
            for back in range(1, min(_BANDS - k, j) + 1):
                value -= factor[k + back][j - back] * factor[back][j - back]
            if k:
                factor[k][j] = value / factor[0][j]
            elif value > 0:
                factor[0][j] = value**0.5
            else:
                raise ValueError("the tables make a picture larger: nothing can shrink so")
    return np.array(factor)
