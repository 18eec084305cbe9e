"""What can run under the Upscaler: our networks, others' through spandrel, ONNX in onnxruntime.

Each is a module with ``scale``, ``size_multiple`` and ``receptive_radius`` that takes
(N, 3, H, W) float32 in 0..1 and gives (N, 3, scale·H, scale·W). What a kind of network cannot do
stands in :class:`Limits`. Nothing here ever unpickles code, whatever a file calls itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from adapool_sr.files.errors import (
    AdaPoolError,
    MissingExtraError,
    MissingFileError,
    ModelFileError,
    UnreadableFileError,
)
from adapool_sr.models import checkpoint
from adapool_sr.models.checkpoint import LoadedModel, tensors_sha256
from adapool_sr.models.registry import FORMAT, ModelSpec, check_version

__all__ = [
    "OVERLAP",
    "SUFFIXES",
    "Limits",
    "Loaded",
    "OnnxNetwork",
    "OtherModel",
    "SpandrelNetwork",
    "load",
    "open_session",
]

SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt", ".onnx")
"""Endings by which a text is known to be a model's file and not its name."""

OVERLAP = 32
"""Input pixels that the tiles of others' networks overlap, whose receptive radius is not known.

Three times what Real-ESRGAN's own program takes (``tile_pad`` 10). Unlike with our networks a
tiled result need not equal the untiled one.
"""

_FLOATS = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


@dataclass(frozen=True)
class Limits:
    """What a network other than ours cannot do; the attribute ``limits`` of such a network.

    Attributes:
        precisions: the number formats that it runs in.
        cpu_only: it runs on the processor only.
        untiled: it sees the whole picture or cuts it up itself: automatic tiles are not wanted.
        pixel_bytes: memory that it needs for a pixel of its input, where that cannot be measured.
    """

    precisions: tuple[torch.dtype, ...] = tuple(_FLOATS)
    cpu_only: bool = False
    untiled: bool = False
    pixel_bytes: float | None = None


@dataclass(frozen=True)
class OtherModel:
    """A network that is not one of :mod:`adapool_sr.models`, and what its file says of it.

    Attributes:
        network: a :class:`SpandrelNetwork` or an :class:`OnnxNetwork`.
        spec: name, scale, licence ("unknown" where the file doesn't say), hash.
    """

    network: nn.Module
    spec: ModelSpec


Loaded = LoadedModel | OtherModel
"""What :func:`load` returns."""


def load(source: Path | str | ModelSpec) -> Loaded:
    """Load a model of any kind that can be run.

    Args:
        source: a model of :mod:`adapool_sr.models.registry`; a model file or checkpoint of this
            program; weights (.pth, .safetensors) of an architecture that spandrel knows; or an
            ONNX file that ``adapool-sr export`` wrote.

    Raises:
        MissingFileError: there is no such file.
        MissingExtraError: onnxruntime or spandrel is needed and absent.
        UnreadableFileError: it is none of these.
        ModelFileError: it is damaged, or its architecture is not known.
    """
    if isinstance(source, ModelSpec):
        return checkpoint.load(source)
    path = Path(source)
    if path.suffix.lower() == ".onnx":
        return _load_onnx(path)
    try:
        return checkpoint.load(path)
    except UnreadableFileError:
        tensors = _foreign_weights(path)
        if tensors is None:
            raise
    return _load_foreign(path, tensors)


# --- others' architectures -------------------------------------------------------------------


class SpandrelNetwork(nn.Module):
    """A spandrel model as a network for RGB pictures.

    Args:
        descriptor: spandrel's ``ImageModelDescriptor`` (or what has its attributes): called with
            (N, C, H, W) in 0..1, it fills the picture up to the size that its network needs. One
            for grey pictures is run on each of the three colours.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.model: nn.Module = descriptor.model  # registered, so that it moves with this module
        self.descriptor = descriptor
        self.scale = int(descriptor.scale)
        # Transformers cut their input into windows of 8, 16 or 32: the tiles keep to that grid.
        self.size_multiple = math.lcm(int(descriptor.size_requirements.multiple_of), OVERLAP)
        self.receptive_radius = OVERLAP
        half = {
            torch.bfloat16: descriptor.supports_bfloat16,
            torch.float16: descriptor.supports_half,
        }
        self.limits = Limits(
            precisions=tuple(dtype for dtype in _FLOATS if half.get(dtype, True)),
            untiled=descriptor.tiling.name == "INTERNAL",
        )

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge (N, 3, H, W) float32 in 0..1 to (N, 3, scale·H, scale·W)."""
        if self.descriptor.input_channels == 3:
            rgb: Tensor = self.descriptor(x)
            return rgb
        return torch.cat([self.descriptor(colour) for colour in torch.split(x, 1, 1)], 1)


def _foreign_weights(path: Path) -> dict[str, Any] | None:
    """What a weights file of another program holds; None if it is no such file."""
    try:
        data = load_tensors(path.read_bytes())
    except (SafetensorError, OSError, ValueError):
        try:
            with path.open("rb") as file:  # not by its name, as in models.checkpoint
                data = torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # on a file of another kind its reader may fail in any way (KeyError, …)
            return None
    ours = isinstance(data, dict) and "adapool_sr" in data
    return data if isinstance(data, dict) and data and not ours else None


