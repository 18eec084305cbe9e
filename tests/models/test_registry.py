import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from adapool_sr.files.errors import (
    MissingFileError,
    ModelFileError,
    UnknownModelError,
    UnreadableFileError,
)
from adapool_sr.models import AdaPoolSR, checkpoint, registry


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A register of four small models."""
    for name in ("tiny-x2", "tiny-x4", "base-x2", "clean"):
        scale = 4 if name.endswith("4") else 2
        network = AdaPoolSR(scale, (3, 4), (0, 1))
        checkpoint.save(
            tmp_path / f"{name}.safetensors", network, name=name, license="MIT", training={"n": 1}
        )
    monkeypatch.setattr(registry, "WEIGHTS", tmp_path)
    return tmp_path


def test_shipped_files_are_listed_by_name(weights: Path) -> None:
    assert [m.name for m in registry.available()] == ["base-x2", "clean", "tiny-x2", "tiny-x4"]


def test_spec_counts_the_parameters_and_keeps_the_metadata(weights: Path) -> None:
    spec = registry.find("tiny-x2")
    network = AdaPoolSR(**spec.config)
    assert spec.parameters == sum(p.numel() for p in network.parameters())
    assert (spec.arch, spec.scale, spec.license) == ("AdaPoolSR", 2, "MIT")
    assert spec.training == {"n": 1}


@pytest.mark.parametrize(
    ("name", "scale", "found"),
    [
        (None, None, "tiny-x2"),
        (None, 4, "tiny-x4"),
        ("tiny", 1.5, "tiny-x2"),
        ("tiny", 3, "tiny-x4"),
        ("tiny", 8, "tiny-x4"),
        ("tiny-x4", 2, "tiny-x4"),
        ("base", 2, "base-x2"),
        ("clean", None, "clean"),
    ],
)
def test_smallest_model_that_reaches_the_scale_is_found(
    weights: Path, name: str | None, scale: Any, found: str
) -> None:
    assert registry.find(name, scale).name == found


def test_unknown_name_says_the_nearest_and_all(weights: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"tinny.*did you mean 'tiny'\?.*base-x2, clean"):
        registry.find("tinny")


def test_register_needs_no_torch() -> None:
    code = (
        "import sys, adapool_sr.models.registry as r; r.available(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    "content", [b"", b"short", b"\xff" * 64, b"\x10" + bytes(7) + b"[1, 2, 3, 4, 5] " + bytes(9)]
)
def test_foreign_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"x\.safetensors: is no"):
        registry.read_spec(path)


def test_safetensors_of_another_program_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(UnreadableFileError, match="no model file of this program"):
        registry.read_spec(path)
    save_file({"a": torch.zeros(1)}, path, {"format": "adapool-sr", "format_version": "2"})
    with pytest.raises(ModelFileError, match="format version '2', known is '1'"):
        registry.read_spec(path)
    save_file({"a": torch.zeros(1)}, path, {"format": "adapool-sr", "format_version": "1"})
    with pytest.raises(ModelFileError, match="lacks the entry"):
        registry.read_spec(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"absent\.safetensors: does not exist"):
        registry.read_spec(tmp_path / "absent.safetensors")
