"""What ``data.degradation`` may say: the parameters of the second-order pipeline, and two presets.

Ranges are ``[lowest, highest]`` and drawn from uniformly; chances and shares lie in 0..1.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, TypeVar

from adapool_sr.files.errors import ConfigError

__all__ = [
    "PRESETS",
    "Blur",
    "Final",
    "Jpeg",
    "Noise",
    "Resize",
    "SecondOrder",
    "Stage",
    "parse_degradation",
]

Range = tuple[float, float]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Blur:
    """A blur kernel.

    Attributes:
        chance: that there is a blur at all.
        sigma: of the Gaussian in pixels; two of them, and an angle, where it is anisotropic.
        radius: largest radius of the kernel in pixels.
        anisotropic: share of the kernels that are.
        generalized: share with the exponent β of a generalised Gaussian drawn from ``beta``.
        plateau: share with a flat top, 1 / (1 + rᵝ), β drawn from ``beta_plateau``.
        beta: exponents of the generalised Gaussian; 1 is the Gaussian.
        beta_plateau: exponents of the plateau.
        sinc: share that is an ideal low-pass instead, which rings.
    """

    chance: float = 0.5
    sigma: Range = (0.2, 1.0)
    radius: int = 10
    anisotropic: float = 0.4
    generalized: float = 0.15
    plateau: float = 0.1
    beta: Range = (0.5, 4.0)
    beta_plateau: Range = (1.0, 2.0)
    sinc: float = 0.05


@dataclass(frozen=True)
class Resize:
    """A resize by bicubic, bilinear or area, each as likely.

    Attributes:
        up: chance of an enlargement, by up to the highest of ``factors``.
        down: chance of a shrink, by down to the lowest of ``factors``.
        factors: below 1 and above 1.
    """

    up: float = 0.1
    down: float = 0.3
    factors: Range = (0.6, 1.2)


@dataclass(frozen=True)
class Noise:
    """Sensor noise.

    Attributes:
        chance: that there is noise at all.
        gaussian: its standard deviation, in grey levels of 255.
        poisson: strength of noise that grows with the root of brightness, 1 for a sensor that
            counts 256 photons at white.
        poisson_share: how much of the noise is of that kind.
        grey: share that is equal in the three colours.
    """

    chance: float = 0.4
    gaussian: Range = (0.5, 6.0)
    poisson: Range = (0.05, 0.6)
    poisson_share: float = 0.5
    grey: float = 0.4


@dataclass(frozen=True)
class Jpeg:
    """Compression by a real encoder.

    Attributes:
        chance: that there is any.
        quality: as libjpeg counts it.
        full_colour: share with 4:4:4, colours at full resolution; the others have 4:2:0.
    """

    chance: float = 0.4
    quality: Range = (60, 95)
    full_colour: float = 0.4


@dataclass(frozen=True)
class Stage:
    """One order of the pipeline: blur, resize, noise, JPEG.

    Attributes:
        blur: see :class:`Blur`.
        resize: see :class:`Resize`; of the second order relative to the LR size.
        noise: see :class:`Noise`.
        jpeg: see :class:`Jpeg`; the second one is the last or the last but one step.
    """

    blur: Blur = field(default_factory=Blur)
    resize: Resize = field(default_factory=Resize)
    noise: Noise = field(default_factory=Noise)
    jpeg: Jpeg = field(default_factory=Jpeg)


@dataclass(frozen=True)
class Final:
    """The end: resize to the LR size and perhaps an ideal low-pass, before or after the JPEG.

    Attributes:
        bicubic: chance that the resize is MATLAB's bicubic, before bicubic, bilinear or area are
            drawn, each as likely. OpenCV's bilinear looks at four pixels only and aliases when it
            shrinks by more than 2.
        sinc: chance of the low-pass, the ringing that sharpening leaves.
        jpeg_last: chance that the JPEG comes last, so that its 8x8 blocks show; else the resize.
    """

    bicubic: float = 0.0
    sinc: float = 0.1
    jpeg_last: float = 0.8


@dataclass(frozen=True)
class SecondOrder:
    """Blur, resize, noise and JPEG twice, then the final resize: Wang et al., Real-ESRGAN, 2021.

    Attributes:
        clean: share of samples that get the exact bicubic alone.
        blur: of the first order.
        resize: of the first order.
        noise: of the first order.
        jpeg: of the first order.
        second: the second order.
        final: what comes after it.
    """

    clean: float = 0.15
    blur: Blur = field(default_factory=Blur)
    resize: Resize = field(default_factory=Resize)
    noise: Noise = field(default_factory=Noise)
    jpeg: Jpeg = field(default_factory=Jpeg)
    second: Stage = field(
        default_factory=lambda: Stage(
            Blur(chance=0.2, sigma=(0.2, 0.6)),
            Resize(up=0.15, down=0.15, factors=(0.8, 1.2)),
            Noise(chance=0.3, gaussian=(0.5, 5.0), poisson=(0.05, 0.5)),
            Jpeg(chance=0.8, quality=(30, 95), full_colour=0.4),
        )
    )
    final: Final = field(default_factory=Final)


_STRONG_BLUR = Blur(1.0, (0.2, 3.0), 10, 0.31, 0.15, 0.15, (0.5, 4.0), (1.0, 2.0), 0.1)
_STRONG = Stage(
    _STRONG_BLUR,
    Resize(0.2, 0.7, (0.15, 1.5)),
    Noise(1.0, (1.0, 30.0), (0.05, 3.0), 0.5, 0.4),
    Jpeg(1.0, (30, 95), 0.0),
)

#: ``photo`` is what a phone or the web does to a photo. ``realesrgan`` has the ranges and chances
#: of Real-ESRGAN's own training options, finetune_realesrgan_x4plus.yml.
PRESETS = {
    "photo": SecondOrder(),
    "realesrgan": SecondOrder(
        clean=0.0,
        blur=_STRONG.blur,
        resize=_STRONG.resize,
        noise=_STRONG.noise,
        jpeg=_STRONG.jpeg,
        second=Stage(
            replace(_STRONG_BLUR, chance=0.8, sigma=(0.2, 1.5)),
            Resize(0.3, 0.4, (0.3, 1.2)),
            Noise(1.0, (1.0, 25.0), (0.05, 2.5), 0.5, 0.4),
            Jpeg(1.0, (30, 95), 0.0),
        ),
        final=Final(sinc=0.8, jpeg_last=0.5),
    ),
}

_KEY = "data.degradation"
_KINDS = ("bicubic", "second_order")
# Ranges that must not only be above 0; the others have no limit above.
_LIMITS = {"quality": (1.0, 100.0), "sigma": (0.05, 20.0)}


def parse_degradation(given: str | Mapping[str, Any] | None) -> SecondOrder | None:
    """Read ``data.degradation``.

    Args:
        given: ``"bicubic"`` (or None), ``"second_order"``, or a mapping with ``kind``, ``preset``
            and whatever differs from the preset's :class:`SecondOrder`.

    Returns:
        The pipeline's parameters; None for the exact bicubic.

    Raises:
        ConfigError: an unknown key or kind, or an impossible value; it names the nearest one.

    Example:
        >>> parse_degradation({"kind": "second_order", "jpeg": {"quality": [50, 90]}}).jpeg.quality
        (50.0, 90.0)
    """
    words = {"kind": given} if isinstance(given, str) else dict(given or {"kind": "bicubic"})
    kind = words.pop("kind", "second_order")
    if kind not in _KINDS:
        raise ConfigError(f"{_KEY}.kind", f"is {kind!r}", _suggestion(str(kind), _KINDS))
    if kind == "bicubic":
        if words:
            key = next(iter(words))
            raise ConfigError(f"{_KEY}.{key}", "means nothing to bicubic", "set kind: second_order")
        return None
    preset = words.pop("preset", "photo")
    if preset not in PRESETS:
        raise ConfigError(f"{_KEY}.preset", f"is {preset!r}", _suggestion(str(preset), PRESETS))
    return _changed(PRESETS[preset], words, _KEY)


def _suggestion(word: str, known: Any) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {near[0]}?" if near else f"one of: {', '.join(known)}"


def _changed(base: _T, words: Mapping[str, Any], key: str) -> _T:
    """The dataclass ``base`` with the values that a mapping names, checked."""
    known = [f.name for f in fields(base)]  # type: ignore[arg-type]
    new: dict[str, Any] = {}
    for name, value in words.items():
        here = f"{key}.{name}"
        if name not in known:
            extra = ["kind", "preset"] if key == _KEY else []
            raise ConfigError(here, "is no known key", _suggestion(str(name), known + extra))
        old = getattr(base, name)
        if is_dataclass(old):
            if not isinstance(value, Mapping):
                raise ConfigError(here, f"must be a mapping, got {value!r}")
            new[name] = _changed(old, value, here)
        elif isinstance(old, tuple):
            new[name] = _range(value, name, here)
        elif isinstance(old, int):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 50:
                raise ConfigError(here, f"must be a whole number from 1 to 50, got {value!r}")
            new[name] = value
        else:
            new[name] = _share(value, here)
    result: _T = replace(base, **new)  # type: ignore[type-var]
    if isinstance(result, Resize):
        _check_resize(result, key)
    return result


def _number(value: Any) -> float:
    """The value as a finite number; NaN for anything else."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else math.nan


def _share(value: Any, key: str) -> float:
    number = _number(value)
    if not 0 <= number <= 1:
        raise ConfigError(key, f"must lie between 0 and 1, got {value!r}")
    return number


def _range(value: Any, name: str, key: str) -> Range:
    both = [value, value] if isinstance(value, int | float) else value
    numbers = [_number(v) for v in both] if isinstance(both, list | tuple) else []
    low, high = _LIMITS.get(name, (0.0, math.inf))
    if len(numbers) != 2 or not low <= numbers[0] <= numbers[1] <= high:
        limits = f" from {low:g} to {high:g}" if high < math.inf else ""
        raise ConfigError(key, f"must be [lowest, highest]{limits}, got {value!r}")
    return numbers[0], numbers[1]


def _check_resize(resize: Resize, key: str) -> None:
    low, high = resize.factors
    if resize.up + resize.down > 1:
        total = resize.up + resize.down
        raise ConfigError(f"{key}.up", f"and down must not exceed 1 together, got {total:g}")
    if not 0.05 <= low <= 1 <= high <= 4:
        raise ConfigError(f"{key}.factors", f"must be [0.05 to 1, 1 to 4], got [{low:g}, {high:g}]")
