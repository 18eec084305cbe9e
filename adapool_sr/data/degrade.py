"""The second-order degradation: from a high-resolution crop to a low-resolution one.

After Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic
Data", 2021: blur, resize, noise and JPEG, twice, then the final resize. Everything runs in OpenCV
on the CPU, and the JPEG is a real encoder's, whose grid lies anywhere. A :class:`Recipe` is drawn
first, so that it can be put into words.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2 as typed_cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from adapool_sr.data.degrade_settings import Blur, Jpeg, Noise, Range, Resize, SecondOrder, Stage
from adapool_sr.data.kernels import gaussian, low_pass

__all__ = ["Degradation", "Recipe", "Step"]

Pixels = npt.NDArray[np.uint8]
Work = npt.NDArray[np.float32]  # (H, W, 3) BGR, 0..255
Random = np.random.Generator

cv2: Any = typed_cv2  # whose stubs know no dtypes and no scalars

_MCU = 16  # side of the block that JPEG's 4:2:0 repeats by
_LEAST = 8  # no resize goes below so many pixels
_RESIZES = ("bicubic", "bilinear", "area")


@dataclass(frozen=True)
class Step:
    """One operation with its parameters.

    Attributes:
        words: what it is, as in "JPEG 63 4:2:0".
        run: does it, on float32 (H, W, 3) BGR in 0..255; the noise is drawn from the generator.
    """

    words: str
    run: Callable[[Work, Random], Work]


@dataclass(frozen=True)
class Recipe:
    """What a sample undergoes; with no steps it is the exact bicubic.

    Attributes:
        steps: in their order.
    """

    steps: tuple[Step, ...]

    @property
    def words(self) -> list[str]:
        """A text for every step; "exact bicubic" where there is none."""
        return [step.words for step in self.steps] or ["exact bicubic"]


class Degradation:
    """Draws recipes and follows them.

    Args:
        settings: the parameters.
        scale: how much smaller the low resolution is; 1 keeps the size.
    """

    def __init__(self, settings: SecondOrder, scale: int) -> None:
        self.settings = settings
        self.scale = scale
        radius = max(settings.blur.radius, settings.second.blur.radius)
        #: LR pixels around a crop that are degraded with it, so that its edges do not show: a JPEG
        #: block, or the widest blur and some of the block beyond it.
        self.margin = max(8, -(-(radius + 6) // scale))

    def draw(self, random: Random, height: int, width: int) -> Recipe:
        """Decide what happens to a crop whose low resolution is ``height`` x ``width``."""
        settings = self.settings
        if random.random() < settings.clean:
            return Recipe(())
        first = Stage(settings.blur, settings.resize, settings.noise, settings.jpeg)
        size = (height * self.scale, width * self.scale)
        steps = [
            _draw_blur(first.blur, random),
            _draw_resize(first.resize, random, size),
            _draw_noise(first.noise, random),
            _draw_jpeg(first.jpeg, random),
        ]
        second, final = settings.second, settings.final
        resize = _draw_resize(second.resize, random, (height, width))
        # No draw where it can't matter: samples stay what they were before the setting was there.
        exact = final.bicubic > 0 and random.random() < final.bicubic
        kind = "bicubic" if exact else _kind(random)
        to_size: Step | None = _resize_step(kind, height, width, "to size")
        if self.scale == 1 and steps[1] is resize is None:
            to_size = None  # it has the size already
        steps += [
            _draw_blur(second.blur, random),
            resize or to_size,
            _draw_noise(second.noise, random),
        ]
        jpeg = _draw_jpeg(second.jpeg, random)
        end = [
            to_size if resize else None,
            _draw_sinc(second.blur.radius, random) if random.random() < final.sinc else None,
        ]
        steps += [*end, jpeg] if random.random() < final.jpeg_last else [jpeg, *end]
        return Recipe(tuple(step for step in steps if step is not None))

    def follow(self, recipe: Recipe, hr: Pixels, random: Random) -> Pixels:
        """Degrade a crop by a recipe of at least one step.

        Args:
            recipe: as drawn for this size.
            hr: ``(3, scale·h, scale·w)`` uint8 RGB.
            random: what the noise is drawn from.

        Returns:
            ``(3, h, w)`` uint8 RGB, contiguous.
        """
        work: Work = np.ascontiguousarray(hr[::-1].transpose(1, 2, 0), dtype=np.float32)
        for step in recipe.steps:
            work = step.run(work, random)
        return np.ascontiguousarray(_bytes(work).transpose(2, 0, 1)[::-1])


def _bytes(work: Work) -> Pixels:
    rounded: Pixels = cv2.convertScaleAbs(np.maximum(work, 0))  # rounds, and stops at 255
    return rounded


def _uniform(random: Random, limits: Range) -> float:
    low, high = limits
    return low + (high - low) * float(random.random())


# -- blur --------------------------------------------------------------------------------------


def _draw_blur(blur: Blur, random: Random) -> Step | None:
    if random.random() >= blur.chance:
        return None
    if random.random() < blur.sinc:
        return _draw_sinc(blur.radius, random)
    sigma, other = _uniform(random, blur.sigma), None
    words = f"blur {sigma:.1f}"
    angle, beta = 0.0, 1.0
    if random.random() < blur.anisotropic:
        other, angle = _uniform(random, blur.sigma), math.pi * float(random.random())
        words += f"x{other:.1f} {math.degrees(angle):.0f}°"
    shape = random.random()
    plateau = bool(shape < blur.plateau)
    if plateau:
        beta = _uniform(random, blur.beta_plateau)
        words += f" plateau {beta:.1f}"
    elif shape < blur.plateau + blur.generalized:
        # Below and above 1 alike, as the range is meant.
        beta = _uniform(random, (blur.beta[0], 1) if random.random() < 0.5 else (1, blur.beta[1]))
        words += f" beta {beta:.1f}"
    # A heavy tail (β below 1, plateau) is cut where the Gaussian would have ended: 3 sigma.
    radius = min(blur.radius, max(1, math.ceil(3 * max(sigma, other or 0.0))))
    kernel = gaussian(radius, sigma, other, angle, beta, plateau)
    return _filter_step(words, kernel, separable=other is None and beta == 1 and not plateau)


def _draw_sinc(radius: int, random: Random) -> Step:
    size = int(random.integers(min(3, radius), radius + 1))
    # Larger kernels ring further: they may cut off lower (Real-ESRGAN's rule).
    lowest = math.pi / 3 if size < 6 else math.pi / 5
    cutoff = _uniform(random, (lowest, math.pi))
    return _filter_step(f"sinc {cutoff / math.pi:.2f} pi r{size}", low_pass(size, cutoff))


def _filter_step(words: str, kernel: npt.NDArray[np.float32], separable: bool = False) -> Step:
    line = kernel.sum(axis=0)

    def run(work: Work, _: Random) -> Work:
        out: Work
        if separable:  # the same, four times as fast
            out = cv2.sepFilter2D(work, -1, line, line, borderType=cv2.BORDER_REFLECT)
        else:
            out = cv2.filter2D(work, -1, kernel, borderType=cv2.BORDER_REFLECT)
        return out

    return Step(words, run)


# -- resize ------------------------------------------------------------------------------------


def _draw_resize(resize: Resize, random: Random, size: tuple[int, int]) -> Step | None:
    """A resize to ``size`` times a drawn factor; None where the size is kept."""
    which = random.random()
    if which < resize.up:
        factor = _uniform(random, (1, resize.factors[1]))
    elif which < resize.up + resize.down:
        factor = _uniform(random, (resize.factors[0], 1))
    else:
        return None
    rows, columns = (max(min(_LEAST, side), round(side * factor)) for side in size)
    return _resize_step(_kind(random), rows, columns, f"x{factor:.2f}")


def _kind(random: Random) -> str:
    return _RESIZES[int(random.integers(len(_RESIZES)))]


def _resize_step(kind: str, rows: int, columns: int, words: str) -> Step:
    def run(work: Work, _: Random) -> Work:
        if work.shape[:2] == (rows, columns):
            return work
        if kind == "bicubic":
            return _bicubic(work, rows, columns)
        how = cv2.INTER_AREA if kind == "area" else cv2.INTER_LINEAR
        out: Work = cv2.resize(work, (columns, rows), interpolation=how)
        return out

    return Step(f"{kind} {words}", run)


def _bicubic(work: Work, rows: int, columns: int) -> Work:
    """MATLAB's kernel (Keys a = −0.5, widened when shrinking), which OpenCV does not have."""
    planes = [
        Image.fromarray(np.ascontiguousarray(work[..., plane])).resize(
            (columns, rows), Image.Resampling.BICUBIC
        )
        for plane in range(work.shape[2])
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


# -- noise -------------------------------------------------------------------------------------


def _draw_noise(noise: Noise, random: Random) -> Step | None:
    if random.random() >= noise.chance:
        return None
    poisson = bool(random.random() < noise.poisson_share)
    strength = _uniform(random, noise.poisson if poisson else noise.gaussian)
    grey = bool(random.random() < noise.grey)

    def run(work: Work, random: Random) -> Work:
        height, width = work.shape[:2]
        planes = 1 if grey else 3
        # OpenCV's generator, one a thread, is four times as fast as NumPy's; seeded here, it too
        # depends on the sample alone.
        cv2.setRNGSeed(int(random.integers(2**31)))
        # One plane: of several, a single number would be the first one's strength alone.
        drawn: Work = cv2.randn(np.empty((height, width * planes), np.float32), 0, strength)
        drawn = drawn.reshape(height, width, planes)
        if poisson:
            # White (255) as 256 photons: a variance of v·255/256, taken as normal, which is right
            # but for the darkest few levels, and five times as fast.
            drawn = drawn * np.sqrt(np.clip(work, 0, 255) * np.float32(255 / 256))
        noisy: Work = np.clip(work + drawn, 0, 255)
        return noisy

    kind = "Poisson" if poisson else "noise"
    return Step(f"{kind} {strength:.2g}{' grey' if grey else ''}", run)


# -- JPEG --------------------------------------------------------------------------------------


def _draw_jpeg(jpeg: Jpeg, random: Random) -> Step | None:
    if random.random() >= jpeg.chance:
        return None
    quality = round(_uniform(random, jpeg.quality))
    full = bool(random.random() < jpeg.full_colour)
    down, right = (int(side) for side in random.integers(0, _MCU, 2))

    def run(work: Work, _: Random) -> Work:
        return _compressed(work, quality, full, down, right)

    return Step(f"JPEG {quality} {'4:4:4' if full else '4:2:0'}", run)


def _compressed(work: Work, quality: int, full: bool, down: int, right: int) -> Work:
    """Encode and decode with the block grid moved down and right by so many pixels."""
    height, width = work.shape[:2]
    # A photo's own crop begins anywhere in its grid: pad, and cut the padding off again.
    moved = cv2.copyMakeBorder(_bytes(work), down, 0, right, 0, cv2.BORDER_REPLICATE)
    colour = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444 if full else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, colour]
    _, code = cv2.imencode(".jpg", moved, settings)
    pixels = cv2.imdecode(code, cv2.IMREAD_COLOR)
    out: Work = pixels[down : down + height, right : right + width].astype(np.float32)
    return out
