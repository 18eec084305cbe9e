"""Saving: the last step always, the best validation, and what Ctrl-C leaves."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from adapool_sr.files.errors import AdaPoolError, UnwritableFileError
from adapool_sr.files.writing import part_path

__all__ = ["Checkpoints", "GracefulStop", "Stopped"]

Batch = Mapping[str, Any]


class Stopped(KeyboardInterrupt):
    """Ctrl-C, raised between two steps."""


class GracefulStop(Callback):
    """Lets Ctrl-C wait for the end of the step, so that what is saved then is a whole step.

    A validation that is under way is finished first: a resumed run would not repeat it. The second
    Ctrl-C stops at once and saves nothing more.
    """

    def __init__(self) -> None:
        self.requested = False
        self._process = os.getpid()
        self._before: Any = None
        self._installed = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signal."""
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            self._before = signal.signal(signal.SIGINT, self._note)
            self._installed = True

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Stop if that was asked for since the last step."""
        if self.requested:
            raise Stopped

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the signal back."""
        if self._installed:
            signal.signal(signal.SIGINT, self._before)
            self._installed = False

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give the signal back (Lightning skips teardown here)."""
        self.teardown(trainer, pl_module, "fit")

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker: the training process decides
            return
        if self.requested:
            signal.signal(signal.SIGINT, self._before)
            raise KeyboardInterrupt
        self.requested = True
        print(
            "\nstopping after this step; Ctrl-C again stops at once, without saving",
            file=sys.stderr,
            flush=True,
        )


class Checkpoints(Checkpoint):
    """Keeps ``last.ckpt`` and ``best.ckpt`` (highest validation PSNR), each written whole.

    ``last.ckpt`` is saved every so many steps, when the run ends and when it is stopped by Ctrl-C
    or SIGTERM. Files of an earlier run that this one doesn't continue are renamed, not replaced.

    Args:
        every_n_steps: optimizer steps between two saves; 0 for the end only.
        folder: where; by default ``trainer.default_root_dir``.
        best: whether to keep the best one.
    """

    def __init__(
        self, every_n_steps: int = 1000, folder: str | None = None, best: bool = True
    ) -> None:
        if every_n_steps < 0:
            raise ValueError(f"every_n_steps must be 0 or more, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.folder = folder
        self.best = best
        self.best_psnr = float("-inf")
        self.best_step = -1
        self.saved_step = -1
        self._root = Path()

    @property
    def last_path(self) -> Path:
        """The newest checkpoint."""
        return self._root / "last.ckpt"

    @property
    def best_path(self) -> Path:
        """The checkpoint with the highest validation PSNR; there is none before a validation."""
        return self._root / "best.ckpt"

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know."""
        return {"best_psnr": self.best_psnr, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        self.best_psnr = state_dict["best_psnr"]
        self.best_step = state_dict["best_step"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make the folder; fail now rather than after an hour."""
        if stage != "fit":
            return
        self._root = Path(self.folder or trainer.default_root_dir)
        if not trainer.is_global_zero:
            return
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            probe = part_path(self.last_path)
            probe.touch()
            probe.unlink()
        except OSError as error:
            why = f"cannot be written to ({error.strerror})"
            raise UnwritableFileError(
                str(self._root), why, "choose another --trainer.default_root_dir"
            ) from error

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the files of another run out of the way."""
        source = trainer.ckpt_path
        resumed = Path(source).resolve() if source is not None else None
        ours = {self.last_path.resolve(), self.best_path.resolve()}
        if resumed not in ours:
            if trainer.is_global_zero:
                for path in (self.last_path, self.best_path):
                    _move_away(path)
            self.best_psnr, self.best_step = float("-inf"), -1
        elif not self.best_path.exists():
            self.best_psnr, self.best_step = float("-inf"), -1

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Save if the step before was one to save: its validation and its log are done now."""
        step = trainer.global_step
        if self.every_n_steps and step and step % self.every_n_steps == 0:
            self._save_last(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if this is the best so far."""
        validation = getattr(pl_module, "last_validation", None)
        if not self.best or validation is None or trainer.state.fn != "fit":
            return
        step, psnr, _ = validation
        if trainer.sanity_checking or not psnr > self.best_psnr:
            return
        self.best_psnr, self.best_step = psnr, step
        self._save(trainer, pl_module, self.best_path)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the last step."""
        self._save_last(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save even if there was nothing to train."""
        self._save_last(trainer, pl_module)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save if the run was stopped between two steps; after an error the old file stays."""
        if isinstance(exception, Stopped | SIGTERMException):
            self._save_last(trainer, pl_module)

    def _save_last(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == self.saved_step:
            return
        self._save(trainer, pl_module, self.last_path)
        self.saved_step = trainer.global_step

    def _save(self, trainer: Trainer, pl_module: LightningModule, path: Path) -> None:
        _require_finite(trainer, pl_module)
        part = part_path(path)
        try:
            trainer.save_checkpoint(part, weights_only=False)
            if trainer.is_global_zero:
                with part.open("rb+") as stream:
                    os.fsync(stream.fileno())
                part.replace(path)
        except OSError as error:
            why = f"could not be written ({error.strerror or error})"
            raise UnwritableFileError(str(path), why, "free some space") from error
        finally:
            if trainer.is_global_zero:
                part.unlink(missing_ok=True)


def _require_finite(trainer: Trainer, pl_module: LightningModule) -> None:
    if not all(bool(tensor.isfinite().all()) for tensor in pl_module.parameters()):
        raise AdaPoolError(
            "weights",
            f"are not finite after step {trainer.global_step}",
            "lower --model.lr or --model.clip_norm and resume with --ckpt_path",
        )


def _move_away(path: Path) -> None:
    if not path.exists():
        return
    number = 1
    while (aside := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    path.rename(aside)
    print(f"kept the earlier run's {path.name} as {aside}", file=sys.stderr)
