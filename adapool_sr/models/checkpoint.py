"""Reading and writing weights: model files (.safetensors) and training checkpoints (.ckpt).

Nothing here ever unpickles code: model files are safetensors, checkpoints are read with
``weights_only=True``.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from adapool_sr.files.errors import (
    MissingFileError,
    ModelFileError,
    UnreadableFileError,
    UsageError,
)
from adapool_sr.files.writing import write_whole
from adapool_sr.models.registry import (
    FORMAT,
    FORMAT_VERSION,
    ModelSpec,
    check_version,
    read_spec,
)
from adapool_sr.models.sr import AdaPoolSR

__all__ = ["LoadedModel", "load", "mixed", "save", "tensors_sha256"]

_ARCHITECTURES: dict[str, type[AdaPoolSR]] = {"AdaPoolSR": AdaPoolSR}


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to run and what its file says of it.

    Attributes:
        network: in eval mode, float32, on the CPU.
        spec: name, scale, licence, hash and training.
    """

    network: AdaPoolSR
    spec: ModelSpec


def load(source: Path | str | ModelSpec) -> LoadedModel:
    """Load a model file or a training checkpoint, whose averaged (EMA) weights are taken.

    Args:
        source: a .safetensors or .ckpt file, or a model of :mod:`adapool_sr.models.registry`.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is neither kind of file.
        ModelFileError: its version, network, tensors or hash are not what they must be.
    """
    path = source.path if isinstance(source, ModelSpec) else Path(source)
    if not path.exists():
        raise MissingFileError(str(path), "does not exist", "check --model-path")
    if zipfile.is_zipfile(path):  # what torch.save writes
        spec, tensors = _read_checkpoint(path)
    else:
        spec, tensors = _read_model(path)
    network = _build(spec)
    _fill(network, tensors, path)
    network.eval().requires_grad_(False)
    return LoadedModel(network, spec)


def mixed(model: LoadedModel, other: LoadedModel, share: float) -> LoadedModel:
    """Average a model's weights with those of the model that it was trained from.

    The mean of both is good at what either is good at (Wortsman et al., "Robust fine-tuning of
    zero-shot models", CVPR 2022).

    Args:
        model: the fine-tuned one.
        other: the one that it began with.
        share: of the latter, 0..1.

    Raises:
        UsageError: the networks differ.
    """
    if other.network.config != model.network.config:
        raise UsageError(
            f"--mix {other.spec.path}", "is another network", "give the one that it began with"
        )
    ours, theirs = model.network.state_dict(), other.network.state_dict()
    network = _build(model.spec)
    _fill(network, {key: ours[key].lerp(theirs[key], share) for key in ours}, model.spec.path)
    network.eval().requires_grad_(False)
    training = {**model.spec.training, "mixed": {other.spec.name: share}}
    return LoadedModel(network, replace(model.spec, training=training))


def save(
    path: Path | str,
    network: AdaPoolSR,
    *,
    name: str,
    license: str,
    training: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model file, whole or not at all.

    Args:
        path: NAME.safetensors.
        network: whose weights are written.
        name: as ``-n`` takes it, with its scale ("tiny-x2").
        license: of the weights.
        training: what the training recorded; anything JSON can hold.
        dtype: kept as it is by default; float16 halves the file.

    Raises:
        UnwritableFileError: the file cannot be written.
    """
    tensors = {
        key: value.detach().to("cpu", dtype or value.dtype).contiguous()
        for key, value in network.state_dict().items()
    }
    metadata = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "arch": type(network).__name__,
        "config": json.dumps(network.config),
        "scale": str(network.scale),
        "name": name,
        "license": license,
        "training": json.dumps(training),
        "sha256": tensors_sha256(tensors),
    }
    write_whole(Path(path), save_tensors(tensors, metadata))


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, dtypes, shapes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _read_model(path: Path) -> tuple[ModelSpec, dict[str, Tensor]]:
    spec = read_spec(path)
    try:
        tensors = load_tensors(path.read_bytes())
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(str(path), f"is damaged ({error})", "fetch it again") from error
    if tensors_sha256(tensors) != spec.sha256:
        raise ModelFileError(
            str(path), "its tensors do not have the hash it names", "fetch it again"
        )
    return spec, tensors


def _read_checkpoint(path: Path) -> tuple[ModelSpec, dict[str, Tensor]]:
    foreign = UnreadableFileError(
        str(path), "is no training checkpoint of this program", "give one that fit wrote"
    )
    try:
        # Not by its name: torch hands a file named .safetensors to another reader.
        with path.open("rb") as file:
            checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # on a file of another kind its reader may fail in any way
        raise foreign from error
    saved = checkpoint.get("adapool_sr") if isinstance(checkpoint, dict) else None
    if not isinstance(saved, dict):
        raise foreign
    check_version(saved, path)
    try:
        tensors = saved["ema"]
        spec = ModelSpec(
            name=saved["name"],
            arch=saved["arch"],
            scale=saved["scale"],
            license=saved["license"],
            path=path,
            parameters=sum(tensor.numel() for tensor in tensors.values()),
            sha256=tensors_sha256(tensors),
            config=saved["config"],
            training=saved["training"],
        )
    except (KeyError, AttributeError) as error:
        raise ModelFileError(str(path), f"lacks {error}") from error
    return spec, tensors


def _build(spec: ModelSpec) -> AdaPoolSR:
    if spec.arch not in _ARCHITECTURES:
        raise ModelFileError(
            str(spec.path),
            f"holds a network '{spec.arch}', known are {', '.join(_ARCHITECTURES)}",
            "update adapool-sr",
        )
    try:
        network = _ARCHITECTURES[spec.arch](**spec.config)
    except (TypeError, ValueError) as error:
        raise ModelFileError(str(spec.path), f"has a bad config ({error})") from error
    if network.scale != spec.scale:
        raise ModelFileError(str(spec.path), f"says scale {spec.scale}, its config {network.scale}")
    return network


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    expected = network.state_dict()
    for problem, names in (
        ("lacks the tensor", expected.keys() - tensors.keys()),
        ("has a tensor that its network does not", tensors.keys() - expected.keys()),
    ):
        if names:
            raise ModelFileError(str(path), f"{problem} '{min(names)}'", "fetch it again")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ModelFileError(
                str(path),
                f"tensor '{name}' is {tuple(tensor.shape)}, must be {tuple(expected[name].shape)}",
            )
        if not tensor.isfinite().all():
            raise ModelFileError(
                str(path), f"tensor '{name}' has values that are not numbers", "use another model"
            )
    network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
