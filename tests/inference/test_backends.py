"""Models of other programs and ONNX files under the Upscaler."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from adapool_sr.files.errors import (
    AdaPoolError,
    MissingExtraError,
    MissingFileError,
    ModelFileError,
    UnreadableFileError,
    UsageError,
)
from adapool_sr.inference import backends
from adapool_sr.inference.upscaler import Upscaler
from adapool_sr.models.checkpoint import save
from adapool_sr.models.sr import AdaPoolSR

METADATA = {
    "format": "adapool-sr",
    "format_version": "1",
    "name": "near-x2",
    "arch": "Nearest",
    "scale": "2",
    "license": "MIT",
    "parameters": "0",
    "sha256": "0" * 64,
    "size_multiple": "2",
    "receptive_radius": "1",
    "pixel_bytes": "100",
}


def write_onnx(path: Path, **changes: str | None) -> Path:
    """A file that repeats every pixel, with metadata; None takes an entry away."""
    import onnx
    from onnx import TensorProto, helper

    names = ["n", 3, "h", "w"]
    graph = helper.make_graph(
        [helper.make_node("Resize", ["image", "", "scales"], ["enlarged"], mode="nearest")],
        "nearest",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, names)],
        [helper.make_tensor_value_info("enlarged", TensorProto.FLOAT, ["n", 3, "H", "W"])],
        [helper.make_tensor("scales", TensorProto.FLOAT, [4], [1, 1, 2, 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    metadata = {key: changes.get(key, value) for key, value in METADATA.items()}
    helper.set_model_props(model, {k: v for k, v in metadata.items() if v is not None})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def x() -> Tensor:
    return torch.rand(3, 41, 37, generator=torch.Generator().manual_seed(1))


# --- ours ------------------------------------------------------------------------------------


def test_a_model_of_this_program_is_loaded_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "small-x2.safetensors"
    save(path, AdaPoolSR(widths=(4, 4), blocks=(0, 0)), name="a", license="MIT", training={})
    model = backends.load(path)
    assert isinstance(model.network, AdaPoolSR)
    assert model.spec.name == "a"


# --- ONNX ------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", [0, 8])
def test_an_onnx_file_runs_whole_and_in_tiles(tmp_path: Path, x: Tensor, tile: int) -> None:
    upscaler = Upscaler.from_pretrained(str(write_onnx(tmp_path / "near.onnx")), tile=tile)
    assert upscaler.precision == torch.float32
    assert torch.equal(upscaler.upscale_tensor(x), F.interpolate(x[None], scale_factor=2)[0])


def test_an_onnx_file_says_what_it_is(tmp_path: Path) -> None:
    model = backends.load(write_onnx(tmp_path / "near.onnx"))
    assert isinstance(model.network, backends.OnnxNetwork)
    assert (model.spec.name, model.spec.scale, model.spec.license) == ("near-x2", 2, "MIT")
    assert (model.network.size_multiple, model.network.receptive_radius) == (2, 1)
    assert copy.deepcopy(model.network) is model.network
    assert set(Upscaler(model).engine._pixel_bytes.values()) == {100}


def test_threads_are_torchs_and_do_not_spin(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        session = backends.open_session(write_onnx(tmp_path / "near.onnx").read_bytes())
    finally:
        torch.set_num_threads(threads)
    options = session.get_session_options()
    assert options.intra_op_num_threads == 1
    for pool in ("intra_op", "inter_op"):
        assert options.get_session_config_entry(f"session.{pool}.allow_spinning") == "0"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"precision": "bf16"}, "precision 'bf16': is not for this model; use auto or fp32"),
        ({"device": "meta"}, "device 'meta': is not for this model; use cpu"),
    ],
)
def test_what_onnxruntime_is_not_asked_to_do_is_refused(
    tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    model = backends.load(write_onnx(tmp_path / "near.onnx"))
    with pytest.raises(UsageError, match=told):
        Upscaler(model, **options)


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"format": None}, UnreadableFileError, "was not exported by this program"),
        ({"format_version": "9"}, ModelFileError, "format version '9'"),
        ({"receptive_radius": None}, ModelFileError, "lacks the entry 'receptive_radius'"),
        ({"license": None}, ModelFileError, "lacks the entry 'license'"),
        ({"scale": "two"}, ModelFileError, "bad metadata"),
        ({"scale": "0"}, ModelFileError, "bad metadata"),
    ],
)
def test_metadata_that_do_not_serve_are_named(
    tmp_path: Path, changes: dict[str, str | None], error: type[Exception], told: str
) -> None:
    path = write_onnx(tmp_path / "near.onnx", **changes)
    with pytest.raises(error, match=told):
        backends.load(path)


def test_damaged_and_missing_onnx_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no\.onnx: does not exist"):
        backends.load(tmp_path / "no.onnx")
    path = tmp_path / "text.onnx"
    path.write_text("hello")
    with pytest.raises(UnreadableFileError, match=r"text\.onnx: is no ONNX file"):
        backends.load(path)


def test_without_onnxruntime_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_onnx(tmp_path / "near.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'adapool-sr\[export\]'"):
        backends.load(path)


class FakeSession:
    """Fails as onnxruntime does when there is no memory for windows of more than 300 pixels."""

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="image")]

    def run(self, outputs: None, feeds: dict[str, Any]) -> list[Any]:
        x = torch.from_numpy(feeds["image"])
        if x.shape[2] * x.shape[3] > 300:
            raise Exception("bfc_arena.cc Failed to allocate memory for requested buffer")
        return [F.interpolate(x, scale_factor=2).numpy()]


def test_out_of_memory_in_onnxruntime_makes_smaller_tiles(x: Tensor) -> None:
    upscaler = Upscaler(backends.OnnxNetwork(FakeSession(), METADATA), tile=0)
    assert torch.equal(upscaler.upscale_tensor(x), F.interpolate(x[None], scale_factor=2)[0])


# --- others' architectures: spandrel's stand-in -----------------------------------------------


class Net(nn.Module):
    """Repeats every pixel, times a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2) * self.weight


