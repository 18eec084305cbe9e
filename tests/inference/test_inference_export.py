"""Networks as ONNX files and torch.export archives give the pictures that PyTorch gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapool_sr.files.errors import AdaPoolError, MissingExtraError
from adapool_sr.inference import backends, export
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.models.checkpoint import LoadedModel, load, save
from adapool_sr.models.sr import AdaPoolSR

# One pixel, a line, odd and even sides, batches, and the sizes that rounding twice could miss.
SIZES = [(1, 1, 1), (1, 1, 9), (1, 2, 1), (3, 2, 2), (1, 5, 7), (1, 64, 48), (2, 33, 21)]


NETWORKS: dict[str, dict[str, Any]] = {
    "skip": {},
    "contrast": {"head": "contrast", "sharpness": 8, "skip": False, "beta": "map"},
    "wide": {"head": "contrast", "sharpness": 8, "skip": False, "pooled_widths": (7, 6)},
}


@pytest.fixture(scope="module", params=NETWORKS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Two poolings deep, with random weights."""
    path = tmp_path_factory.mktemp("model") / "deep-x3.safetensors"
    torch.manual_seed(0)
    net = AdaPoolSR(scale=3, widths=(4, 5, 6), blocks=(0, 0, 1), **NETWORKS[request.param])
    nn.init.normal_(net.tail.weight, std=0.05)
    save(path, net, name="deep-x3", license="MIT", training={"iterations": 7})
    return load(path)


@pytest.fixture(scope="module")
def onnx_file(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "mine.onnx"
    export.export_onnx(path, model, name="mine-x3", license="CC0-1.0")
    return path


@pytest.fixture(scope="module")
def archive(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "mine.pt2"
    export.export_program(path, model, name="mine-x3", license="CC0-1.0")
    return path


def picture(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height))


# --- ONNX ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "height", "width"), SIZES)
def test_onnxruntime_gives_the_same_picture_at_every_size(
    model: LoadedModel, onnx_file: Path, batch: int, height: int, width: int
) -> None:
    x = picture(batch, height, width)
    network = backends.load(onnx_file).network
    with torch.inference_mode():
        assert (network(x) - model.network(x)).abs().max() <= 1e-4


@pytest.mark.slow
def test_an_onnx_file_in_tiles_equals_the_whole(model: LoadedModel, onnx_file: Path) -> None:
    x = picture(1, 61, 47)[0]
    whole = Upscaler(model, precision="fp32", tile=0).upscale_tensor(x)
    tiled = Upscaler.from_pretrained(onnx_file, tile=16).upscale_tensor(x)
    assert (tiled - whole).abs().max() <= 1e-4


@pytest.mark.slow
def test_an_onnx_file_carries_what_is_known_of_the_model(
    model: LoadedModel, onnx_file: Path
) -> None:
    loaded = backends.load(onnx_file)
    assert (loaded.spec.name, loaded.spec.license) == ("mine-x3", "CC0-1.0")
    for entry in ("arch", "scale", "sha256", "parameters"):
        assert getattr(loaded.spec, entry) == getattr(model.spec, entry)
    assert loaded.network.size_multiple == model.network.size_multiple
    assert loaded.network.receptive_radius == model.network.receptive_radius


@pytest.mark.slow
def test_an_onnx_file_is_plain_and_complete(onnx_file: Path) -> None:
    import onnx

    graph = onnx.load(onnx_file, load_external_data=False)
    onnx.checker.check_model(graph, full_check=True)
    assert {entry.domain for entry in graph.opset_import} == {""}
    assert not graph.functions
    assert all(not tensor.external_data for tensor in graph.graph.initializer)
    sides = [
        [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (graph.graph.input[0], graph.graph.output[0])
    ]
    assert sides == [
        ["batch", 3, "height", "width"],
        ["batch", 3, "3*height", "3*width"],
    ]


def test_without_onnx_the_extra_is_named(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'adapool-sr\[export\]'"):
        export.export_onnx(tmp_path / "a.onnx", model, name="a", license="MIT")


# --- torch.export -----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_program_gives_the_same_picture_at_every_size(
    model: LoadedModel, archive: Path
) -> None:
    program = torch.export.load(archive).module()
    for size in SIZES:
        x = picture(*size)
        assert (program(x) - model.network(x)).abs().max() <= 1e-5, size


@pytest.mark.slow
def test_the_archive_needs_nothing_of_this_package(archive: Path) -> None:
    facts = {"adapool-sr.json": ""}
    program = torch.export.load(archive, extra_files=facts)
    assert not [n for n in program.graph.nodes if "adapool" in str(n.target)]
    assert json.loads(facts["adapool-sr.json"])["name"] == "mine-x3"
    code = (
        "import sys, torch\n"
        "program = torch.export.load(sys.argv[1]).module()\n"
        "assert program(torch.rand(1, 3, 5, 4)).shape == (1, 3, 15, 12)\n"
        "assert not [name for name in sys.modules if name.startswith('adapool_sr')]\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(archive)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_file_that_computes_something_else_is_not_written(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.pt2"
    other = torch.export.export(
        nn.Upsample(scale_factor=3),
        (torch.zeros(2, 3, 8, 8),),
        dynamic_shapes=({dim: torch.export.Dim.DYNAMIC for dim in (0, 2, 3)},),
    )
    monkeypatch.setattr(export, "_traced", lambda network: other)
    monkeypatch.setattr(export, "_TRIED", ((2, 6, 5),))
    with pytest.raises(AdaPoolError, match=r"differs from the network by .* at 5x6"):
        export.export_program(path, model, name="a", license="MIT")
    assert not path.exists()
