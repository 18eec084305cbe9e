"""``benchmarks/ablation.py``: what it compares differs in its pooling alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import ablation
import poolings
import pytest
import torch
from torch import nn

SCRIPT = Path(ablation.__file__)
SMALL: dict[str, Any] = {"scale": 2, "widths": [16, 24], "blocks": [1, 1]}


@pytest.mark.parametrize("name", list(poolings.VARIANTS))
def test_variants_have_as_many_parameters_as_adapool(name: str) -> None:
    settings = ablation.NETWORK
    first = poolings.network_of(poolings.VARIANTS["AdaPool + AdaUnpool"], settings)
    network = poolings.network_of(poolings.VARIANTS[name], settings)
    count, wanted = map(poolings.parameters_of, (network, first))
    assert abs(count - wanted) <= 0.02 * wanted


@pytest.mark.parametrize("name", list(poolings.VARIANTS))
def test_variants_take_any_size_and_train(name: str) -> None:
    network = poolings.network_of(poolings.VARIANTS[name], {**ablation.NETWORK, **SMALL})
    nn.init.normal_(network.tail.weight)
    for size in ((7, 9), (1, 1), (8, 6)):
        out = network(torch.rand(2, 3, *size))
        assert out.shape == (2, 3, 2 * size[0], 2 * size[1])
    network(torch.rand(2, 3, 8, 8)).square().sum().backward()
    still = [key for key, value in network.named_parameters() if value.grad is None]
    assert not [key for key in still if "logit" not in key]


def test_runs_of_a_seed_start_from_the_same_weights() -> None:
    networks = [poolings.network_of(variant, SMALL) for variant in poolings.VARIANTS.values()]
    for network in networks:
        poolings.draw(network, 5)
    first = networks[0]
    for network, variant in zip(networks[1:], list(poolings.VARIANTS.values())[1:], strict=True):
        assert torch.equal(network.bodies[0][0].conv1.weight, first.bodies[0][0].conv1.weight)  # type: ignore[index]
        if not variant.wide:
            assert torch.equal(network.head.weight, first.head.weight)
            assert torch.equal(network.fuses[0].weight, first.fuses[0].weight)  # type: ignore[arg-type]
    poolings.draw(networks[1], 6)
    assert not torch.equal(networks[1].head.weight, networks[0].head.weight)


def test_variants_that_join_later_get_the_budget_of_the_first() -> None:
    names = ["AdaPool + AdaUnpool", "average + nearest", "max + max_unpool"]
    # the second third of the hour is twice as slow as the rest
    slow = [1.0, 1.0, 2.0, 2.0, 1.0, 1.0]
    times = {
        name: [factor * t for t in slow] for name, factor in zip(names, (1, 2, 4), strict=True)
    }
    at_once = ablation.budgets({}, times, 100)
    assert list(at_once.values()) == [100, 50, 25]
    known = {names[0]: 300, names[1]: 120}
    later = ablation.budgets(known, {key: times[key] for key in (names[0], names[2])}, 100)
    assert later == {**known, names[2]: 75}


def test_wide_variants_pool_twice_the_maps() -> None:
    seen: dict[str, list[int]] = {}
    for name, variant in poolings.VARIANTS.items():
        network = poolings.network_of(variant, SMALL)
        maps = seen.setdefault(name, [])
        network.pools[0].register_forward_pre_hook(
            lambda _, inputs, maps=maps: maps.append(inputs[0].shape[1])
        )
        network(torch.rand(1, 3, 8, 8))
    assert {name for name, maps in seen.items() if maps == [32]} == {
        name for name, variant in poolings.VARIANTS.items() if variant.wide
    }
    assert all(maps == [16] for maps in seen.values() if maps != [32])


def test_max_unpool_restores_the_maximum_in_its_place() -> None:
    x = torch.tensor([[[[1.0, 2.0], [4.0, 3.0]]]])
    up = poolings.MaxUnpool()(torch.tensor([[[[4.0]]]]), like=x, beta=None)
    assert up.tolist() == [[[[0.0, 0.0], [16.0, 0.0]]]]  # the window's sum is kept


@pytest.mark.slow
def test_stopped_comparison_goes_on_and_gives_its_table(photo_dir: Path, tmp_path: Path) -> None:
    for name in ("Set5", "Set14"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "photo.png").write_bytes((photo_dir / "photo_1.png").read_bytes())
    config = tmp_path / "data.yaml"
    config.write_text(
        "model: {network: {scale: 2}}\n"
        "data: {scale: 2, patch_size: 32, batch_size: 2, holdout: [photo_1.png]}\n"
    )
    command = [sys.executable, str(SCRIPT), "--root", str(photo_dir), "--data", str(tmp_path)]
    command += ["--config", str(config), "--network", json.dumps(SMALL), "--minutes", "0.002"]
    command += ["--variants", "average + nearest,AdaPool + AdaUnpool", "-o", str(tmp_path / "out")]

    def run(seeds: int) -> subprocess.CompletedProcess[str]:
        words = [*command, "--seeds", str(seeds), "--jobs", "1"]
        return subprocess.run(words, capture_output=True, text=True, check=True)

    assert "seed 1" in run(1).stdout
    file = tmp_path / "out" / "ablation.json"
    state = json.loads(file.read_text())
    other = not state["bf16"]  # as if the budget had been measured on another processor
    file.write_text(json.dumps({**state, "bf16": other}))
    second = run(2).stdout
    assert "average + nearest, seed 2" in second
    assert "seed 1:" not in second  # it was kept
    table = (tmp_path / "out" / "ablation.md").read_text()
    assert "held back" in table
    assert "±" in table
    results = json.loads(file.read_text())
    assert {run["bf16"] for run in results["runs"] if run["seed"] == 2} == {other}
    assert {run["seed"] for run in results["runs"]} == {1, 2}
