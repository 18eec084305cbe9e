"""``adapool-sr export``: names, formats and what is refused; training/ has its checkpoints."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from adapool_sr.cli.main import main
from adapool_sr.inference import export
from adapool_sr.models import checkpoint, registry

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, str, str, str]]:
    """What the exporters are asked for, in an empty folder: (kind, path, name, licence)."""
    calls: list[tuple[str, str, str, str]] = []

    def note(kind: str) -> Any:
        def write(path: Path, model: Any, *, name: str, license: str) -> None:
            calls.append((kind, str(path), name, license))

        return write

    monkeypatch.setattr(export, "export_onnx", note("onnx"))
    monkeypatch.setattr(export, "export_program", note("program"))
    monkeypatch.chdir(tmp_path)
    return calls


def test_a_shipped_model_is_exported_under_its_name(
    written: list[tuple[str, str, str, str]], capsys: Capture
) -> None:
    licence = registry.find("tiny").license
    assert main(["export", "-n", "tiny", "--format", "onnx"]) == 0
    assert main(["export", "-n", "tiny-x2", "-o", "new/a.pt2", "--license", "MIT", "-q"]) == 0
    assert written == [
        ("onnx", "tiny-x2.onnx", "tiny-x2", licence),
        ("program", "new/a.pt2", "tiny-x2", "MIT"),
    ]
    assert capsys.readouterr().err == "tiny-x2.onnx: tiny-x2, 116,429 parameters\n"


def test_weights_are_mixed_with_those_they_began_with(tmp_path: Path, capsys: Capture) -> None:
    output, began = tmp_path / "mixed.safetensors", tmp_path / "began.safetensors"
    model = checkpoint.load(registry.find("tiny-x2"))
    ours, theirs = model.network, copy.deepcopy(model.network)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    checkpoint.save(began, theirs, name="began-x2", license="MIT", training={})
    words = ["export", "-n", "tiny-x2", "-o", str(output), "-q"]
    assert main([*words, "--mix", f"{began}=0.25"]) == 0
    found = checkpoint.load(output)
    assert found.spec.training["mixed"] == {"began-x2": 0.25}
    mixed = 0.75 * ours.head.weight + 0.25 * theirs.head.weight
    assert torch.allclose(found.network.head.weight, mixed, atol=1e-6)
    for mix, why in (
        ("nano-x2=0.5", "nano-x2.safetensors: is another network"),
        ("none=0.5", "model 'none': is not known"),
        ("none.ckpt=0.5", "--mix none.ckpt: no such file"),
        ("tiny-x2", "must be a model and a share"),
        ("tiny-x2=2", "must be a model and a share"),
    ):
        assert main([*words, "--overwrite", "--mix", mix]) in (1, 2)
        assert why in capsys.readouterr().err


def test_a_shipped_model_can_be_written_anew(tmp_path: Path) -> None:
    output = tmp_path / "half.safetensors"
    assert main(["export", "-n", "tiny-x2", "-o", str(output), "--dtype", "float16", "-q"]) == 0
    assert checkpoint.load(output).spec.name == "tiny-x2"


def test_a_file_keeps_its_name_unless_another_is_given(
    written: list[tuple[str, str, str, str]],
) -> None:
    source = str(registry.find("tiny-x2").path)
    assert main(["export", "-m", source, "-f", "onnx", "-q"]) == 0
    assert main(["export", "-m", source, "-f", "torch-export", "-n", "mine-x2", "-q"]) == 0
    assert [call[:3] for call in written] == [
        ("onnx", "tiny-x2.onnx", "tiny-x2"),
        ("program", "mine-x2.pt2", "mine-x2"),
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "-n: or -m is required"),
        (["-n", "tony"], "model 'tony': is not known; did you mean 'tiny'?"),
        (["-n", "tiny", "-o", "a.onnx", "-f", "torch-export"], "-o a.onnx: must end in .pt2"),
        (["-n", "tiny", "-o", "a"], "must end in .safetensors or .onnx or .pt2"),
        (["-n", "tiny", "-o", "a.onnx", "--dtype", "float16"], "--dtype float16: is for safe"),
        (["-n", "tiny", "-o", "there.onnx"], "there.onnx: exists; give --overwrite"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_work(
    words: list[str], told: str, written: list[tuple[str, str, str, str]], capsys: Capture
) -> None:
    Path("there.onnx").write_text("mine")
    assert main(["export", *words]) == 2
    assert told in capsys.readouterr().err
    assert written == []


@pytest.mark.slow
def test_an_exported_file_is_all_that_upscale_needs(
    tmp_path: Path, photo_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", "-n", "tiny-x2", "--format", "onnx", "-q"]) == 0
    words = ["-i", str(photo_dir / "photo_6.png"), "--threads", "1"]
    assert main(["upscale", *words, "-o", "a.png", "--model-path", "tiny-x2.onnx"]) == 0
    assert main(["upscale", *words, "-o", "b.png", "--precision", "fp32", "-q"]) == 0
    assert "with tiny-x2.onnx on cpu, float32" in capsys.readouterr().err
    with Image.open("a.png") as onnx, Image.open("b.png") as torch:
        values = zip(onnx.tobytes(), torch.tobytes(), strict=True)
        assert max(abs(a - b) for a, b in values) <= 1  # where a value lies between two steps
