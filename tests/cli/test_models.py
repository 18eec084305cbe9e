"""``adapool-sr models``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adapool_sr.cli.main import main
from adapool_sr.models import registry


def spec(name: str, scale: int, parameters: int) -> registry.ModelSpec:
    return registry.ModelSpec(
        name=name,
        arch="AdaPoolSR",
        scale=scale,
        license="MIT",
        path=Path("weights") / f"{name}.safetensors",
        parameters=parameters,
        sha256="0" * 64,
        training={},
    )


@pytest.fixture(autouse=True)
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [spec("tiny-x2", 2, 149_000), spec("a-long-name-x4", 4, 1_234_567)]
    monkeypatch.setattr(registry, "available", lambda: models)


def test_the_table_names_scale_size_and_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert capsys.readouterr().out == (
        "NAME            SCALE  PARAMETERS  LICENCE\n"
        "tiny-x2         x2        149,000  MIT\n"
        "a-long-name-x4  x4      1,234,567  MIT\n"
    )


def test_json_is_one_object_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "event": "model",
        "name": "tiny-x2",
        "arch": "AdaPoolSR",
        "scale": 2,
        "parameters": 149_000,
        "license": "MIT",
        "path": str(Path("weights/tiny-x2.safetensors")),
    }
    assert second["name"] == "a-long-name-x4"


def test_quiet_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