def _load_foreign(path: Path, tensors: dict[str, Any]) -> OtherModel:
    spandrel = _spandrel(path)
    try:
        weights = spandrel.canonicalize_state_dict(tensors)
        descriptor = spandrel.ModelLoader().load_from_state_dict(weights)
    except spandrel.UnsupportedModelError as error:
        raise ModelFileError(
            str(path), "holds an architecture that spandrel does not know", "update spandrel"
        ) from error
    except Exception as error:  # an architecture's own code, over weights that don't fit it
        words = f"{type(error).__name__}: {error}"
        raise ModelFileError(str(path), f"could not be loaded by spandrel ({words})") from error
    channels = (descriptor.input_channels, descriptor.output_channels)
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or channels not in (
        (3, 3),
        (1, 1),
    ):
        raise ModelFileError(
            str(path), "is not for plain RGB or grey pictures", "give a super-resolution model"
        )
    parameters = {name: value.detach() for name, value in descriptor.model.named_parameters()}
    descriptor.model.float().eval().requires_grad_(False)
    spec = ModelSpec(
        name=path.stem,
        arch=str(descriptor.architecture.name),
        scale=int(descriptor.scale),
        license="unknown",
        path=path,
        parameters=sum(value.numel() for value in parameters.values()),
        sha256=tensors_sha256(parameters),
    )
    return OtherModel(SpandrelNetwork(descriptor), spec)


def _spandrel(path: Path) -> ModuleType:
    try:
        import spandrel
    except ImportError as error:
        if error.name == "spandrel":
            raise MissingExtraError(f"{path} (of another program)", "models") from error
        raise _unusable(error) from error
    except RuntimeError as error:  # torchvision of another build than torch
        raise _unusable(error) from error
    module: ModuleType = spandrel
    return module


def _unusable(error: Exception) -> AdaPoolError:
    words = " ".join(str(error).split())
    return AdaPoolError(
        "spandrel",
        f"needs a torchvision that fits torch {torch.__version__} ({words})",
        "install it from where torch came from; without CUDA: "
        "pip install torchvision --index-url https://download.pytorch.org/whl/cpu",
    )


# --- ONNX ------------------------------------------------------------------------------------


class OnnxNetwork(nn.Module):
    """A network of this program in onnxruntime, on the processor in float32.

    It takes as many threads as torch has when it is made. They don't spin between two calls:
    onnxruntime's do by default, and take the processors from torch in the same process.

    Args:
        session: an ``onnxruntime.InferenceSession`` with one input and one output.
        metadata: what :mod:`adapool_sr.inference.export` wrote into the file.

    Raises:
        KeyError: metadata that lack something.
        ValueError: metadata that are no numbers.
    """

    def __init__(self, session: Any, metadata: Mapping[str, str]) -> None:
        super().__init__()
        self.session = session
        self.scale = int(metadata["scale"])
        self.size_multiple = int(metadata["size_multiple"])
        self.receptive_radius = int(metadata["receptive_radius"])
        if min(self.scale, self.size_multiple, self.receptive_radius + 1) < 1:
            raise ValueError("scale, size_multiple or receptive_radius is too small")
        self.limits = Limits((torch.float32,), True, pixel_bytes=float(metadata["pixel_bytes"]))

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxNetwork:
        return self  # it never changes, and a session can't be copied

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge (N, 3, H, W) float32 in 0..1 to (N, 3, scale·H, scale·W).

        Raises:
            torch.OutOfMemoryError: there is not enough memory; smaller tiles help.
            RuntimeError: what else onnxruntime says.
        """
        name = self.session.get_inputs()[0].name
        try:
            result = self.session.run(None, {name: np.ascontiguousarray(x.numpy())})[0]
        except Exception as error:  # its own classes are derived from Exception alone
            words = str(error)
            if "Failed to allocate memory" in words or "bad_alloc" in words:
                raise torch.OutOfMemoryError(words) from error
            raise RuntimeError(words) from error
        return torch.from_numpy(result)


def _load_onnx(path: Path) -> OtherModel:
    if not path.exists():
        raise MissingFileError(str(path), "does not exist", "check --model-path")
    try:
        import onnxruntime  # noqa: F401 # asked for first: its absence is not the file's fault
    except ImportError as error:
        raise MissingExtraError(str(path), "export") from error
    try:
        session = open_session(path.read_bytes())
    except Exception as error:  # onnxruntime's own classes are derived from Exception alone
        words = " ".join(str(error).split())[:200]
        raise UnreadableFileError(str(path), f"is no ONNX file that runs here ({words})") from error
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get("format") != FORMAT:
        raise UnreadableFileError(
            str(path), "was not exported by this program", "write one with adapool-sr export"
        )
    check_version(metadata, path)
    try:
        network = OnnxNetwork(session, metadata)
        spec = ModelSpec(
            name=metadata["name"],
            arch=metadata["arch"],
            scale=network.scale,
            license=metadata["license"],
            path=path,
            parameters=int(metadata["parameters"]),
            sha256=metadata["sha256"],
        )
    except KeyError as error:
        raise ModelFileError(str(path), f"lacks the entry {error} in its metadata") from error
    except ValueError as error:
        raise ModelFileError(str(path), f"has bad metadata ({error})") from error
    return OtherModel(network, spec)


def open_session(content: bytes) -> Any:
    """Open an ONNX file in onnxruntime, with as many threads as torch has, that don't spin.

    Args:
        content: of the file; one that is read by its name could refer to others beside it.

    Raises:
        ImportError: onnxruntime is absent.
        Exception: onnxruntime's own, for a file that it cannot run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
