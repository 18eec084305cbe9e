"""Scores of pictures, their means over sets, and the table that shows them."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, TypeVar

from adapool_sr.evaluation.papers import Published

__all__ = ["Row", "Score", "Table", "border_for"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Score:
    """One model's figures on one picture: Y-PSNR in dB (infinite for equal pictures) and Y-SSIM.

    Attributes:
        set: the set's name.
        image: the file's path within its set.
        model: its name.
        psnr: the model's.
        ssim: the model's.
        bicubic_psnr: of MATLAB's bicubic on the same input; at scale 1 of the input itself.
        bicubic_ssim: likewise.
    """

    set: str
    image: str
    model: str
    psnr: float
    ssim: float
    bicubic_psnr: float
    bicubic_ssim: float

    def as_dict(self) -> dict[str, Any]:
        """The fields of a ``file`` event; an infinite PSNR becomes None, as JSON has none."""
        return {"set": self.set, "file": self.image, "model": self.model, **_figures(self)}


@dataclass(frozen=True)
class Row:
    """A model's means over a set: figures as in :class:`Score`.

    Attributes:
        set: the set's name.
        images: how many pictures were measured.
        model: its name.
        psnr: mean of the model's PSNR, each picture counting the same.
        ssim: mean of the model's SSIM.
        bicubic_psnr: mean of bicubic's PSNR.
        bicubic_ssim: mean of bicubic's SSIM.
    """

    set: str
    images: int
    model: str
    psnr: float
    ssim: float
    bicubic_psnr: float
    bicubic_ssim: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"set": self.set, "images": self.images, "model": self.model, **_figures(self)}


@dataclass(frozen=True)
class Table:
    """What models reached on one or several sets, against bicubic.

    Attributes:
        models: their names, in the order of the columns.
        scale: the factor measured.
        scores: of all pictures, set after set; of a picture, model after model.
        failed: pictures that could not be measured: file and reason.
        how: device, number format and tiles, for the foot.
        degraded: what was done to the inputs beside shrinking; "" for nothing.
        published: rows of papers for these sets and this scale.
        notes: what else must be known to read the figures, a sentence each.
    """

    models: Sequence[str]
    scale: int
    scores: Sequence[Score]
    failed: Sequence[tuple[str, str]] = ()
    how: str = ""
    degraded: str = ""
    published: Sequence[Published] = ()
    notes: Sequence[str] = ()

    @property
    def rows(self) -> list[Row]:
        """The means: of every set in the order they were measured, of every model."""
        sets = dict.fromkeys(score.set for score in self.scores)
        return [
            _mean([s for s in self.scores if s.set == name and s.model == model])
            for name in sets
            for model in self.models
        ]

    @property
    def border(self) -> int:
        """Pixels that are cut from every side: the scale; none where nothing is enlarged."""
        return border_for(self.scale)

    @property
    def baseline(self) -> str:
        """What the first column of figures is."""
        return "bicubic" if self.scale > 1 else "input"

    @property
    def foot(self) -> dict[str, str]:
        """What the figures mean: channel, border, resize, range, mean."""
        resize = (
            "MATLAB's bicubic, edges replicated, float64, rounded to 8 bits after each "
            "pass; HR cropped to a multiple of the scale"
        )
        facts = {
            "channel": "Y of BT.601 (16 + (65.481 R + 128.553 G + 24.966 B)/255), not rounded",
            "border": f"{self.border} pixels cut from every side",
            "resize": resize if self.scale > 1 else "none",
            "range": "8-bit pictures, peak 255; SSIM: 11x11 Gaussian, sigma 1.5",
            "mean": "over the pictures of a set, each PSNR in dB",
            "input": self.degraded,
            "run": self.how,
        }
        return {key: words for key, words in facts.items() if words}

    def text(self, per_image: bool = False) -> str:
        """The table for people, papers' rows and the foot below.

        Args:
            per_image: whether every picture has a line above its set's means.
        """
        lines = [["set", "images", self.baseline]]
        for model in self.models:
            lines[0] += [model, "gain"]
        for name, rows in _grouped(self.rows, lambda row: row.set).items():
            if per_image:
                of_set = [score for score in self.scores if score.set == name]
                for image, scores in _grouped(of_set, lambda score: score.image).items():
                    lines.append([f"  {image}", "", *_cells(scores)])
            lines.append([name, str(rows[0].images), *_cells(rows)])
        title = f"PSNR in dB / SSIM at x{self.scale}; gain in dB over {self.baseline}"
        foot = [f"{key + ':':<9}{words}" for key, words in self.foot.items()]
        foot += [f"{'note:':<9}{note}" for note in self.notes]
        return "\n".join([title, "", *_aligned(lines), "", *self._published_text(), *foot])

    def markdown(self) -> str:
        """The means as a Markdown table: a row for each set, PSNR / SSIM."""
        lines = [["set", self.baseline, *self.models]]
        by_set = _grouped(self.rows, lambda row: row.set)
        for name, rows in by_set.items():
            first = _pair(rows[0].bicubic_psnr, rows[0].bicubic_ssim)
            pairs = [_pair(row.psnr, row.ssim) for row in rows]
            lines.append([f"{name} ({rows[0].images})", first, *pairs])
        lines.insert(1, ["---"] * len(lines[0]))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def csv(self) -> str:
        """A line for every picture and model, figures in full precision; no means."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        baseline = [f"{self.baseline}_psnr_y", f"{self.baseline}_ssim_y"]
        writer.writerow(["set", "image", "model", "scale", "psnr_y", "ssim_y", *baseline])
        for s in self.scores:
            figures = [s.psnr, s.ssim, s.bicubic_psnr, s.bicubic_ssim]
            writer.writerow([s.set, s.image, s.model, self.scale, *map(repr, figures)])
        return stream.getvalue()

    def _published_text(self) -> list[str]:
        """The papers' rows: a line for each network, a column for each set."""
        if not self.published:
            return []
        sets = list(dict.fromkeys(name for row in self.published for name in row.scores))
        lines = [["published", "parameters", *sets, "trained on"]]
        for row in self.published:
            pairs = [_pair(*row.scores[name], 2) if name in row.scores else "" for name in sets]
            count = f"{row.parameters:,}" if row.parameters else ""
            lines.append([row.name, count, *pairs, row.training])
        return [*_aligned(lines, last_left=True), ""]


