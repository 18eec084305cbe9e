"""Convolutions in a wide form: same function, saved narrow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from adapool_sr.cli.main import main
from adapool_sr.models.checkpoint import load
from adapool_sr.models.sr import AdaPoolSR
from adapool_sr.training.expansion import Expansion, expand, plain_state

FitWords = Callable[..., list[str]]


def test_the_wide_form_is_two_convolutions_and_the_weight() -> None:
    torch.manual_seed(0)
    form = Expansion(3, 4, factor=5)
    torch.nn.init.normal_(form.narrow)
    weight, x = torch.randn(4, 3, 3, 3), torch.randn(2, 3, 9, 7)
    wide = F.conv2d(x, form.wide.view(20, 3, 3, 3), padding=1)
    expected = F.conv2d(x, weight, padding=1) + F.conv2d(wide, form.narrow.view(4, 20, 1, 1))
    assert torch.allclose(F.conv2d(x, form(weight), padding=1), expected, atol=1e-4)


def test_expanding_leaves_the_function_and_the_plain_state_as_they_were(
    tiny_network: dict[str, Any],
) -> None:
    torch.manual_seed(0)
    network = AdaPoolSR(**tiny_network)
    before, x = {k: v.clone() for k, v in network.state_dict().items()}, torch.rand(1, 3, 8, 8)
    expected = network(x)
    assert expand(network, 2) == 6
    assert torch.equal(network(x), expected)
    state = plain_state(network)
    assert state.keys() == before.keys()
    assert all(torch.equal(state[name], before[name]) for name in before)


def test_what_sharpness_makes_larger_trains_at_its_own_size() -> None:
    torch.manual_seed(0)
    network = AdaPoolSR(2, (4, 6, 8), (0, 0, 1), encoder=(1, 0), sharpness=8)
    before, x = {k: v.clone() for k, v in network.state_dict().items()}, torch.rand(1, 3, 8, 8)
    expected = network(x)
    expand(network, 2)
    assert torch.equal(network(x), expected)
    state = plain_state(network)
    assert state.keys() == before.keys()
    assert all(torch.equal(state[name], before[name]) for name in before)
    trained = dict(network.named_parameters())
    assert len(network.scales()) > 8
    for name, scale in network.scales().items():
        place, _, tensor = name.rpartition(".")
        original = trained[f"{place}.parametrizations.{tensor}.original"]
        assert torch.equal(original * scale, before[name])


def test_what_is_saved_is_the_narrow_network_that_was_trained(
    tmp_path: Path, fit_words: FitWords
) -> None:
    words = fit_words(tmp_path, "--trainer.max_steps", "3", "--model.expand", "4")
    assert main(["fit", "-q", *words, "--model.ema_decay", "0"]) == 0
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    model = load(tmp_path / "last.ckpt")
    assert model.spec.training["expand"] == 4
    wide = saved["state_dict"]
    name = "network.head.parametrizations.weight"
    product = wide[f"{name}.0.narrow"] @ wide[f"{name}.0.wide"]
    assert product.abs().max() > 0
    expected = wide[f"{name}.original"] + product.view_as(wide[f"{name}.original"])
    assert torch.allclose(model.network.head.weight, expected)


@pytest.mark.parametrize("decay", ["0", "0.9"])
def test_a_resumed_run_equals_an_unbroken_one(
    tmp_path: Path, fit_words: FitWords, decay: str
) -> None:
    more = ["--model.expand", "2", "--model.ema_decay", decay]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main(["fit", "-q", *fit_words(whole, "--trainer.max_steps", "4", *more)]) == 0
    assert main(["fit", "-q", *fit_words(parts, "--trainer.max_steps", "2", *more)]) == 0
    again = [*more, "--trainer.max_steps", "4", "--ckpt_path", "last"]
    assert main(["fit", "-q", *fit_words(parts, *again)]) == 0
    one, other = (torch.load(p / "last.ckpt", weights_only=True) for p in (whole, parts))
    for key in ("state_dict", "adapool_sr"):
        first = one[key] if key == "state_dict" else one[key]["ema"]
        second = other[key] if key == "state_dict" else other[key]["ema"]
        assert all(torch.equal(first[name], second[name]) for name in first), key
