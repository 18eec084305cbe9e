"""Whether a result still shows its input: shrunk by the exact resize it must be nearly the same."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from adapool_sr.imaging.taps import bicubic_taps, weigh

__all__ = ["FARTHEST", "Verdict", "compare"]

#: A result that errs by more than this share of the range somewhere does not show its input. Over
#: Set14 and two photos tiny-x2 errs by 0.1 to 3.4 %, and by 15 to 42 % when it is moved by a pixel
#: of the input (a clear sky by less than this).
FARTHEST = 0.04
# Errors are the RMS over squares of this side in the input, half over each other, so that one bad
# tile of a large picture counts in full and one sharp pixel doesn't.
_SIDE = 16
_STRIP = 512  # rows of the input compared at once: the whole in float64 may not fit


@dataclass(frozen=True)
class Verdict:
    """How far a result is from its input.

    Attributes:
        psnr: in dB over the whole picture and range; inf for equal ones.
        worst: RMS error of the worst square of 16x16 input pixels, as a share of the range.
    """

    psnr: float
    worst: float

    @property
    def passes(self) -> bool:
        """Whether the worst square errs by 4 % of the range at most."""
        return self.worst <= FARTHEST

    def __str__(self) -> str:
        return f"{self.psnr:.1f} dB against its input, at worst {100 * self.worst:.1f} % off"


def compare(result: Tensor, picture: Tensor, wrap: str = "") -> Verdict:
    """Compare a result with its input at the size of the smaller one.

    Args:
        result: (C, H, W) uint8 or uint16 over the whole range, or float in 0..1.
        picture: (C, h, w) float in 0..1.
        wrap: the axes on which the picture goes on with its other end.
    """
    rows = min(result.shape[1], picture.shape[1])
    columns = min(result.shape[2], picture.shape[2])
    squares = torch.zeros(rows, columns)  # squared errors, the mean of the colours
    for top in range(0, rows, _STRIP):
        box = (top, min(top + _STRIP, rows), rows, columns)
        error = _shrunk(result, *box, wrap) - _shrunk(picture, *box, wrap)
        squares[box[0] : box[1]] = (error**2).mean(0)
    side = [min(_SIDE, length) for length in (rows, columns)]
    means = F.avg_pool2d(
        squares[None, None],
        side,
        [max(1, length // 2) for length in side],
        ceil_mode=True,
        count_include_pad=False,
    )
    mean = float(squares.double().mean())
    psnr = -10 * math.log10(mean) if mean else math.inf
    return Verdict(psnr, math.sqrt(float(means.max())))


def _shrunk(x: Tensor, top: int, bottom: int, rows: int, columns: int, wrap: str) -> Tensor:
    """Rows top..bottom of a picture brought to a size, float32 in 0..1."""
    height, width = x.shape[1:]
    down = bicubic_taps(top, bottom, rows / height)
    across = bicubic_taps(0, columns, columns / width)
    down = down if "y" in wrap else down.clamped(height)
    across = across if "x" in wrap else across.clamped(width)
    low, high = down.span
    strip = x.numpy()[:, np.arange(low, high) % height]
    if "x" in wrap:
        left, right = across.span
        strip = strip[:, :, np.arange(left, right) % width]
        across = across.moved(left)
    made = weigh(weigh(strip, down.moved(low)), across, across=True)
    top_value = 1 if x.is_floating_point() else torch.iinfo(x.dtype).max
    return torch.from_numpy(made).float().div_(top_value)
