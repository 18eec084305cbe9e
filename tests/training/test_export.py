from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adapool_sr.cli.main import main
from adapool_sr.models import checkpoint

FitWords = Callable[..., list[str]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, fit_words: FitWords) -> Path:
    root = tmp_path_factory.mktemp("trained")
    assert main(["fit", "-q", *fit_words(root, "--trainer.max_steps", "3")]) == 0
    return root / "last.ckpt"


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 0.0), ("float16", 1e-3)])
def test_export_holds_the_averaged_weights(
    dtype: str, tolerance: float, tmp_path: Path, trained: Path
) -> None:
    output = tmp_path / "new" / "mine-x2.safetensors"
    words = ["-m", str(trained), "-o", str(output), "--dtype", dtype, "-q"]
    assert main(["export", *words, "--name", "mine-x2", "--license", "CC0-1.0"]) == 0
    average = torch.load(trained, weights_only=True)["adapool_sr"]["ema"]
    loaded = checkpoint.load(output)
    for name, tensor in loaded.network.state_dict().items():
        assert torch.allclose(tensor, average[name], rtol=tolerance, atol=tolerance * 1e-2), name
    assert (loaded.spec.name, loaded.spec.license) == ("mine-x2", "CC0-1.0")
    assert loaded.spec.training["iterations"] == 3


def test_name_and_license_are_the_checkpoints_by_default(tmp_path: Path, trained: Path) -> None:
    output = tmp_path / "any.safetensors"
    assert main(["export", "--model_path", str(trained), "-o", str(output), "-q"]) == 0
    assert checkpoint.load(output).spec.name == "tiny-x2"


def test_existing_output_is_kept_without_overwrite(
    tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "any.safetensors"
    output.write_text("mine")
    words = ["export", "-m", str(trained), "-o", str(output), "-q"]
    assert main(words) == 2
    assert "exists; give --overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert main([*words, "--overwrite"]) == 0
    assert checkpoint.load(output).spec.scale == 2


@pytest.mark.parametrize(
    ("source", "output", "told"),
    [
        ("nowhere.ckpt", "a.safetensors", "nowhere.ckpt: does not exist"),
        ("nowhere.ckpt", "a.ckpt", "must end in .safetensors"),
        ("a.safetensors", "a.safetensors", "is the input"),
    ],
)
def test_wrong_files_are_refused(
    source: str,
    output: str,
    told: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if source == output:
        Path(source).touch()
    assert main(["export", "-m", source, "-o", output]) == 2
    assert told in capsys.readouterr().err
