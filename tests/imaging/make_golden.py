"""Make tests/imaging/golden from the sample photos: run ``python tests/imaging/make_golden.py``.

Everything here is exact rational arithmetic, or naive loops, in plain Python; nothing is shared
with the package but the definitions of MATLAB's imresize, of PSNR and of SSIM.
"""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).resolve().parent / "golden"
# Left, top, width, height; the second is odd both ways.
CROPS = {"colosseum": (236, 190, 48, 36), "otters": (150, 60, 43, 49)}

Plane = list[list[int]]


def keys(x: Fraction) -> Fraction:
    x = abs(x)
    if x <= 1:
        return Fraction(3, 2) * x**3 - Fraction(5, 2) * x**2 + 1
    if x < 2:
        return -Fraction(1, 2) * x**3 + Fraction(5, 2) * x**2 - 4 * x + 2
    return Fraction(0)


def resize_line(line: list[int], scale: Fraction) -> list[int]:
    """One row or column, edges replicated, rounded half up and clamped."""
    stretch = min(scale, Fraction(1))
    result = []
    for k in range(math.ceil(len(line) * scale)):
        centre = (k + Fraction(1, 2)) / scale - Fraction(1, 2)
        reach = math.ceil(2 / stretch) + 1
        total = weights = Fraction(0)
        for j in range(math.floor(centre) - reach, math.floor(centre) + reach + 1):
            weight = keys((centre - j) * stretch)
            weights += weight
            total += weight * line[min(max(j, 0), len(line) - 1)]
        result.append(min(max(math.floor(total / weights + Fraction(1, 2)), 0), 255))
    return result


def turn(plane: Plane) -> Plane:
    return [list(column) for column in zip(*plane, strict=True)]


def resize(plane: Plane, scale: Fraction) -> Plane:
    """Rows first (a column at a time), then columns."""
    plane = turn([resize_line(column, scale) for column in turn(plane)])
    return [resize_line(row, scale) for row in plane]


def luma(planes: list[Plane], border: int) -> list[list[float]]:
    height, width = len(planes[0]), len(planes[0][0])
    return [
        [
            16
            + (65.481 * planes[0][y][x] + 128.553 * planes[1][y][x] + 24.966 * planes[2][y][x])
            / 255
            for x in range(border, width - border)
        ]
        for y in range(border, height - border)
    ]


def psnr(a: list[list[float]], b: list[list[float]]) -> float:
    squares = [(p - q) ** 2 for r, s in zip(a, b, strict=True) for p, q in zip(r, s, strict=True)]
    return 10 * math.log10(255**2 / (sum(squares) / len(squares)))


def ssim(a: list[list[float]], b: list[list[float]]) -> float:
    gauss = [[math.exp(-(x * x + y * y) / 4.5) for x in range(-5, 6)] for y in range(-5, 6)]
    total = sum(map(sum, gauss))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for top in range(len(a) - 10):
        for left in range(len(a[0]) - 10):
            window = [
                (gauss[y][x] / total, a[top + y][left + x], b[top + y][left + x])
                for y in range(11)
                for x in range(11)
            ]
            mean_a = sum(w * p for w, p, _ in window)
            mean_b = sum(w * q for w, _, q in window)
            var_a = sum(w * (p - mean_a) ** 2 for w, p, _ in window)
            var_b = sum(w * (q - mean_b) ** 2 for w, _, q in window)
            both = sum(w * (p - mean_a) * (q - mean_b) for w, p, q in window)
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * both + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return sum(values) / len(values)


def planes_of(image: Image.Image) -> list[Plane]:
    data, width = image.convert("RGB").tobytes(), image.width
    return [
        [[data[3 * (y * width + x) + c] for x in range(width)] for y in range(image.height)]
        for c in range(3)
    ]


def save(planes: list[Plane], path: Path) -> None:
    height, width = len(planes[0]), len(planes[0][0])
    image = Image.new("RGB", (width, height))
    image.putdata([tuple(p[y][x] for p in planes) for y in range(height) for x in range(width)])
    image.save(path, optimize=True)


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name, (left, top, width, height) in CROPS.items():
        photo = Image.open(ROOT / "datasets" / "samples" / f"{name}.png")
        crop = photo.crop((left, top, left + width, top + height))
        crop.save(GOLDEN / f"{name}.png", optimize=True)
        figures[name] = {}
        for scale in (2, 3, 4):
            whole = crop.crop((0, 0, width - width % scale, height - height % scale))
            hr = planes_of(whole)
            lr = [resize(plane, Fraction(1, scale)) for plane in hr]
            up = [resize(plane, Fraction(scale)) for plane in lr]
            save(lr, GOLDEN / f"{name}_x{scale}.png")
            save(up, GOLDEN / f"{name}_x{scale}_up.png")
            y_up, y_hr = luma(up, scale), luma(hr, scale)
            figures[name][f"x{scale}"] = {"psnr": psnr(y_up, y_hr), "ssim": ssim(y_up, y_hr)}
    (GOLDEN / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
