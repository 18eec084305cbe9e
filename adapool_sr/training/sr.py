"""Super-resolution as a Lightning module: network, loss, schedule, validation, checkpoint."""

from __future__ import annotations

import copy
import io
import math
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.func import functional_call

from adapool_sr.files.errors import AdaPoolError, ConfigError, ModelFileError
from adapool_sr.files.writing import write_whole
from adapool_sr.imaging.metrics import psnr_y, ssim_y, to_uint8
from adapool_sr.training.ema import EMA
from adapool_sr.training.expansion import expand as expand_convolutions
from adapool_sr.training.expansion import plain_state
from adapool_sr.training.losses import find_loss, with_luma
from adapool_sr.training.progress import rewind
from adapool_sr.training.provenance import describe_data, source_version
from adapool_sr.training.settings import build_network, check_settings, start_from

__all__ = ["SRModule", "learning_rate_factor"]

Batch = Mapping[str, Any]

# dB that a picture without any error counts for: its infinity would drown all others in the mean,
# and no later checkpoint could be better. A megapixel with one value off by one has 108.
_PERFECT_PSNR = 100.0


def learning_rate_factor(step: int, *, warmup: int, total: int, floor: float = 0.0) -> float:
    """What the learning rate is multiplied by at optimizer step ``step`` (from 0).

    Rises in a line over ``warmup`` steps, then falls as half a cosine to ``floor`` at ``total``
    and stays there.
    """
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))


