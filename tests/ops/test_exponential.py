"""The exponentials of the native kernels: their error over the whole range, and their ends."""

from __future__ import annotations

import ctypes
import os
import shutil
from typing import Any

import numpy as np
import pytest

from adapool_sr.ops import build


@pytest.fixture(autouse=True)
def kernels() -> None:
    if os.environ.get("ADAPOOL_NATIVE") == "0":
        pytest.skip("ADAPOOL_NATIVE=0")
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("no C++ compiler")
    assert build.load().kernel == "native", build.load().why


def apply(name: str, values: Any, dtype: Any = np.float32) -> Any:
    function = getattr(ctypes.CDLL(str(build.library_path())), name)
    pointer = ctypes.POINTER(ctypes.c_float if dtype == np.float32 else ctypes.c_double)
    function.argtypes = [pointer, pointer, ctypes.c_int64]
    values = np.ascontiguousarray(values, dtype)
    out = np.empty_like(values)
    function(values.ctypes.data_as(pointer), out.ctypes.data_as(pointer), values.size)
    return out


def ulps(got: Any, values: Any) -> Any:
    exact = np.exp(values.astype(np.float64))
    unit = np.spacing(np.maximum(exact, np.finfo(np.float32).tiny).astype(np.float32))
    return np.abs(got.astype(np.float64) - exact) / unit


@pytest.mark.parametrize(("name", "least"), [("exp_unit", -1.0), ("exp_nonpositive", -104.0)])
def test_the_exponential_is_within_4_ulp_over_its_range(name: str, least: float) -> None:
    even = np.linspace(least, 0, 1_500_001, dtype=np.float32)
    small = -np.exp2(np.linspace(-149, np.log2(-least), 500_001)).astype(np.float32)
    values = np.concatenate([even, small, [np.float32(-0.0)]])
    assert ulps(apply(f"adapool_{name}", values), values).max() <= 4


@pytest.mark.slow
def test_the_exponential_is_within_4_ulp_of_every_float_from_minus_104_to_0() -> None:
    last = int(np.float32(-104).view(np.uint32))
    for begin in range(1 << 31, last, 1 << 24):
        bits = np.arange(begin, min(begin + (1 << 24), last + 1), dtype=np.uint32)
        values = bits.view(np.float32)
        assert ulps(apply("adapool_exp_nonpositive", values), values).max() <= 4


def test_the_exponential_of_double_is_within_4_ulp() -> None:
    values = np.concatenate(
        [np.linspace(-745, 0, 200_001), -np.exp2(np.linspace(-1074, 9, 50_001))]
    )
    got = apply("adapool_exp_double", values, np.float64)
    exact = np.exp(values.astype(np.longdouble))
    unit = np.spacing(np.maximum(np.exp(values), np.finfo(np.float64).tiny))
    assert float((np.abs(got - exact) / unit).max()) <= 4
    ends = apply("adapool_exp_double", np.array([0.0, -np.inf, np.nan, -1e300]), np.float64)
    np.testing.assert_array_equal(ends, [1, 0, np.nan, 0])


def test_the_exponential_at_its_ends() -> None:
    values = np.array([0, -0.0, -np.inf, np.nan, -105, -1e30, -3.4e38, -103.9], np.float32)
    got = apply("adapool_exp_nonpositive", values)
    np.testing.assert_array_equal(got[:7], [1, 1, 0, np.nan, 0, 0, 0])
    assert got[7] == np.float32(2.0**-149)
    np.testing.assert_array_equal(apply("adapool_exp_unit", values[[0, 3]]), [1, np.nan])
