"""A sheet of the crops that a model does best and worst, beside bicubic and the original."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from adapool_sr.evaluation.measuring import Trial
from adapool_sr.evaluation.table import border_for
from adapool_sr.imaging.metrics import luma

__all__ = ["Crop", "Montage"]

_SIDE = 60  # of a crop in HR pixels at most
_ZOOM = 3
_GAP, _HEAD, _FONT = 6, 22, 13
# Windows on which bicubic errs less than this (48 dB, one level of 255) are flat: nothing to gain.
_LEAST_ERROR = 1.0
# So that one picture does not fill the sheet, unless there are too few.
_OF_ONE_PICTURE = 2


@dataclass(frozen=True, eq=False)
class Crop:
    """A window of a picture.

    Attributes:
        gain: of the first model over bicubic in dB, on Y of this window.
        where: set, file and position, for people.
        panels: label and (3, side, side) uint8, from left to right.
    """

    gain: float
    where: str
    panels: tuple[tuple[str, Tensor], ...]


class Montage:
    """Collects the best and the worst crops of an evaluation: give :meth:`add` every trial.

    Args:
        count: how many of either kind.

    Example::

        montage = Montage(4)
        measure(candidates, sets, on_trial=montage.add)
        Path("crops.png").write_bytes(montage.png())
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._crops: list[list[Crop]] = []

    def add(self, trial: Trial) -> None:
        """Keep the crops of a picture that might be among the best or worst.

        Args:
            trial: what became of the picture.
        """
        found = _windows(trial)
        best, worst = found[: self._count], found[-self._count :]
        kept = {place: gain for gain, place in [*best, *worst]}
        if kept:
            self._crops.append([_crop(trial, gain, *place) for place, gain in kept.items()])

    def chosen(self) -> tuple[list[Crop], list[Crop]]:
        """The best crops, the best first, and the worst, the worst first."""
        cap = max(_OF_ONE_PICTURE, -(-self._count // max(1, len(self._crops))))
        best: list[Crop] = []
        worst: list[Crop] = []
        for of_picture in self._crops:
            ordered = sorted(of_picture, key=lambda crop: crop.gain, reverse=True)
            half = len(ordered) - len(ordered) // 2  # none is best and worst at once
            best += ordered[:half][:cap]
            worst += ordered[half:][-cap:]
        best.sort(key=lambda crop: crop.gain, reverse=True)
        worst.sort(key=lambda crop: crop.gain)
        return best[: self._count], worst[: self._count]

    def png(self) -> bytes:
        """The sheet as the content of a PNG file; a line of words where there is no crop."""
        best, worst = self.chosen()
        rows = [("best", crop) for crop in best] + [("worst", crop) for crop in worst]
        stream = io.BytesIO()
        _sheet(rows).save(stream, "PNG")
        return stream.getvalue()


def _windows(trial: Trial) -> list[tuple[float, tuple[int, int]]]:
    """Gain in dB and (top, left) of the windows of a picture that are not flat, best first.

    They lie on a grid inside the measured border, so that none overlap and each covers whole
    pixels of the input.
    """
    scale, side = _scale_and_side(trial)
    border = border_for(scale)
    height, width = trial.hr.shape[-2:]
    if min(height, width) < side + 2 * border:
        return []
    hr = luma(trial.hr)

    def errors(image: Tensor) -> Tensor:
        squared = (luma(image) - hr)[border : height - border, border : width - border] ** 2
        return F.avg_pool2d(squared[None, None], side)[0, 0]

    before, after = errors(trial.bicubic), errors(trial.results[0]).clamp(min=1e-3)
    gains = 10 * (before / after).log10()
    found = [
        (float(gains[row, column]), (border + side * row, border + side * column))
        for row in range(gains.shape[0])
        for column in range(gains.shape[1])
        if before[row, column] >= _LEAST_ERROR
    ]
    return sorted(found, reverse=True)


def _scale_and_side(trial: Trial) -> tuple[int, int]:
    """The factor, and the side of a crop: a multiple of it."""
    scale = trial.hr.shape[-1] // trial.lr.shape[-1]
    return scale, _SIDE - _SIDE % scale


def _crop(trial: Trial, gain: float, top: int, left: int) -> Crop:
    scale, side = _scale_and_side(trial)

    def cut(image: Tensor) -> Tensor:
        return image[:, top : top + side, left : left + side].expand(3, -1, -1).clone()

    hr = luma(cut(trial.hr))
    panels = []
    if scale > 1:
        small = trial.lr[:, top // scale : (top + side) // scale, left // scale :]
        small = small[:, :, : side // scale].expand(3, -1, -1)
        panels.append(("input", small.repeat_interleave(scale, 1).repeat_interleave(scale, 2)))
    pictures = [("bicubic" if scale > 1 else "input", trial.bicubic)]
    names = [score.model for score in trial.scores]
    pictures += zip(names, trial.results, strict=True)
    for name, image in pictures:
        error = float(((luma(cut(image)) - hr) ** 2).mean())
        psnr = 10 * np.log10(255**2 / error) if error else np.inf
        panels.append((f"{name} {psnr:.2f} dB", cut(image)))
    panels.append(("original", cut(trial.hr)))
    return Crop(gain, f"{trial.set}/{trial.image}, x {left}, y {top}", tuple(panels))


def _sheet(rows: Sequence[tuple[str, Crop]]) -> Image.Image:
    """All crops, a row each: a line of words, then the panels with their labels above them."""
    size = _SIDE * _ZOOM
    across = max((len(crop.panels) for _, crop in rows), default=1)
    tall = 2 * _HEAD + size + _GAP
    width = max(across * (size + _GAP) + _GAP, 400)
    sheet = Image.new("RGB", (width, max(1, len(rows)) * tall + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT)
    if not rows:
        draw.text((_GAP, _GAP), "no crop: the pictures are small or flat", "black", font)
    for index, (kind, crop) in enumerate(rows):
        y = index * tall + _GAP
        words = f"{kind}: {crop.gain:+.2f} dB over {_baseline(crop)}   {crop.where}"
        draw.text((_GAP, y), words, "black", font)
        for column, (label, pixels) in enumerate(crop.panels):
            x = _GAP + column * (size + _GAP)
            draw.text((x, y + _HEAD), _fitted(label, font, size), "black", font)
            image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
            large = image.resize((size, size), Image.Resampling.NEAREST)
            sheet.paste(large, (x, y + 2 * _HEAD))
    return sheet


def _baseline(crop: Crop) -> str:
    return "bicubic" if crop.panels[1][0].startswith("bicubic") else "the input"


def _fitted(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """A label cut to a width in pixels; its figure at the end stays."""
    name, space, rest = label.partition(" ")
    while name and font.getlength(f"{name}{space}{rest}") > width:
        name = name[:-1]
    return f"{name}{space}{rest}"
