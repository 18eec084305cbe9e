"""Where a run stands: lines or a bar for a person, and the loops' counters after a resume."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from adapool_sr.data.modules import SRDataModule
from adapool_sr.training.settings import Start

__all__ = ["Progress", "rewind"]


class Progress(ProgressBar):
    """A bar on a terminal, elsewhere a line every ``log_every_n_steps``; on standard error.

    Args:
        bar: whether to draw a bar; by default if standard error is a terminal.
    """

    def __init__(self, bar: bool | None = None) -> None:
        super().__init__()
        self._wants_bar = sys.stderr.isatty() if bar is None else bar
        self._bar: tqdm[Any] | None = None
        self._on = True
        self._began = self._marked = time.monotonic()
        self._first = self._at_mark = 0
        self._paused = 0.0
        self._pause_began = 0.0
        self.training_seconds = 0.0
        """Seconds in which steps were made, validation and saving left out."""

    def disable(self) -> None:
        """Show nothing from now on."""
        self._on = False

    def enable(self) -> None:
        """Show progress again."""
        self._on = True

    @property
    def rate(self) -> float:
        """Steps a second over the run so far, validation left out; 0 before the first."""
        steps = self.trainer.global_step - self._first
        return steps / self.training_seconds if self.training_seconds > 0 else 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._first = self._at_mark = trainer.global_step
        self._began = self._marked = time.monotonic()
        self._paused = 0.0
        if self._on:
            _say(_beginning(trainer, pl_module))
        if self._on and self._wants_bar:
            self._bar = tqdm(
                total=trainer.max_steps, initial=self._first, unit="it", dynamic_ncols=True
            )

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
    ) -> None:
        """Move the bar, or print a line where one is due."""
        step = trainer.global_step
        self.training_seconds = time.monotonic() - self._began - self._paused
        if self._bar is not None:
            self._bar.update(step - self._bar.n)
            if step % 10 == 0:
                self._bar.set_postfix_str(self._words(pl_module, outputs), refresh=False)
            return
        every = trainer.log_every_n_steps or 1  # type: ignore[attr-defined]
        if not self._on or step == self._at_mark or (step % every and step != trainer.max_steps):
            return
        now = time.monotonic()
        rate = (step - self._at_mark) / max(1e-9, now - self._marked)
        self._marked, self._at_mark = now, step
        left = _clock((trainer.max_steps - step) / rate) if rate > 0 else "?"
        words = self._words(pl_module, outputs)
        _say(f"step {step}/{trainer.max_steps}  {words}  {rate:.2f} it/s  {left} left")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._pause_began = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the clock run on, and say what came out."""
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        pause = time.monotonic() - self._pause_began
        self._paused += pause
        self._marked += pause
        validation = getattr(pl_module, "last_validation", None)
        if self._on and self._bar is None and validation is not None:
            step, psnr, ssim = validation
            _say(f"step {step}  validation: PSNR {psnr:.3f} dB  SSIM {ssim:.4f}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the bar before words about the error."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _words(self, pl_module: LightningModule, outputs: Any) -> str:
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        words = f"loss {float(loss):.5f}" if loss is not None else ""
        validation = getattr(pl_module, "last_validation", None)
        return f"{words}  val {validation[1]:.2f} dB" if validation and self._bar else words


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _beginning(trainer: Trainer, pl_module: LightningModule) -> str:
    parameters = sum(parameter.numel() for parameter in pl_module.parameters())
    words = [f"{parameters:,} parameters"]
    data: Any = getattr(trainer, "datamodule", None)
    if isinstance(data, SRDataModule):
        words.append(f"{len(data.training_names)} photos to train")
        words.append(f"{len(data.validation_names)} to validate")
    words.append(f"steps {trainer.global_step} to {trainer.max_steps}, {trainer.precision}")
    lines = ["; ".join(words)]
    start: Start | None = getattr(pl_module, "started_from", None)
    if start is not None and trainer.global_step == 0:
        source = pl_module.hparams["init_from"]
        lines.append(f"from {source}: {start.taken} of {start.tensors} tensors")
        if start.unlike:
            unlike = ", ".join(start.unlike)
            lines.append(f"warning: in {source} {unlike}: its tensors do other things here")
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def rewind(checkpoint: dict[str, Any], trainer: Trainer) -> None:
    """Set a checkpoint's loop counters to "its last step is done, nothing else is begun".

    Lightning's counters tell where in its code the checkpoint was written: in a batch, in a
    validation, at the end. What it does on a resume depends on it: it validates again, finishes a
    validation with part of the pictures, begins a second epoch, or counts a step too many. A run
    here is one endless epoch and its data is found by the number of steps, so one state suits all:
    the one that Lightning leaves when it saves at the end of a training batch.

    Runs that count epochs are left alone.

    Args:
        checkpoint: as loaded; changed in place.
        trainer: the trainer that is about to resume.
    """
    loops = checkpoint.get("loops", {}).get("fit_loop")
    if loops is None or trainer.max_steps == -1:
        return
    if loops["epoch_progress"]["total"]["ready"] > 1:
        return
    optimizer = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    steps = int(optimizer["step"]["total"]["completed"])
    batches = steps * trainer.accumulate_grad_batches
    for counts in (loops["epoch_progress"]["total"], loops["epoch_progress"]["current"]):
        counts.update(ready=1, started=1, processed=0, completed=0)
    progress = loops["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        counts.update(
            ready=batches, started=batches, processed=batches, completed=max(0, batches - 1)
        )
    progress["is_last_batch"] = False
    for counts in optimizer["step"].values():
        counts["ready"] = counts["completed"]
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] = max(0, steps - 1)
    validation = loops["epoch_loop.val_loop.batch_progress"]
    for counts in (validation["total"], validation["current"]):
        counts.update(ready=0, started=0, processed=0, completed=0)
    validation["is_last_batch"] = False