class Descriptor:
    """What spandrel's ImageModelDescriptor has, as far as it is used."""

    channels = 3
    multiple_of = 8
    tiling = "SUPPORTED"

    def __init__(self, weights: dict[str, Tensor]) -> None:
        self.model = Net()
        self.model.load_state_dict(weights)
        self.scale = 2
        self.input_channels = self.output_channels = type(self).channels
        self.supports_half, self.supports_bfloat16 = False, True
        self.size_requirements = SimpleNamespace(multiple_of=type(self).multiple_of)
        self.tiling = SimpleNamespace(name=type(self).tiling)  # type: ignore[assignment]
        self.architecture = SimpleNamespace(name="Fake")

    def __call__(self, x: Tensor) -> Tensor:
        assert x.shape[1] == self.input_channels
        result: Tensor = self.model(x)
        return result


Spandrel = Callable[..., None]


@pytest.fixture
def spandrel(monkeypatch: pytest.MonkeyPatch) -> Spandrel:
    """``spandrel(**class attributes of the descriptor)`` puts the stand-in in its place."""

    def put(masked: bool = False, error: Exception | None = None, **attributes: Any) -> None:
        kind = type("Given", (Descriptor,), attributes)
        module = ModuleType("spandrel")

        class UnsupportedModelError(Exception):
            pass

        class ModelLoader:
            def load_from_state_dict(self, weights: dict[str, Tensor]) -> Descriptor:
                if error is not None:
                    raise error
                if set(weights) != {"weight"}:
                    raise UnsupportedModelError
                descriptor: Descriptor = kind(weights)
                return descriptor

        parts = {
            "UnsupportedModelError": UnsupportedModelError,
            "ModelLoader": ModelLoader,
            "ImageModelDescriptor": int if masked else Descriptor,
            "canonicalize_state_dict": lambda weights: weights.get("params", weights),
        }
        for name, value in parts.items():
            setattr(module, name, value)
        monkeypatch.setitem(sys.modules, "spandrel", module)

    put()
    return put


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "2x_fake.pth"
    torch.save({"params": {"weight": torch.tensor([0.5])}}, path)
    return path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".bin"])
