"""Scores of pictures, their means over sets, and the table that shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

__all__ = ["Row", "Score", "Table"]


@dataclass(frozen=True)
class Score:
    """One picture's figures: Y-PSNR in dB (infinite for equal pictures) and Y-SSIM.

    Attributes:
        set: the set's name.
        image: the file's path within its set.
        psnr: the model's.
        ssim: the model's.
        bicubic_psnr: of MATLAB's bicubic on the same input.
        bicubic_ssim: of MATLAB's bicubic on the same input.
    """

    set: str
    image: str
    psnr: float
    ssim: float
    bicubic_psnr: float
    bicubic_ssim: float

    def as_dict(self) -> dict[str, Any]:
        """The fields of a ``file`` event; an infinite PSNR becomes None, as JSON has none."""
        return {"set": self.set, "file": self.image, **_figures(self)}


@dataclass(frozen=True)
class Row:
    """The means over a set: figures as in :class:`Score`.

    Attributes:
        set: the set's name.
        images: how many pictures were measured.
        psnr: mean of the model's PSNR, each picture counting the same.
        ssim: mean of the model's SSIM.
        bicubic_psnr: mean of bicubic's PSNR.
        bicubic_ssim: mean of bicubic's SSIM.
    """

    set: str
    images: int
    psnr: float
    ssim: float
    bicubic_psnr: float
    bicubic_ssim: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"set": self.set, "images": self.images, **_figures(self)}


@dataclass(frozen=True)
class Table:
    """What a model reached on one or several sets, against bicubic.

    Attributes:
        model: its name.
        scale: the factor measured.
        scores: of all pictures, set after set.
        failed: pictures that could not be measured: file and reason.
        how: device and number format, for the foot.
    """

    model: str
    scale: int
    scores: Sequence[Score]
    failed: Sequence[tuple[str, str]] = ()
    how: str = ""

    @property
    def rows(self) -> list[Row]:
        """The means of every set, in the order they were measured."""
        names = dict.fromkeys(score.set for score in self.scores)
        return [_mean(name, [s for s in self.scores if s.set == name]) for name in names]

    @property
    def foot(self) -> dict[str, str]:
        """What the figures mean: channel, border, resize, range, mean."""
        return {
            "channel": "Y of BT.601 (16 + (65.481 R + 128.553 G + 24.966 B)/255), not rounded",
            "border": f"{self.scale} pixels cut from every side",
            "resize": "MATLAB's bicubic, edges replicated, float64, rounded to 8 bits after each "
            "pass; HR cropped to a multiple of the scale",
            "range": "8-bit pictures, peak 255; SSIM: 11x11 Gaussian, sigma 1.5",
            "mean": "over the pictures of a set, each PSNR in dB",
        }

    def text(self, per_image: bool = False) -> str:
        """The table for people, its foot below.

        Args:
            per_image: whether every picture has a line above its set's means.
        """
        lines = [("set", "images", "bicubic", self.model, "gain")]
        for row in self.rows:
            if per_image:
                lines += [
                    (f"  {score.image}", "", *_cells(score))
                    for score in self.scores
                    if score.set == row.set
                ]
            lines.append((row.set, str(row.images), *_cells(row)))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        body = [
            "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
            for line in lines
        ]
        foot = [f"{key + ':':<9}{words}" for key, words in self.foot.items()]
        if self.how:
            foot.append(f"{'run:':<9}{self.how}")
        title = f"PSNR in dB / SSIM at x{self.scale}; gain in dB over bicubic"
        return "\n".join([title, "", *body, "", *foot])


def _mean(name: str, scores: Sequence[Score]) -> Row:
    return Row(
        name,
        len(scores),
        fmean(score.psnr for score in scores),
        fmean(score.ssim for score in scores),
        fmean(score.bicubic_psnr for score in scores),
        fmean(score.bicubic_ssim for score in scores),
    )


def _cells(figures: Score | Row) -> tuple[str, str, str]:
    gain = figures.psnr - figures.bicubic_psnr
    return (
        f"{figures.bicubic_psnr:.3f} / {figures.bicubic_ssim:.4f}",
        f"{figures.psnr:.3f} / {figures.ssim:.4f}",
        "" if math.isnan(gain) else f"{gain:+.3f}",
    )


def _figures(figures: Score | Row) -> dict[str, float | None]:
    values = {
        "psnr": figures.psnr,
        "ssim": figures.ssim,
        "bicubic_psnr": figures.bicubic_psnr,
        "bicubic_ssim": figures.bicubic_ssim,
    }
    return {key: value if math.isfinite(value) else None for key, value in values.items()}
