"""One labelled sheet of a piece of a picture: as it is, by bicubic and by each of some models."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from adapool_sr.inference.crops import Crop
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.images import Picture, quantise

__all__ = ["pieces", "sheet"]

_GAP, _HEAD, _FONT = 8, 24, 14
_WIDEST = 2400  # pixels of a sheet; what does not fit stands in the next row


def pieces(
    picture: Picture, crop: Crop, upscalers: Sequence[tuple[str, Upscaler]]
) -> list[tuple[str, Tensor]]:
    """The piece under each label: "input", "bicubic", then the models.

    Args:
        picture: as :func:`adapool_sr.io.images.read` gives it.
        crop: the piece of it.
        upscalers: each with its label, all for the same size of the result.

    Returns:
        (3, H, W) uint8 of equal sizes; what is transparent shows white.

    Raises:
        UsageError: a piece that is not in the picture.
    """
    made = [(label, upscaler.upscale_picture(picture, crop=crop)) for label, upscaler in upscalers]
    height, width = made[0][1].height, made[0][1].width
    first = upscalers[0][1]
    plain = first.bicubic_picture(picture, crop)
    rows = torch.arange(height) * crop.height // height
    columns = torch.arange(width) * crop.width // width
    piece = (slice(None), slice(crop.y, crop.y + crop.height), slice(crop.x, crop.x + crop.width))

    def near(plane: Tensor) -> Tensor:
        return plane[piece][:, rows][:, :, columns]

    own = Picture(near(picture.pixels), None if picture.alpha is None else near(picture.alpha))
    return [(label, _on_white(each)) for label, each in [("input", own), ("bicubic", plain), *made]]


def _on_white(picture: Picture) -> Tensor:
    """A picture of any depth as (3, H, W) uint8."""
    pixels = picture.pixels
    if picture.alpha is not None:
        pixels, alpha = _as_float(pixels), _as_float(picture.alpha)
        pixels = pixels * alpha + (1 - alpha)
    return quantise(pixels).expand(3, -1, -1)


def _as_float(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.float() / torch.iinfo(x.dtype).max


def sheet(panels: Sequence[tuple[str, Tensor]]) -> Picture:
    """Set pieces side by side, each pixel for pixel, with its label above it.

    Args:
        panels: label and (3, H, W) uint8, of equal sizes.
    """
    font = ImageFont.load_default(_FONT)
    _, height, width = panels[0][1].shape
    cell = max(width, *(int(font.getlength(label)) + 1 for label, _ in panels))
    across = max(1, min(len(panels), (_WIDEST - _GAP) // (cell + _GAP)))
    down = -(-len(panels) // across)
    tall = _HEAD + height + _GAP
    made = Image.new("RGB", (across * (cell + _GAP) + _GAP, down * tall + _GAP), "white")
    draw = ImageDraw.Draw(made)
    for place, (label, pixels) in enumerate(panels):
        x = _GAP + place % across * (cell + _GAP)
        y = _GAP + place // across * tall
        draw.text((x, y), label, "black", font)
        made.paste(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()), (x, y + _HEAD))
    planes = torch.frombuffer(bytearray(made.tobytes()), dtype=torch.uint8)
    return Picture(planes.reshape(made.height, made.width, 3).permute(2, 0, 1))
