from __future__ import annotations

import copy
import signal
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapool_sr.training import GracefulStop, Progress
from adapool_sr.training.progress import rewind


class _Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("adapool_sr.training.progress.time.monotonic", lambda: self.now)


def _run(progress: Progress, clock: _Clock, steps: int) -> Any:
    module: Any = torch.nn.Linear(1, 1)
    module.last_validation = None
    trainer: Any = SimpleNamespace(
        global_step=0, max_steps=20, log_every_n_steps=5, precision="32-true", datamodule=None,
        state=SimpleNamespace(fn="fit"), sanity_checking=False,
    )  # fmt: skip
    progress._trainer = trainer
    progress.on_train_start(trainer, module)
    for trainer.global_step in range(1, steps + 1):
        clock.now += 0.5
        progress.on_train_batch_end(trainer, module, {"loss": torch.tensor(0.25)}, {}, 0)
        if trainer.global_step == 5:
            progress.on_validation_start(trainer, module)
            clock.now += 100
            module.last_validation = (5, 31.25, 0.9)
            progress.on_validation_end(trainer, module)
    progress.on_train_end(trainer, module)
    return trainer


def test_lines_say_rate_and_time_left_without_the_validation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(bar=False)
    _run(progress, _Clock(monkeypatch), 12)
    assert capsys.readouterr().err.splitlines() == [
        "2 parameters; steps 0 to 20, 32-true",
        "step 5/20  loss 0.25000  2.00 it/s  0:00:08 left",
        "step 5  validation: PSNR 31.250 dB  SSIM 0.9000",
        "step 10/20  loss 0.25000  2.00 it/s  0:00:05 left",
    ]
    assert progress.rate == pytest.approx(2.0)


def test_bar_ends_at_the_last_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(Progress(bar=True), _Clock(monkeypatch), 20)
    err = capsys.readouterr().err
    assert "20/20" in err
    assert "val 31.25 dB" in err


def test_disabled_progress_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(bar=False)
    progress.disable()
    _run(progress, _Clock(monkeypatch), 10)
    assert capsys.readouterr().err == ""
    assert progress.rate == pytest.approx(2.0)


def _counts(number: int, **changes: int) -> dict[str, int]:
    names = ("ready", "started", "processed", "completed")
    return dict.fromkeys(names, number) | changes


def _checkpoint(epochs: int) -> dict[str, Any]:
    step = {"ready": 9, "completed": 8}
    return {
        "loops": {
            "fit_loop": {
                "epoch_progress": {"total": _counts(epochs), "current": _counts(epochs)},
                "epoch_loop.state_dict": {"_batches_that_stepped": 11},
                "epoch_loop.batch_progress": {
                    "total": _counts(17), "current": _counts(17), "is_last_batch": True,
                },
                "epoch_loop.automatic_optimization.optim_progress": {
                    "optimizer": {"step": {"total": dict(step), "current": dict(step)}}
                },
                "epoch_loop.val_loop.batch_progress": {
                    "total": _counts(3, completed=2), "current": _counts(3), "is_last_batch": True,
                },
            }
        }
    }  # fmt: skip


def test_rewound_checkpoint_stands_behind_its_last_step() -> None:
    checkpoint = _checkpoint(epochs=1)
    trainer: Any = SimpleNamespace(max_steps=20, accumulate_grad_batches=2)
    rewind(checkpoint, trainer)
    loops = checkpoint["loops"]["fit_loop"]
    assert loops["epoch_progress"]["total"] == _counts(1, processed=0, completed=0)
    assert loops["epoch_loop.batch_progress"]["current"] == _counts(16, completed=15)
    assert loops["epoch_loop.batch_progress"]["is_last_batch"] is False
    assert loops["epoch_loop.state_dict"] == {"_batches_that_stepped": 7}
    assert loops["epoch_loop.val_loop.batch_progress"]["total"] == _counts(0)
    optimizer = loops["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    assert optimizer["step"]["total"] == {"ready": 8, "completed": 8}


@pytest.mark.parametrize(("epochs", "max_steps"), [(2, 20), (1, -1)])
def test_runs_that_count_epochs_are_left_alone(epochs: int, max_steps: int) -> None:
    checkpoint = _checkpoint(epochs)
    before = copy.deepcopy(checkpoint)
    trainer: Any = SimpleNamespace(max_steps=max_steps, accumulate_grad_batches=1)
    rewind(checkpoint, trainer)
    assert checkpoint == before


def test_second_interrupt_stops_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    stop: GracefulStop = GracefulStop()
    nothing: Any = SimpleNamespace()
    before = signal.getsignal(signal.SIGINT)
    stop.on_fit_start(nothing, nothing)
    try:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        assert "Ctrl-C again stops at once" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt, match=r"^$"):
            signal.raise_signal(signal.SIGINT)
    finally:
        stop.teardown(nothing, nothing, "fit")
    assert signal.getsignal(signal.SIGINT) is before
