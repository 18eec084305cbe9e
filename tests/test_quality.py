"""``make quality``: one command that measures what ships."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from adapool_sr.models import AdaPoolSR, checkpoint, registry

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "quality.py"


@pytest.fixture(scope="module")
def quality() -> ModuleType:
    spec = importlib.util.spec_from_file_location("quality", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["quality"] = module  # where its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def sets(photo_dir: Path, tmp_path: Path) -> Path:
    for name in ("Set5", "Set14"):
        folder = tmp_path / "data" / "eval" / name
        folder.mkdir(parents=True)
        shutil.copy(photo_dir / "photo_1.png", folder)
    return tmp_path / "data"


def test_every_model_is_measured_at_its_scale_and_x3(
    quality: ModuleType,
    sets: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    torch.manual_seed(0)
    for name, scale in (("tiny-x2", 2), ("base-x2", 2), ("tiny-x4", 4), ("tiny-clean", 1)):
        network = AdaPoolSR(scale, (3, 4), (0, 0))
        path = weights / f"{name}.safetensors"
        checkpoint.save(path, network, name=name, license="MIT", training={})
    monkeypatch.setattr(registry, "WEIGHTS", weights)
    out = tmp_path / "out"
    words = ["quality.py", "--data", str(sets), "-o", str(out)]
    monkeypatch.setattr("sys.argv", words)
    assert quality.main() == 0
    text = (out / "quality.md").read_text()
    assert capsys.readouterr().out.split() == text.split()
    assert "| set | bicubic | base-x2 | tiny-x2 |" in text
    assert "| JPEG | input | tiny-clean |" in text
    sections = json.loads((out / "quality.json").read_text())
    scales = [section["tables"][0]["scale"] for section in sections]
    assert scales == [1, 2, 2, 3, 4, 4]
    assert [row["model"] for row in sections[3]["tables"][0]["sets"]] == ["tiny-x4", "tiny-x4"]
    assert len(sections[2]["tables"]) == 4


@pytest.mark.parametrize("words", [[], ["--data", "nowhere"]])
def test_without_sets_it_says_what_is_missing(
    quality: ModuleType,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("ADAPOOL_DATA", raising=False)
    monkeypatch.setattr("sys.argv", ["quality.py", *words])
    assert quality.main() == 2
    assert capsys.readouterr().err.startswith("quality.py: error: ")
