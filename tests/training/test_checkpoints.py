from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from adapool_sr.files.errors import AdaPoolError, UnwritableFileError
from adapool_sr.training import Checkpoints


class _Trainer(SimpleNamespace):
    """As much of a trainer as saving needs; its checkpoint is the step's number."""

    def save_checkpoint(self, path: Path, weights_only: bool = False) -> None:
        if self.full:
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device")
        Path(path).write_text(str(self.global_step))


def _trainer(root: Path, **changes: Any) -> Any:
    settings = {
        "default_root_dir": str(root), "is_global_zero": True, "global_step": 0, "full": False,
        "ckpt_path": None, "sanity_checking": False, "state": SimpleNamespace(fn="fit"),
    }  # fmt: skip
    return _Trainer(**(settings | changes))


def _module(psnr: float | None = None, step: int = 0) -> Any:
    module: Any = torch.nn.Linear(1, 1)
    module.last_validation = None if psnr is None else (step, psnr, 0.9)
    return module


def _begin(root: Path, callback: Checkpoints, **changes: Any) -> Any:
    trainer = _trainer(root, **changes)
    callback.setup(trainer, _module(), "fit")
    callback.on_fit_start(trainer, _module())
    return trainer


def test_last_is_saved_every_n_steps_and_at_the_end(tmp_path: Path) -> None:
    callback = Checkpoints(every_n_steps=4)
    trainer = _begin(tmp_path, callback)
    seen = []
    for trainer.global_step in range(10):
        callback.on_train_batch_start(trainer, _module(), {}, trainer.global_step)
        seen.append(callback.last_path.read_text() if callback.last_path.exists() else "")
    assert seen == ["", "", "", "", "4", "4", "4", "4", "8", "8"]
    callback.on_train_end(trainer, _module())
    assert callback.last_path.read_text() == "9"


def test_best_follows_the_highest_psnr(tmp_path: Path) -> None:
    callback = Checkpoints()
    trainer = _begin(tmp_path, callback)
    for step, psnr in ((1, 30.0), (2, 32.0), (3, 31.0)):
        trainer.global_step = step
        callback.on_validation_end(trainer, _module(psnr, step))
    assert callback.best_path.read_text() == "2"
    assert (callback.best_psnr, callback.best_step) == (32.0, 2)
    again = Checkpoints()
    again.load_state_dict(callback.state_dict())
    assert (again.best_psnr, again.best_step) == (32.0, 2)


def test_files_of_another_run_are_renamed(tmp_path: Path, capsys: Any) -> None:
    for name in ("last.ckpt", "last.1.ckpt", "best.ckpt"):
        (tmp_path / name).write_text(name)
    _begin(tmp_path, Checkpoints())
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {
        "last.1.ckpt": "last.1.ckpt", "last.2.ckpt": "last.ckpt", "best.1.ckpt": "best.ckpt",
    }  # fmt: skip
    assert "last.ckpt as" in capsys.readouterr().err


def test_files_of_the_resumed_run_stay(tmp_path: Path) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        (tmp_path / name).write_text(name)
    callback = Checkpoints()
    callback.best_psnr = 30.0
    _begin(tmp_path, callback, ckpt_path=str(tmp_path / "last.ckpt"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert callback.best_psnr == 30.0


def test_failed_save_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    callback = Checkpoints()
    trainer = _begin(tmp_path, callback, global_step=1)
    callback.on_train_end(trainer, _module())
    trainer.full, trainer.global_step = True, 2
    with pytest.raises(UnwritableFileError, match=r"last\.ckpt: could not be written \(No space"):
        callback.on_train_end(trainer, _module())
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"last.ckpt": "1"}


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    callback, module = Checkpoints(), _module()
    trainer = _begin(tmp_path, callback)
    module.weight.data.fill_(float("inf"))
    with pytest.raises(AdaPoolError, match="weights: are not finite after step 0"):
        callback.on_train_end(trainer, module)
    assert not callback.last_path.exists()


def test_unwritable_folder_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableFileError, match="cannot be written to"):
        Checkpoints().setup(_trainer(tmp_path / "file" / "run"), _module(), "fit")


def test_negative_interval_is_refused() -> None:
    with pytest.raises(ValueError, match="every_n_steps must be 0 or more, got -1"):
        Checkpoints(every_n_steps=-1)