def test_weights_are_told_by_their_content_and_run(
    spandrel: Spandrel, tmp_path: Path, x: Tensor, suffix: str, legacy: bool
) -> None:
    path = tmp_path / f"2x_fake{suffix}"
    tensors = {"weight": torch.tensor([0.5])}
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)
    model = backends.load(path)
    assert (model.spec.name, model.spec.arch, model.spec.scale) == ("2x_fake", "Fake", 2)
    assert (model.spec.license, model.spec.parameters) == ("unknown", 1)
    for tile in (0, 32):
        upscaler = Upscaler(model, precision="fp32", tile=tile)
        wanted = F.interpolate(x[None], scale_factor=2)[0] / 2
        assert torch.allclose(upscaler.upscale_tensor(x), wanted)


def test_size_and_precision_are_the_descriptors(spandrel: Spandrel, weights: Path) -> None:
    spandrel(multiple_of=24)
    network = backends.load(weights).network
    assert network.size_multiple == 96  # of 24 and of a transformer's windows
    assert network.receptive_radius == backends.OVERLAP
    assert Upscaler(network, precision="bf16").precision == torch.bfloat16
    with pytest.raises(UsageError, match="use auto or fp32, bf16"):
        Upscaler(network, precision="fp16")


def test_grey_networks_run_on_each_colour(spandrel: Spandrel, weights: Path, x: Tensor) -> None:
    spandrel(channels=1)
    result = Upscaler(backends.load(weights), precision="fp32").upscale_tensor(x)
    assert torch.allclose(result, F.interpolate(x[None], scale_factor=2)[0] / 2)


def test_a_network_that_cuts_pictures_itself_gets_them_whole(
    spandrel: Spandrel, weights: Path
) -> None:
    spandrel(tiling="INTERNAL")
    model = backends.load(weights)
    assert Upscaler(model).tile_for(5000, 5000) == 0
    assert Upscaler(model, tile=64).tile_for(5000, 5000) == 64


def test_the_upscalers_copy_is_whole(spandrel: Spandrel, weights: Path) -> None:
    copied = copy.deepcopy(backends.load(weights).network)
    assert isinstance(copied, backends.SpandrelNetwork)
    assert copied.descriptor.model is copied.model  # what is moved to a device is what runs


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"channels": 4}, "not for plain RGB or grey pictures"),
        ({"masked": True}, "not for plain RGB or grey pictures"),
        ({"error": KeyError("conv.weight")}, "could not be loaded by spandrel"),
    ],
)
def test_models_that_cannot_be_run_are_named(
    spandrel: Spandrel, weights: Path, change: dict[str, Any], told: str
) -> None:
    spandrel(**change)
    with pytest.raises(ModelFileError, match=rf"2x_fake\.pth: .*{told}"):
        backends.load(weights)


def test_an_unknown_architecture_is_said_to_be_unknown(spandrel: Spandrel, tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"other": torch.zeros(1)}, path)
    with pytest.raises(ModelFileError, match="architecture that spandrel does not know"):
        backends.load(path)


def test_without_spandrel_the_extra_is_named(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not None in sys.modules: the name of the module that is absent decides what is said.
    monkeypatch.setattr(sys, "meta_path", [_Absent("spandrel"), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'adapool-sr\[models\]'"):
        backends.load(weights)


class _Absent:
    """An import finder for which importing ``spandrel`` fails because of ``name``."""

    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.error = error or ModuleNotFoundError(f"No module named '{name}'", name=name)

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "spandrel":
            raise self.error


@pytest.mark.parametrize(
    "error", [None, RuntimeError("operator torchvision::nms does not exist")], ids=["none", "other"]
)
def test_a_torchvision_that_does_not_fit_is_explained(
    weights: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    monkeypatch.setattr(sys, "meta_path", [_Absent("torchvision", error), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "spandrel", raising=False)
    with pytest.raises(AdaPoolError, match=r"torchvision that fits torch .*whl/cpu"):
        backends.load(weights)


# --- what is never run -------------------------------------------------------------------------


class _Evil:
    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (_Evil, "ran", True))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors", ".onnx"])
def test_pickled_code_is_never_run_whatever_the_file_calls_itself(
    spandrel: Spandrel, tmp_path: Path, suffix: str, legacy: bool
) -> None:
    path = tmp_path / f"evil{suffix}"
    torch.save({"weight": _Evil()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnreadableFileError):
        backends.load(path)
    assert not _Evil.ran


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04", b"\x80\x02}q\x00."])
def test_files_that_hold_no_weights_are_refused(
    spandrel: Spandrel, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"x\.pth"):
        backends.load(path)