def border_for(scale: int) -> int:
    """Pixels that are cut from every side before measuring."""
    return scale if scale > 1 else 0


def _aligned(lines: Sequence[Sequence[str]], last_left: bool = False) -> list[str]:
    """Lines of cells as columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    result = []
    for line in lines:
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        cells[0] = line[0].ljust(widths[0])
        if last_left:
            cells[-1] = line[-1].ljust(widths[-1])
        result.append("  ".join(cells).rstrip())
    return result


def _mean(scores: Sequence[Score]) -> Row:
    return Row(
        scores[0].set,
        len(scores),
        scores[0].model,
        fmean(score.psnr for score in scores),
        fmean(score.ssim for score in scores),
        fmean(score.bicubic_psnr for score in scores),
        fmean(score.bicubic_ssim for score in scores),
    )


def _grouped(items: Iterable[_T], key: Callable[[_T], str]) -> dict[str, list[_T]]:
    groups: dict[str, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _cells(figures: Sequence[Score | Row]) -> list[str]:
    """The baseline of one picture or set, then each model and its gain."""
    cells = [_pair(figures[0].bicubic_psnr, figures[0].bicubic_ssim)]
    for each in figures:
        gain = each.psnr - each.bicubic_psnr
        cells += [_pair(each.psnr, each.ssim), "" if math.isnan(gain) else f"{gain:+.3f}"]
    return cells


def _pair(psnr: float, ssim: float, digits: int = 3) -> str:
    return f"{psnr:.{digits}f} / {ssim:.4f}"


def _figures(figures: Score | Row) -> dict[str, float | None]:
    values = {
        "psnr": figures.psnr,
        "ssim": figures.ssim,
        "bicubic_psnr": figures.bicubic_psnr,
        "bicubic_ssim": figures.bicubic_ssim,
    }
    return {key: value if math.isfinite(value) else None for key, value in values.items()}
