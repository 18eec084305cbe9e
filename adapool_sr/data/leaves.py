"""Dead leaves: drawn pictures of shapes that lie over one another, as training photos.

Sizes fall off by a power law, as those of things in photos do (Lee, Mumford and Huang, "Occlusion
models for natural images: a statistical study of a scale-invariant dead leaves model", IJCV 41,
2001); restoration networks learn from such pictures nearly what photos teach (Achddou, Gousseau
and Ladjal, "Synthetic images as a regularity prior for image restoration neural networks", SSVM
2021).
Shapes here have edges, corners, thin lines and letters, and are filled with colours, gradients,
stripes, checks and enlarged pieces of given photos: much of what photos of landscapes lack.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2 as typed_cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from adapool_sr.files.writing import make_folder, whole
from adapool_sr.io.images import read_rgb8

__all__ = ["SIDE", "Leaves", "write_leaves"]

cv2: Any = typed_cv2
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

SIDE = 512
"""Height and width of a picture in pixels."""

_FINER = 3  # shapes are drawn so many times larger, which smooths their edges
_CANVAS = SIDE * _FINER
_SMALLEST, _LARGEST = 9.0, 500.0  # radius of a shape on the canvas
_FALL = 1.2  # a radius above r is met r**-_FALL times as often
_SHAPES = (500, 2500)  # least and most in a picture
_TEXTURES = 96  # photos that are kept to fill shapes
_TEXTURE_SIDE = 512
_HERSHEY = (0, 1, 2, 3, 4, 6, 7)  # OpenCV's stroke fonts


class Leaves:
    """Draws dead leaves; picture k depends on the photos, the seed and k alone.

    Args:
        photos: (H, W, 3) uint8 RGB, at least one, that give colours and textures.
        seed: 0 … 2**64 − 1.
    """

    def __init__(self, photos: Sequence[Pixels], seed: int = 0) -> None:
        self.photos = list(photos)
        self.seed = seed

    def picture(self, number: int) -> Pixels:
        """Draw picture ``number``, from 0: (SIDE, SIDE, 3) uint8 RGB."""
        bits = np.random.Philox(key=self.seed, counter=[0, number, 0, 0])
        return _Canvas(self.photos, np.random.Generator(bits)).draw()


class _Canvas:
    """One picture in the making."""

    def __init__(self, photos: Sequence[Pixels], random: np.random.Generator) -> None:
        self.photos = photos
        self.random = random

    def draw(self) -> Pixels:
        random = self.random
        image = self._fill(_CANVAS, _CANVAS)
        for _ in range(random.integers(*_SHAPES)):
            low, high = _SMALLEST**-_FALL, _LARGEST**-_FALL
            mask = self._shape((low + random.random() * (high - low)) ** (-1 / _FALL))
            side = len(mask)
            top, left = random.integers(-side // 2, _CANVAS - side // 2, 2).tolist()
            rows = slice(max(0, top), min(_CANVAS, top + side))
            columns = slice(max(0, left), min(_CANVAS, left + side))
            cut = mask[rows.start - top : rows.stop - top, columns.start - left :]
            cut = cut[:, : columns.stop - columns.start]
            covering = cut[..., None].astype(np.float32) / 255
            below = image[rows, columns]
            below += covering * (self._fill(*below.shape[:2]) - below)
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.6, 2.2))
        small: Floats = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return small.round().clip(0, 255).astype(np.uint8)

    # -- what fills a shape -----------------------------------------------------------------------

    def _photo(self) -> Pixels:
        return self.photos[int(self.random.integers(len(self.photos)))]

    def _colour(self) -> Floats:
        photo = self._photo()
        height, width = photo.shape[:2]
        place = self.random.integers(height), self.random.integers(width)
        colour: Floats = photo[place].astype(np.float32)
        return colour

    def _fill(self, height: int, width: int) -> Floats:
        """A colour, a gradient, stripes or checks, or a photo's texture: (height, width, 3)."""
        kind = self.random.random()
        if kind < 0.3:
            return np.full((height, width, 3), self._colour())
        if kind >= 0.75:
            return self._texture(height, width)
        angle = self.random.random() * 2 * math.pi
        across, down = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        along: Floats = math.cos(angle) * across[None] + math.sin(angle) * down[:, None]
        if kind < 0.5:
            along -= along.min()
            share = along / max(1.0, float(along.max()))
        else:
            aside: Floats = math.cos(angle) * down[:, None] - math.sin(angle) * across[None]
            share = self._stripes(along, aside)
        first, second = self._colour(), self._colour()
        filled: Floats = first + share[..., None] * (second - first)
        return filled

    def _stripes(self, along: Floats, aside: Floats) -> Floats:
        random = self.random
        period = math.exp(random.uniform(math.log(7), math.log(90)))
        wave = np.sin(along * np.float32(2 * math.pi / period) + np.float32(random.random() * 6))
        if random.random() < 0.5:
            wave = np.clip(8 * wave, -1, 1)
        if random.random() < 0.3:
            wave = wave * np.clip(8 * np.sin(aside * np.float32(2 * math.pi / period)), -1, 1)
        striped: Floats = (wave + 1) / 2
        return striped

    def _texture(self, height: int, width: int) -> Floats:
        """Enlarged, for it shall be as fine as the photo when the canvas has been made smaller."""
        photo, factor = self._photo(), self.random.uniform(1.5, 4)
        rows = min(len(photo), math.ceil(height / factor) + 1)
        columns = min(photo.shape[1], math.ceil(width / factor) + 1)
        top = self.random.integers(len(photo) - rows + 1)
        left = self.random.integers(photo.shape[1] - columns + 1)
        piece = photo[top : top + rows, left : left + columns]
        large = cv2.resize(piece, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
        beyond = max(0, height - len(large)), max(0, width - large.shape[1])
        if any(beyond):
            large = np.pad(large, ((0, beyond[0]), (0, beyond[1]), (0, 0)), mode="symmetric")
        filled: Floats = large[:height, :width].astype(np.float32)
        return filled

    # -- shapes -----------------------------------------------------------------------------------

    def _shape(self, radius: float) -> Pixels:
        """A mask, square, 0 to 255."""
        side = int(2 * radius + 5)
        mask = np.zeros((side, side), np.uint8)
        kind = self.random.random()
        draws: tuple[tuple[float, Callable[[Pixels, float], None]], ...] = (
            (0.35, self._ellipse),
            (0.6, self._rectangle),
            (0.8, self._polygon),
            (0.92, self._lines),
            (1.0, self._letters),
        )
        next(draw for limit, draw in draws if kind < limit)(mask, radius)
        return mask

    def _ellipse(self, mask: Pixels, radius: float) -> None:
        axes = max(1, int(radius)), max(1, int(radius * self.random.uniform(0.3, 1)))
        middle = (len(mask) // 2,) * 2
        angle = self.random.random() * 360
        cv2.ellipse(mask, middle, axes, angle, 0, 360, 255, -1, cv2.LINE_AA)

    def _rectangle(self, mask: Pixels, radius: float) -> None:
        middle = (len(mask) // 2,) * 2
        sides = 1.6 * radius, 1.6 * radius * self.random.uniform(0.1, 1)
        angle = self.random.choice([0.0, 90.0, self.random.random() * 360])  # upright ones often
        corners = cv2.boxPoints((middle, sides, float(angle))).astype(np.int32)
        cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA)

    def _polygon(self, mask: Pixels, radius: float) -> None:
        count = self.random.integers(3, 9)
        angles = np.sort(self.random.random(count) * 2 * math.pi)
        lengths = radius * self.random.uniform(0.3, 1, count)
        corners = np.stack([np.cos(angles), np.sin(angles)], 1) * lengths[:, None]
        cv2.fillPoly(mask, [(len(mask) // 2 + corners).astype(np.int32)], 255, cv2.LINE_AA)

    def _lines(self, mask: Pixels, radius: float) -> None:
        count = self.random.integers(2, 6)
        corners = len(mask) // 2 + self.random.uniform(-radius, radius, (count, 2))
        closed = bool(self.random.random() < 0.3)
        thick = max(1, int(radius * self.random.uniform(0.02, 0.15)))
        cv2.polylines(mask, [corners.astype(np.int32)], closed, 255, thick, cv2.LINE_AA)

    def _letters(self, mask: Pixels, radius: float) -> None:
        random, side = self.random, len(mask)
        height = max(8, int(radius * random.uniform(0.3, 1)))
        rows = [self._word()]
        rows += [self._word() for _ in range(random.integers(0, 3))]
        left, top = int(side * random.uniform(0, 0.2)), int(side * random.uniform(0, 0.4))
        if random.random() < 0.5:
            written = Image.fromarray(mask)
            type_face = ImageFont.load_default(height)
            ImageDraw.Draw(written).text((left, top), "\n".join(rows), fill=255, font=type_face)
            mask[:] = np.asarray(written)
        else:
            strokes = int(random.choice(_HERSHEY))
            thick = max(1, int(height * random.uniform(0.05, 0.2)))
            for row, text in enumerate(rows):
                place = (left, top + int(1.3 * height * (row + 1)))
                cv2.putText(mask, text, place, strokes, height / 22, 255, thick, cv2.LINE_AA)
        if random.random() < 0.3:
            turn = cv2.getRotationMatrix2D((side / 2, side / 2), random.uniform(-90, 90), 1.0)
            mask[:] = cv2.warpAffine(mask, turn, (side, side), flags=cv2.INTER_LINEAR)

    def _word(self) -> str:
        return "".join(map(chr, self.random.integers(33, 127, self.random.integers(2, 14))))


def write_leaves(
    folder: Path,
    photos: Sequence[Path],
    count: int,
    seed: int = 0,
    on_written: Callable[[], object] = lambda: None,
) -> int:
    """Write ``leaf_0000.png`` and so on into a folder; those that stand there already are kept.

    Args:
        folder: made if need be.
        photos: files, at least one, for colours and textures; of many some serve, and
            their order matters.
        count: how many pictures there shall be.
        seed: other pictures for another seed.
        on_written: called after each, whether it was written or kept, in the caller's thread.

    Returns:
        How many were written now.

    Raises:
        MissingFileError: a photo that is not there.
        UnreadableFileError: a photo that cannot be read.
        UnwritableFileError: the folder cannot be written to.
    """
    make_folder(folder)
    names = [folder / f"leaf_{number:04d}.png" for number in range(count)]
    missing = [number for number, name in enumerate(names) if not name.exists()]
    for _ in range(count - len(missing)):
        on_written()
    if not missing:
        return 0
    step = max(1, len(photos) // _TEXTURES)
    textures = [_piece(path) for path in photos[::step][:_TEXTURES]]
    leaves = Leaves(textures, seed)

    def write(number: int) -> None:
        picture = Image.fromarray(leaves.picture(number))
        with whole(names[number]) as file:
            picture.save(file, "PNG")

    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, 16))
    try:
        for _ in pool.map(write, missing):
            on_written()
    finally:  # a full disk, or Ctrl-C: end what is being drawn, don't draw the others first
        pool.shutdown(cancel_futures=True)
    return len(missing)


def _piece(path: Path) -> Pixels:
    """The photo's middle, as large as a texture needs."""
    photo: Pixels = read_rgb8(path).permute(1, 2, 0).numpy()
    height, width = photo.shape[:2]
    top, left = max(0, height - _TEXTURE_SIDE) // 2, max(0, width - _TEXTURE_SIDE) // 2
    return photo[top : top + _TEXTURE_SIDE, left : left + _TEXTURE_SIDE].copy()
