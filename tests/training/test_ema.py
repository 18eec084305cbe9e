from __future__ import annotations

import pytest
import torch

from adapool_sr.training import EMA


def test_average_equals_a_hand_computation() -> None:
    ema = EMA(decay=0.5)
    ema.averages = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)}
    expected = torch.tensor([1.0, 2.0], dtype=torch.float64)
    for step, weights in enumerate([[2.0, 2.0], [4.0, 0.0], [1.0, 1.0], [0.0, 8.0]] * 4, start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * torch.tensor(weights, dtype=torch.float64)
        ema.update({"w": torch.tensor(weights), "n": torch.tensor(step)}, step)
    assert torch.allclose(ema.averages["w"].double(), expected, atol=1e-6)
    assert ema.averages["n"].item() == 16  # what is no float is copied


def test_first_steps_forget_the_random_start() -> None:
    ema = EMA(decay=0.999)
    assert ema.weight(1) == pytest.approx(1 - 2 / 11)
    assert ema.weight(100_000) == pytest.approx(0.001)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_impossible_decay_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="at least 0 and below 1"):
        EMA(decay)
