"""Two processes train what one does with the same global batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.slow

STEPS = 6


def _fit(words: list[str]) -> dict[str, Any]:
    """The averaged weights of a run of the command in processes of its own."""
    command = [sys.executable, "-m", "adapool_sr", "fit", *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    root = Path(words[words.index("--trainer.default_root_dir") + 1])
    saved: dict[str, Any] = torch.load(root / "last.ckpt", weights_only=True)
    assert saved["global_step"] == STEPS
    return saved


def test_two_processes_give_the_weights_of_one(tmp_path: Path, fit_words: Any) -> None:
    def words(root: Path, batch: int) -> list[str]:
        return list(
            fit_words(
                root,
                *("--trainer.max_steps", str(STEPS)),
                *("--trainer.precision", "32-true"),
                *("--data.batch_size", str(batch)),
            )
        )

    one = _fit(words(tmp_path / "one", 4))
    several = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    two = _fit([*words(tmp_path / "two", 2), *several])
    # As rounding allows; had both processes seen the same samples, the weights would be others.
    for name, tensor in one["state_dict"].items():
        assert torch.allclose(two["state_dict"][name], tensor, atol=1e-5), name
