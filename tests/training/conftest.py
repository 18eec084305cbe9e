"""A network that trains in a blink, and a fit of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TINY: dict[str, Any] = {"scale": 2, "widths": [4, 4], "blocks": [0, 1]}
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "sr_x2_tiny.yaml"

FitWords = Callable[..., list[str]]


@pytest.fixture(autouse=True)
def restore_global_seed() -> Iterator[None]:
    """seed_everything leaves its seed in the environment, where the data module reads it."""
    before = os.environ.pop("PL_GLOBAL_SEED", None)
    yield
    os.environ.pop("PL_GLOBAL_SEED", None)
    if before is not None:
        os.environ["PL_GLOBAL_SEED"] = before


@pytest.fixture(scope="session")
def tiny_network() -> dict[str, Any]:
    """Arguments of the smallest network that has both ways."""
    return dict(TINY)


@pytest.fixture(scope="session")
def fit_words(photo_dir: Path) -> FitWords:
    """``fit_words(root, *more)``: words of a fit that takes a second, into the folder ``root``."""

    def words(root: Path, *more: str) -> list[str]:
        return [
            *("-c", str(CONFIG)),
            *("--model.network", str(TINY)),
            *("--model.total_steps", "40"),
            *("--data.root", str(photo_dir)),
            *("--data.holdout", "null"),
            *("--data.patch_size", "32"),
            *("--data.batch_size", "2"),
            *("--trainer.accelerator", "cpu"),
            *("--trainer.default_root_dir", str(root)),
            *("--trainer.log_every_n_steps", "3"),
            *("--trainer.val_check_interval", "5"),
            *("--checkpoints.every_n_steps", "4"),
            *more,
        ]

    return words