class SRModule(L.LightningModule):
    """Trains :class:`~adapool_sr.models.sr.AdaPoolSR`; counts optimizer steps, not epochs.

    Batches are ``{"lr": (B, 3, h, w), "hr": (B, 3, s·h, s·w)}``, uint8 or float 0..1. Metrics are
    logged under ``loss``, ``lr``, ``val_psnr`` and ``val_ssim`` (Y, ``scale`` pixels cut from every
    border, whole pictures, averaged weights, float32), at ``trainer.global_step``.

    Args:
        network: arguments of AdaPoolSR; an unknown one is refused.
        lr: highest learning rate.
        total_steps: length of the schedule in optimizer steps. A run may stop earlier
            (``trainer.max_steps``) and be resumed; without ``trainer.max_steps`` it ends here.
        warmup_steps: steps in which the learning rate rises to ``lr``.
        lr_floor: learning rate at the schedule's end, as a part of ``lr``.
        betas: of AdamW.
        weight_decay: of AdamW, for all but biases and β; 0 makes it Adam.
        clip_norm: largest norm of the gradient, 0 for no limit; ``trainer.gradient_clip_val`` wins.
        loss: "l1", "charbonnier", "mse", "psnr", "ssim", "frequency", or several of them with
            weights: ``{"l1": 1.0, "frequency": 0.05}``.
        luma_weight: share of the loss that is taken of luma instead of RGB, 0 to 1. Tables of
            Y-PSNR see nothing else.
        ema_decay: decay of the averaged weights, see :class:`EMA`; 0 for none.
        name: name of the model in its file.
        license: licence of the weights, as its data allows.
        notes: what else the model's file should say of the training.
        seed: of the first weights, so that they depend on it alone; by default torch's generator
            as ``seed_everything`` left it.
        init_from: start from these weights (a model's name, .safetensors or .ckpt): every tensor
            of the same name and shape is taken, so that an x2 body may start an x4 network.
        compile: run training steps through ``torch.compile``.
        expand: train every 3x3 convolution in a form so many times wider, see
            :mod:`adapool_sr.training.expansion`; 0 for none. The saved model is the narrow one.

    Raises:
        ConfigError: a setting that is unknown or out of its range.
        ModelFileError: ``init_from`` holds no tensor that fits.
    """

    def __init__(
        self,
        network: dict[str, Any] | None = None,
        lr: float = 1e-3,
        total_steps: int = 60_000,
        warmup_steps: int = 200,
        lr_floor: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        clip_norm: float = 0.5,
        loss: str | dict[str, float] = "l1",
        luma_weight: float = 0.0,
        ema_decay: float = 0.999,
        name: str = "untitled",
        license: str = "unknown",
        notes: str = "",
        seed: int | None = None,
        init_from: str | None = None,
        compile: bool = False,
        expand: int = 0,
    ) -> None:
        super().__init__()
        settings: dict[str, Any] = {
            "network": dict(network or {}),
            "lr": lr,
            "total_steps": total_steps,
            "warmup_steps": warmup_steps,
            "lr_floor": lr_floor,
            "betas": list(betas),
            "weight_decay": weight_decay,
            "clip_norm": clip_norm,
            "loss": loss if isinstance(loss, str) else dict(loss),
            "luma_weight": luma_weight,
            "ema_decay": ema_decay,
            "name": name,
            "license": license,
            "notes": notes,
            "seed": seed,
            "init_from": init_from,
            "compile": compile,
            "expand": expand,
        }
        check_settings(settings)
        # Plain types only: anything else in the hyperparameters breaks weights_only loading.
        self.save_hyperparameters(settings, logger=False)
        if seed is not None:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.network = build_network(settings["network"])
        else:
            self.network = build_network(settings["network"])
        if init_from is not None:
            self.started_from = start_from(self.network, init_from)
        # What runs the averages; in a list, so that it is no part of this module.
        self._plain = [copy.deepcopy(self.network) if expand else self.network]
        if expand:
            expand_convolutions(self.network, expand)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self.scale: int = self.network.scale
        self.loss = with_luma(find_loss(loss), luma_weight)
        self._loss_sum: Tensor | None = None  # over the steps since the last log
        self._loss_count = 0
        self._scores: list[tuple[float, float]] = []
        self.last_validation: tuple[int, float, float] | None = None
        """Step, PSNR and SSIM of the newest validation."""

    # -- running the network ------------------------------------------------------------------

    def forward(self, lr: Tensor) -> Tensor:
        """Run the raw weights: (N, 3, h, w) float 0..1 → (N, 3, s·h, s·w), not clamped."""
        result: Tensor = self.network(lr)
        return result

    @torch.no_grad()
    def upscale(self, lr: Tensor) -> Tensor:
        """Run the averaged weights in float32: (N, 3, h, w) uint8 or 0..1 → (N, 3, s·h, s·w)."""
        state = self.averages or plain_state(self.network)
        with torch.autocast(self.device.type, enabled=False):
            x = _as_float(lr)
            here = {name: tensor.to(x.device) for name, tensor in state.items()}
            result: Tensor = functional_call(self._plain[0], here, (x,))
        return result.float()

    @property
    def averages(self) -> dict[str, Tensor] | None:
        """The averaged weights, None where no :class:`EMA` runs."""
        ema = self._ema()
        return ema.averages if ema is not None and ema.averages else None

    def _ema(self) -> EMA | None:
        if self._trainer is None:
            return None
        found = (callback for callback in self.trainer.callbacks if isinstance(callback, EMA))  # type: ignore[attr-defined]
        return next(found, None)

    # -- training -----------------------------------------------------------------------------

    def configure_callbacks(self) -> list[Callback]:
        """Bring the averaging along, unless the trainer has one already."""
        decay = self.hparams["ema_decay"]
        return [] if decay == 0 or self._ema() is not None else [EMA(decay)]

    def setup(self, stage: str) -> None:
        """End at the schedule's end where the trainer has no end of its own.

        Raises:
            ConfigError: the data is of another scale than the network.
        """
        data = getattr(self.trainer, "datamodule", None)
        scale = getattr(data, "scale", self.scale)
        if scale != self.scale:
            raise ConfigError(
                "data.scale", f"is {scale}, but model.network.scale is {self.scale}", "set both"
            )
        if stage == "fit" and self.hparams["compile"]:
            # the function, not the module, which would stand among this module's own
            self._compiled = torch.compile(self.network.forward)
        if stage == "fit" and self.trainer.max_steps == -1:
            self.trainer.fit_loop.epoch_loop.max_steps = self.hparams["total_steps"]

    def configure_optimizers(self) -> Any:
        """AdamW (fused) with warm-up and half a cosine, by the step."""
        settings = self.hparams
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        decaying: list[Tensor] = []
        others: list[Tensor] = []  # pulling a bias or AdaPool's β toward 0 is no regularisation
        for name, parameter in self.network.named_parameters():
            (others if "bias" in name or "beta" in name else decaying).append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": decaying},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            groups,
            lr=settings["lr"],
            betas=tuple(settings["betas"]),
            weight_decay=settings["weight_decay"],
            # a fused step unscales float16 gradients by itself, after they were to be clipped
            fused=scaler is None and self.device.type in ("cpu", "cuda"),
        )

        def factor(step: int) -> float:
            return learning_rate_factor(
                step,
                warmup=settings["warmup_steps"],
                total=settings["total_steps"],
                floor=settings["lr_floor"],
            )

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Limit the gradient: as the trainer says, else by ``clip_norm``."""
        if gradient_clip_val is None and self.hparams["clip_norm"] > 0:
            gradient_clip_val, gradient_clip_algorithm = self.hparams["clip_norm"], "norm"
        if not gradient_clip_val:
            return
        # Not self.clip_gradients: under mixed precision Lightning refuses to clip for a fused
        # optimizer, scaler or not.
        if gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(self.network.parameters(), gradient_clip_val)
        else:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), gradient_clip_val)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of one batch.

        Raises:
            AdaPoolError: the loss is not a finite number.
        """
        run = self._compiled or self.network
        loss = self.loss(run(_as_float(batch["lr"])), _as_float(batch["hr"]))
        detached = loss.detach()
        if detached.device.type == "cpu":  # elsewhere reading it would wait for the device
            self._require_finite(detached.item(), batch)
        self._loss_sum = detached.clone() if self._loss_sum is None else self._loss_sum + detached
        self._loss_count += 1
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log the mean loss since the last log, every ``log_every_n_steps`` optimizer steps."""
        step = self.trainer.global_step
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        stepped = (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0
        if not stepped or not every or step % every or self._loss_sum is None:
            return
        mean = self._loss_sum.item() / self._loss_count
        self._require_finite(mean, batch)
        self._loss_sum, self._loss_count = None, 0
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self._log_at_step({"loss": mean, "lr": float(rate)})
        self.log("loss", mean, logger=False)  # for callbacks to see

    def _require_finite(self, loss: float, batch: Batch) -> None:
        if math.isfinite(loss):
            return
        step = self.trainer.global_step + 1
        path = Path(self.trainer.default_root_dir) / f"nonfinite-{step}.pt"
        buffer = io.BytesIO()
        torch.save({"step": step, "loss": loss, "batch": dict(batch)}, buffer)
        write_whole(path, buffer.getvalue())
        raise AdaPoolError(
            "loss",
            f"is {loss} at step {step}; the batch is in {path}",
            "lower --model.lr or --model.clip_norm and resume with --ckpt_path",
        )

    def _log_at_step(self, metrics: dict[str, float]) -> None:
        # Not self.log: Lightning counts the steps of its loggers by itself, and counts one too
        # many or too few after some resumes.
        for logger in self.trainer.loggers:
            logger.log_metrics(metrics, step=self.trainer.global_step)

    # -- validation ---------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Forget the pictures of the last validation."""
        self._scores = []

    def validation_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Score whole pictures; gives the results as uint8, for :class:`SampleImages`."""
        results = to_uint8(self.upscale(batch["lr"]))
        self._scores += self.score(results, batch["hr"])
        return results

    def score(self, results: Tensor, originals: Tensor) -> list[tuple[float, float]]:
        """(Y-PSNR, Y-SSIM) of each picture of two (N, 3, H, W) uint8 (or 0..1) tensors.

        PSNR is 100 dB at most.
        """
        pairs = zip(_as_uint8(results).cpu(), _as_uint8(originals).cpu(), strict=True)
        return [
            (min(psnr_y(sr, hr, self.scale), _PERFECT_PSNR), ssim_y(sr, hr, self.scale))
            for sr, hr in pairs
        ]

    def on_validation_epoch_end(self) -> None:
        """Log the means over the pictures."""
        if not self._scores or self.trainer.sanity_checking:
            return
        psnr, ssim = (sum(values) / len(self._scores) for values in zip(*self._scores, strict=True))
        self.last_validation = (self.trainer.global_step, psnr, ssim)
        self.log_dict({"val_psnr": psnr, "val_ssim": ssim}, logger=False)  # for callbacks to see
        self._log_at_step({"val_psnr": psnr, "val_ssim": ssim})

    # -- checkpoints --------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the checkpoint a model file: see :mod:`adapool_sr.models.checkpoint`."""
        tensors = self.averages or plain_state(self.network)
        checkpoint["adapool_sr"] = {
            "format_version": "1",
            "arch": type(self.network).__name__,
            "config": dict(self.network.config),
            "scale": self.scale,
            "name": self.hparams["name"],
            "license": self.hparams["license"],
            "training": self._training_record(),
            "ema": {name: tensor.detach().clone() for name, tensor in tensors.items()},
            "averaged": self.averages is not None,
            "unlogged_loss": {
                "sum": None if self._loss_sum is None else self._loss_sum.item(),
                "count": self._loss_count,
            },
        }

    def _training_record(self) -> dict[str, Any]:
        settings = self.hparams
        record = describe_data(getattr(self.trainer, "datamodule", None))
        record |= {
            "iterations": self.trainer.global_step,
            "commit": source_version(),
            "loss": settings["loss"],
            "luma_weight": settings["luma_weight"],
            "lr": settings["lr"],
            "total_steps": settings["total_steps"],
        }
        if self.last_validation is not None:
            step, psnr, ssim = self.last_validation
            record["validation"] = {"step": step, "psnr": round(psnr, 4), "ssim": round(ssim, 5)}
        if settings["expand"]:
            record["expand"] = settings["expand"]
        if settings["init_from"]:
            record["init_from"] = Path(settings["init_from"]).name
        if settings["notes"]:
            record["notes"] = settings["notes"]
        return record

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint fits and put the loops right behind the step it was saved at.

        Raises:
            ModelFileError: it is no checkpoint of this package, or of another network.
        """
        saved = checkpoint.get("adapool_sr")
        if not isinstance(saved, dict):
            raise ModelFileError(
                "--ckpt_path", "is no training checkpoint of this program", "give one that it wrote"
            )
        ours, theirs = dict(self.network.config), saved["config"]
        theirs = {"pooled_widths": theirs["widths"][:-1], **theirs}  # older ones have none
        if theirs != ours:
            differing = sorted(
                key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key)
            )
            told = ", ".join(f"{key} {theirs.get(key)} ≠ {ours.get(key)}" for key in differing)
            raise ModelFileError(
                "--ckpt_path", f"holds another network ({told})", "use its model.network"
            )
        self._tell_kept(checkpoint.get("hyper_parameters", {}))
        self._tell_changed_data(saved["training"])
        unlogged = saved["unlogged_loss"]
        self._loss_sum = None if unlogged["sum"] is None else torch.tensor(unlogged["sum"])
        self._loss_count = unlogged["count"]
        if self._trainer is not None:
            rewind(checkpoint, self.trainer)

    def _tell_kept(self, theirs: Mapping[str, Any]) -> None:
        """Warn of settings that a resumed run takes from its checkpoint whatever is asked."""
        for key in ("lr", "betas", "weight_decay"):
            if key in theirs and theirs[key] != self.hparams[key]:
                warnings.warn(
                    f"model.{key}: a resumed run keeps its checkpoint's {theirs[key]}, "
                    f"{self.hparams[key]} is not used; to begin anew from its weights give "
                    "--init-from in place of --ckpt_path",
                    stacklevel=2,
                )

    def _tell_changed_data(self, theirs: Mapping[str, Any]) -> None:
        """Warn where a resumed run goes on with other photos than it began with."""
        data = getattr(self._trainer, "datamodule", None)
        if data is None:
            return
        changed = [
            f"{key} was {theirs[key]} and is {value} now"
            for key, value in describe_data(data).items()
            if key in theirs and theirs[key] != value
        ]
        if changed:
            warnings.warn(
                f"data: {', '.join(changed)}; the run goes on with the samples that come next in "
                "it; to begin anew from its weights give --init-from in place of --ckpt_path",
                stacklevel=2,
            )


def _as_float(x: Tensor) -> Tensor:
    if x.dtype == torch.uint8:
        x = x.float().div_(255)
    return x.contiguous(memory_format=torch.channels_last)


def _as_uint8(x: Tensor) -> Tensor:
    return x if x.dtype == torch.uint8 else to_uint8(x)
