"""A running average of the weights, kept beside the raw ones and never put in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from adapool_sr.training.expansion import plain_state

__all__ = ["EMA"]

Batch = Mapping[str, Any]


class EMA(Callback):
    """Averages the network's weights after every optimizer step, from the first one on.

    After step n the average moves by ``1 − min(decay, (1 + n) / (10 + n))`` toward the weights,
    so that a short run is not left with its random start. Validation, samples and exported
    models use the average through :meth:`SRModule.upscale`, which runs the network with the
    averaged tensors in place of its own: the module always holds the raw weights, whatever is
    interrupted or saved. Of convolutions that train in a wide form, the narrow one is averaged. The
    checkpoint keeps the average under ``adapool_sr.ema``.

    Args:
        decay: how much of the old average a step keeps, 0 ≤ decay < 1.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
        self.decay = decay
        self.averages: dict[str, Tensor] = {}
        self._steps = 0

    def weight(self, step: int) -> float:
        """Share of the new weights in the average after optimizer step ``step`` (from 1)."""
        return 1.0 - min(self.decay, (1 + step) / (10 + step))

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the average that the checkpoint holds."""
        saved = checkpoint.get("adapool_sr", {}).get("ema", {})
        self.averages = {name: tensor.clone() for name, tensor in saved.items()}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the weights, unless a checkpoint brought an average."""
        # not on_fit_start: global_step is restored only after it
        self._start(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have an average for a validation outside of training as well."""
        if not self.averages:
            self._start(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Move the average, if this batch ended in an optimizer step."""
        if trainer.global_step == self._steps:  # a batch whose gradient is only accumulated
            return
        self._steps = trainer.global_step
        self.update(_state(pl_module), self._steps)

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Move the average toward ``weights``, the state after optimizer step ``step``."""
        moving: list[Tensor] = []
        toward: list[Tensor] = []
        for name, tensor in weights.items():
            if tensor.is_floating_point():
                moving.append(self.averages[name])
                toward.append(tensor)
            else:
                self.averages[name].copy_(tensor)
        torch._foreach_lerp_(moving, toward, self.weight(step))

    def _start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        state = _state(pl_module)
        if self.averages.keys() != state.keys():
            self.averages = {name: tensor.clone() for name, tensor in state.items()}
        else:
            self.averages = {
                # the layout of the weights too, else every step would work across layouts
                name: torch.empty_like(tensor).copy_(self.averages[name])
                for name, tensor in state.items()
            }
        self._steps = trainer.global_step


def _state(pl_module: LightningModule) -> dict[str, Tensor]:
    network: torch.nn.Module = pl_module.network  # type: ignore[assignment]
    return plain_state(network)
