"""A sheet of training samples to look at: HR, the LR enlarged, and what was done, in words."""

from __future__ import annotations

import textwrap

from PIL import Image, ImageDraw, ImageFont

from adapool_sr.data.pairs import SampleRule

__all__ = ["sheet"]

_LEAST = 192  # pixels of a patch's side on the sheet
_WORDS = 260  # pixels of the column of words
_GAP = 8
_TEXT = 13


def sheet(rule: SampleRule, count: int) -> Image.Image:
    """Draw the samples 0 … count − 1 of a run, one a row.

    Args:
        rule: gives the samples.
        count: how many.

    Returns:
        An RGB picture: the HR patch, the LR patch enlarged by repeating its pixels, the words.
    """
    batch = rule.batch(0, count)
    side = batch["hr"].shape[-1]
    shown = side * max(1, -(-_LEAST // side))
    width = 2 * (shown + _GAP) + _WORDS + 2 * _GAP
    paper = Image.new("RGB", (width, count * (shown + _GAP) + _GAP), "white")
    draw = ImageDraw.Draw(paper)
    font = ImageFont.load_default(_TEXT)
    for row in range(count):
        top = _GAP + row * (shown + _GAP)
        for column, key in enumerate(("hr", "lr")):
            patch = Image.fromarray(batch[key][row].permute(1, 2, 0).numpy())
            enlarged = patch.resize((shown, shown), Image.Resampling.NEAREST)
            paper.paste(enlarged, (_GAP + column * (shown + _GAP), top))
        choice = rule.choose(row)
        lines = [f"{row}: {rule.pairs[choice.photo].name}"]
        for text in rule.recipe(row).words:
            lines += textwrap.wrap(f"- {text}", _WORDS // 7)
        place = (_GAP + 2 * (shown + _GAP), top)
        draw.multiline_text(place, "\n".join(lines), fill="black", font=font, spacing=2)
    return paper
