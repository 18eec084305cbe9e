import math

import numpy as np
import pytest

from adapool_sr.data.kernels import gaussian, low_pass


def spread(kernel: np.ndarray, axis: int) -> float:
    """Standard deviation along an axis, in pixels."""
    weights = kernel.astype(np.float64).sum(axis=1 - axis)
    place = np.arange(len(weights)) - len(weights) // 2
    return math.sqrt(float((weights * place**2).sum()))


@pytest.mark.parametrize(
    "kernel",
    [
        gaussian(5, 1.3),
        gaussian(7, 2.0, 0.7, 0.6, beta=0.5),
        gaussian(4, 1.0, plateau=True, beta=1.5),
        low_pass(10, 1.1),
        low_pass(3, math.pi),
    ],
)
def test_kernels_keep_brightness_and_place(kernel: np.ndarray) -> None:
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.dtype == np.float32
    assert np.allclose(kernel, kernel[::-1, ::-1], atol=1e-7)


def test_sigmas_are_the_spread_along_their_axes() -> None:
    wide = gaussian(10, 2.5, 1.0)
    assert spread(wide, 1) == pytest.approx(2.5, rel=0.02)
    assert spread(wide, 0) == pytest.approx(1.0, rel=0.02)
    turned = gaussian(10, 2.5, 1.0, math.pi / 2)
    assert np.allclose(turned, wide.T, atol=1e-6)


def test_exponents_and_plateaus_change_the_shape() -> None:
    plain, flat = gaussian(6, 2.0), gaussian(6, 2.0, beta=4.0)
    assert flat[6, 6] / flat[6, 7] < plain[6, 6] / plain[6, 7]
    plateau = gaussian(6, 2.0, plateau=True, beta=2.0)
    assert plateau[6, 6] / plateau[6, 7] < plain[6, 6] / plain[6, 7]


def test_the_low_pass_stops_what_lies_above_its_cutoff() -> None:
    kernel = low_pass(15, math.pi / 3)
    response = np.abs(np.fft.fft2(kernel, (64, 64)))[0]
    assert response[4] == pytest.approx(1, abs=0.15)  # π/8
    assert response[20:32].max() < 0.1  # 5π/8 and above
    assert kernel.min() < 0  # it rings
