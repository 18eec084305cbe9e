"""Sample pictures in TensorBoard: bicubic | ours | original."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from adapool_sr.imaging.metrics import to_uint8
from adapool_sr.imaging.resize import imresize

__all__ = ["SampleImages", "side_by_side"]

_GAP = 4  # white pixels between two pictures
_MARGIN = 4  # LR pixels around a crop, so that the bicubic one doesn't end in replicated edges


class SampleImages(Callback):
    """Logs the middles of the first validation pictures, as the averaged weights make them.

    Args:
        count: pictures of a validation; 0 for none.
        size: longest side shown, in pixels of the high resolution.
    """

    def __init__(self, count: int = 4, size: int = 192) -> None:
        self.count = count
        self.size = size

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log the first picture of the batch."""
        if batch_idx >= self.count or trainer.sanity_checking or not isinstance(outputs, Tensor):
            return
        writers = [
            logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)
        ]
        if not writers:
            return
        sheet = side_by_side(batch["lr"][0], outputs[0], batch["hr"][0], self.size)
        names = batch.get("name")
        tag = f"samples/{names[0] if names else batch_idx}"
        for writer in writers:
            writer.add_image(tag, sheet, trainer.global_step)


def side_by_side(lr: Tensor, sr: Tensor, hr: Tensor, size: int) -> Tensor:
    """The middles of bicubic, result and original in one picture.

    Args:
        lr: (3, h, w) uint8, or float 0..1.
        sr: (3, s·h, s·w), likewise.
        hr: (3, s·h, s·w), likewise.
        size: longest side of the crop in pixels of ``hr``.

    Returns:
        (3, H, 3·W + 2·4) uint8 on the CPU.
    """
    lr, sr, hr = (_as_uint8(x).cpu() for x in (lr, sr, hr))
    scale = hr.shape[-1] // lr.shape[-1]
    crops = []
    for length in lr.shape[1:]:
        wanted = min(length, max(1, size // scale))
        begin = (length - wanted) // 2
        crops.append((begin, begin + wanted, max(0, begin - _MARGIN), begin + wanted + _MARGIN))
    (top, bottom, above, below), (left, right, before, after) = crops
    context = lr[:, above:below, before:after]
    bicubic = imresize(context, scale)
    y, x = (top - above) * scale, (left - before) * scale
    height, width = (bottom - top) * scale, (right - left) * scale
    region = (slice(None), slice(top * scale, bottom * scale), slice(left * scale, right * scale))
    gap = torch.full((3, height, _GAP), 255, dtype=torch.uint8)
    pictures = [bicubic[:, y : y + height, x : x + width], gap, sr[region], gap, hr[region]]
    return torch.cat(pictures, dim=2)


def _as_uint8(x: Tensor) -> Tensor:
    return x if x.dtype == torch.uint8 else to_uint8(x)
