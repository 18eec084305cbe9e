import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from adapool_sr.files.errors import MissingFileError, ModelFileError, UnreadableFileError
from adapool_sr.models import AdaPoolSR, checkpoint, registry

Tensors = dict[str, torch.Tensor]
Change = Callable[[Tensors], Tensors]


@pytest.fixture
def network() -> AdaPoolSR:
    torch.manual_seed(1)
    network = AdaPoolSR(2, (3, 4), (0, 1))
    with torch.no_grad():
        network.tail.weight.normal_()
    return network.eval()


@pytest.fixture
def model_file(network: AdaPoolSR, tmp_path: Path) -> Path:
    path = tmp_path / "small-x2.safetensors"
    checkpoint.save(path, network, name="small-x2", license="MIT", training={"iterations": 7})
    return path


def rewrite(path: Path, *, tensors: Any = None, **metadata: Any) -> None:
    """Change tensors or metadata of a model file."""
    with safe_open(path, "pt") as file:
        kept = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        words = dict(file.metadata())
    words.update(metadata)
    save_file(kept if tensors is None else tensors(kept), path, words)


def test_saved_network_comes_back_the_same(network: AdaPoolSR, model_file: Path) -> None:
    loaded = checkpoint.load(model_file)
    x = torch.rand(1, 3, 6, 7)
    assert torch.equal(loaded.network(x), network(x))
    assert not loaded.network.training
    assert loaded.network.config == network.config
    assert (loaded.spec.name, loaded.spec.training) == ("small-x2", {"iterations": 7})


def test_half_precision_file_is_smaller_and_loads_as_float32(
    network: AdaPoolSR, model_file: Path, tmp_path: Path
) -> None:
    half = tmp_path / "half.safetensors"
    checkpoint.save(half, network, name="h", license="MIT", training={}, dtype=torch.float16)
    loaded = checkpoint.load(half).network
    for name, tensor in network.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        assert torch.equal(loaded.state_dict()[name], tensor.half().float())
    assert half.stat().st_size < model_file.stat().st_size


def test_file_holds_strings_that_need_no_other_knowledge(model_file: Path) -> None:
    with safe_open(model_file, "pt") as file:
        metadata = file.metadata()
    assert metadata["format"] == "adapool-sr"
    assert metadata["format_version"] == "1"
    assert metadata["arch"] == "AdaPoolSR"
    assert json.loads(metadata["config"])["widths"] == [3, 4]
    assert metadata["scale"] == "2"
    assert len(metadata["sha256"]) == 64


def without_head(tensors: Tensors) -> Tensors:
    return {k: v for k, v in tensors.items() if k != "head.bias"}


def with_more(tensors: Tensors) -> Tensors:
    return {**tensors, "zzz": torch.zeros(1)}


def reshaped(tensors: Tensors) -> Tensors:
    return {**tensors, "head.bias": torch.zeros(9)}


def spoiled(tensors: Tensors) -> Tensors:
    return {**tensors, "head.bias": tensors["head.bias"] * math.nan}


def rehash(path: Path, tensors: Any) -> str:
    with safe_open(path, "pt") as file:
        kept = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return checkpoint.tensors_sha256(tensors(kept))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_head, "lacks the tensor 'head.bias'"),
        (with_more, "has a tensor that its network does not 'zzz'"),
        (reshaped, r"tensor 'head.bias' is \(9,\), must be \(3,\)"),
        (spoiled, "tensor 'head.bias' has values that are not numbers"),
    ],
)
def test_tensors_that_do_not_fit_are_named(model_file: Path, change: Change, message: str) -> None:
    rewrite(model_file, tensors=change, sha256=rehash(model_file, change))
    with pytest.raises(ModelFileError, match=message):
        checkpoint.load(model_file)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"arch": "Other"}, "network 'Other'"),
        ({"config": "[]"}, "bad metadata"),
        ({"config": '{"nonsense": 1}'}, "bad config"),
        ({"scale": "3"}, "says scale 3, its config 2"),
        ({"scale": "two"}, "bad metadata"),
        ({"format_version": "9"}, "format version '9'"),
        ({"sha256": "0" * 64}, "do not have the hash"),
    ],
)
def test_wrong_metadata_are_named(model_file: Path, metadata: dict[str, str], message: str) -> None:
    rewrite(model_file, **metadata)
    with pytest.raises(ModelFileError, match=message):
        checkpoint.load(model_file)


def test_one_flipped_bit_is_noticed(model_file: Path) -> None:
    data = bytearray(model_file.read_bytes())
    data[-3] ^= 1
    model_file.write_bytes(data)
    with pytest.raises(ModelFileError, match="do not have the hash"):
        checkpoint.load(model_file)


def test_truncated_file_is_named(model_file: Path) -> None:
    model_file.write_bytes(model_file.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="is damaged"):
        checkpoint.load(model_file)


def lightning_checkpoint(network: AdaPoolSR, **changes: Any) -> dict[str, Any]:
    """What training writes, as far as it matters here."""
    saved = {
        "format_version": "1",
        "arch": "AdaPoolSR",
        "config": network.config,
        "scale": 2,
        "name": "small-x2",
        "license": "MIT",
        "training": {"iterations": 3},
        "ema": network.state_dict(),
    }
    return {"state_dict": {}, "adapool_sr": {**saved, **changes}}


def test_training_checkpoint_gives_its_averaged_weights(network: AdaPoolSR, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(lightning_checkpoint(network), path)
    loaded = checkpoint.load(path)
    x = torch.rand(1, 3, 5, 5)
    assert torch.equal(loaded.network(x), network(x))
    assert loaded.spec.training == {"iterations": 3}


def test_checkpoint_of_another_version_is_refused(network: AdaPoolSR, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(lightning_checkpoint(network, format_version="2"), path)
    with pytest.raises(ModelFileError, match="format version '2'"):
        checkpoint.load(path)


class _Evil:
    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return (setattr, (_Evil, "ran", True))


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors", ".pth"])
def test_pickled_code_is_never_run_whatever_the_file_calls_itself(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"evil{suffix}"
    torch.save({"adapool_sr": _Evil()}, path)
    with pytest.raises(UnreadableFileError, match="no training checkpoint"):
        checkpoint.load(path)
    assert not _Evil.ran


def test_missing_and_foreign_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="does not exist"):
        checkpoint.load(tmp_path / "no.ckpt")
    text = tmp_path / "text.ckpt"
    text.write_text("hello")
    with pytest.raises(UnreadableFileError, match=r"text\.ckpt"):
        checkpoint.load(text)


@pytest.mark.parametrize("spec", registry.available(), ids=lambda spec: spec.name)
def test_shipped_models_load_and_have_a_card(spec: registry.ModelSpec) -> None:
    loaded = checkpoint.load(spec)
    assert loaded.spec == spec
    assert spec.name == spec.path.stem
    card = spec.path.with_suffix(".md").read_text()
    assert spec.name in card
    assert spec.license in card
    assert spec.sha256[:12] in card
