"""Runs a model over sets of pictures exactly as ``upscale`` does, and measures what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from adapool_sr.evaluation.sets import Folders, PictureSet, picture_sets
from adapool_sr.evaluation.table import Score, Table
from adapool_sr.files.errors import AdaPoolError, UnreadableFileError, UsageError
from adapool_sr.imaging.metrics import SSIM_WINDOW, modcrop, psnr_y, ssim_y, to_uint8
from adapool_sr.imaging.resize import imresize
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.io.images import Picture, read

if TYPE_CHECKING:
    from adapool_sr.models.checkpoint import LoadedModel

__all__ = ["evaluate", "measure", "score_picture"]


def evaluate(
    model: nn.Module | LoadedModel | str | Path,
    folders: Folders,
    scale: int | None = None,
    **options: Any,
) -> Table:
    """Measure a model on folders of high-resolution pictures, against bicubic.

    Args:
        model: a network, what :func:`adapool_sr.models.checkpoint.load` returned, a name
            ("tiny-x2", "tiny") or a file.
        folders: a folder, several, or names to folders.
        scale: the factor to measure; the model's own by default.
        options: device, precision and tile, as for :class:`adapool_sr.inference.Upscaler`.

    Returns:
        The table; print its ``text()``.

    Raises:
        MissingFileError: a folder or the model's file does not exist or is empty.
        UsageError: an unknown model, device, precision or scale.
        ModelFileError: a file that is no model.

    Example::

        print(evaluate("tiny-x2", {"Set5": "sets/Set5"}).text())
    """
    sets = picture_sets(folders)
    if isinstance(model, str | Path):
        from adapool_sr.models import checkpoint, registry

        is_file = isinstance(model, Path) or model.endswith((".safetensors", ".ckpt"))
        found = Path(model) if is_file else registry.find(str(model), scale)
        model = checkpoint.load(found)
    name = type(model).__name__ if isinstance(model, nn.Module) else model.spec.name
    return measure(Upscaler(model, scale=scale, **options), sets, name)


def measure(
    upscaler: Upscaler,
    sets: Sequence[PictureSet],
    name: str,
    on_score: Callable[[Score], None] | None = None,
    on_failure: Callable[[str, str], None] | None = None,
) -> Table:
    """Measure a ready Upscaler on sets of pictures.

    Args:
        upscaler: its scale must be a whole number of at least 2.
        sets: from :func:`adapool_sr.evaluation.picture_sets`.
        name: what the table calls the model.
        on_score: called after each picture.
        on_failure: called with file and reason for a picture that can't be measured; the others
            go on.

    Raises:
        UsageError: the scale is not whole.
    """
    scale = round(upscaler.scale)
    if scale != upscaler.scale or scale < 2:
        raise UsageError("scale", f"must be whole and at least 2, got {upscaler.scale:g}")
    scores: list[Score] = []
    failed: list[tuple[str, str]] = []
    for group in sets:
        for path in group.paths:
            image = path.relative_to(group.folder).as_posix()
            try:
                hr = to_uint8(read(path).pixels)
                figures = score_picture(upscaler, hr, scale, str(path))
            except (AdaPoolError, OSError) as error:
                failed.append((str(path), str(error)))
                if on_failure is not None:
                    on_failure(*failed[-1])
                continue
            scores.append(Score(group.name, image, *figures))
            if on_score is not None:
                on_score(scores[-1])
    format_name = str(upscaler.precision).removeprefix("torch.")
    return Table(name, scale, scores, failed, f"{upscaler.device}, {format_name}")


def score_picture(
    upscaler: Upscaler, hr: Tensor, scale: int, file: str = "picture"
) -> tuple[float, float, float, float]:
    """Shrink a picture, enlarge it again by model and by bicubic, and measure both.

    Args:
        upscaler: of this scale.
        hr: (3, H, W) or (1, H, W) uint8.
        scale: a whole number.
        file: for the error's words.

    Returns:
        The model's PSNR and SSIM, then bicubic's.

    Raises:
        UnreadableFileError: the picture is too small to be measured.
    """
    least = SSIM_WINDOW + 2 * scale
    cropped = [side - side % scale for side in hr.shape[-2:]]
    if min(cropped) < least:
        size = f"{hr.shape[-1]}x{hr.shape[-2]}"
        raise UnreadableFileError(
            file, f"is too small to measure at x{scale}: {size}, {least}x{least} are needed"
        )
    hr = modcrop(hr, scale)
    lr = imresize(hr, 1 / scale)
    sr = upscaler.upscale_picture(Picture(lr.to(torch.float32) / 255)).pixels
    bicubic = imresize(lr, scale)
    return (
        psnr_y(sr, hr, scale),
        ssim_y(sr, hr, scale),
        psnr_y(bicubic, hr, scale),
        ssim_y(bicubic, hr, scale),
    )
