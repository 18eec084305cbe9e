"""The models that ship, read from the headers of their files. Needs no torch.

A model file is NAME.safetensors whose metadata (strings) are ``format`` = "adapool-sr",
``format_version`` = "1", ``arch``, ``config`` (JSON, the constructor's arguments), ``scale``,
``name``, ``license``, ``training`` (JSON) and ``sha256`` of the tensors.
"""

from __future__ import annotations

import difflib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapool_sr.files.errors import (
    MissingFileError,
    ModelFileError,
    UnknownModelError,
    UnreadableFileError,
)

__all__ = [
    "DEFAULT_NAME",
    "FORMAT",
    "FORMAT_VERSION",
    "PHOTO_NAME",
    "ModelSpec",
    "available",
    "check_version",
    "find",
    "find_photo",
    "read_spec",
]

FORMAT = "adapool-sr"
FORMAT_VERSION = "1"
DEFAULT_NAME = "tiny"
PHOTO_NAME = "tiny-photo"  # the default for JPEG files, where it ships
WEIGHTS = Path(__file__).parent / "weights"

# Real headers are a few KB. A foreign file's first 8 bytes can claim any length.
_MAX_HEADER = 16 << 20


@dataclass(frozen=True)
class ModelSpec:
    """What is known of a model without loading it.

    Attributes:
        name: as ``-n`` takes it, with its scale ("tiny-x2").
        arch: class in :mod:`adapool_sr.models`.
        scale: enlargement.
        license: of the weights; its data decides.
        path: the file.
        parameters: number of values in all tensors.
        sha256: of the tensors, see :func:`adapool_sr.models.checkpoint.tensors_sha256`.
        config: the constructor's arguments.
        training: data, iterations, commit and what else the training recorded.
    """

    name: str
    arch: str
    scale: int
    license: str
    path: Path
    parameters: int
    sha256: str
    config: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


def available() -> list[ModelSpec]:
    """The shipped models in the order of their names."""
    return [read_spec(path) for path in sorted(WEIGHTS.glob("*.safetensors"))]


def find(name: str | None = None, scale: float | None = None) -> ModelSpec:
    """Look a shipped model up.

    Args:
        name: with its scale ("tiny-x2"), or a family ("tiny", the default) of which the smallest
            model that reaches ``scale`` is taken, else its largest.
        scale: enlargement wanted; None takes the family's smallest.

    Raises:
        UnknownModelError: no shipped model has that name; names the nearest and all there are.
    """
    wanted = name or DEFAULT_NAME
    models = available()
    for model in models:
        if model.name == wanted:
            return model
    family = [m for m in models if m.name.rpartition("-x")[0] == wanted]
    if family:
        family.sort(key=lambda m: m.scale)
        reaching = [m for m in family if scale is None or m.scale >= scale]
        return reaching[0] if reaching else family[-1]
    names = [m.name for m in models]
    near = difflib.get_close_matches(wanted, [*names, *(n.rpartition("-x")[0] for n in names)], n=1)
    told = f"did you mean '{near[0]}'? " if near else ""
    listed = ", ".join(names) if names else "none ships"
    raise UnknownModelError(
        f"model '{wanted}'",
        "is not known",
        f"{told}models: {listed}; a file is given with --model-path",
    )


def find_photo(scale: float | None = None) -> ModelSpec | None:
    """The model that JPEG files get where none is named; None where none ships.

    Args:
        scale: as for :func:`find`.
    """
    try:
        return find(PHOTO_NAME, scale)
    except UnknownModelError:
        return None


def read_spec(path: Path) -> ModelSpec:
    """Read the header of a model file.

    Raises:
        MissingFileError: there is no such file.
        UnreadableFileError: it is not a safetensors file, or one of another program.
        ModelFileError: its metadata are incomplete or of another version.
    """
    header = _read_header(path)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise UnreadableFileError(
            str(path), "is no model file of this program", "export one with adapool-sr export"
        )
    check_version(metadata, path)
    try:
        return ModelSpec(
            name=metadata["name"],
            arch=metadata["arch"],
            scale=int(metadata["scale"]),
            license=metadata["license"],
            path=path,
            parameters=sum(math.prod(entry["shape"]) for entry in header.values()),
            sha256=metadata["sha256"],
            config=_json_object(metadata["config"]),
            training=_json_object(metadata["training"]),
        )
    except KeyError as error:
        raise ModelFileError(str(path), f"lacks the entry {error} in its metadata") from error
    except (TypeError, ValueError) as error:
        raise ModelFileError(str(path), f"has bad metadata ({error})") from error


def check_version(metadata: Mapping[str, Any], path: Path) -> None:
    """Refuse the metadata of a file that a later version of this program wrote.

    Raises:
        ModelFileError: the format's version is not the one known here.
    """
    if metadata.get("format_version") != FORMAT_VERSION:
        raise ModelFileError(
            str(path),
            f"has format version {metadata.get('format_version')!r}, known is {FORMAT_VERSION!r}",
            "update adapool-sr",
        )


def _read_header(path: Path) -> dict[str, Any]:
    foreign = UnreadableFileError(str(path), "is not a safetensors file", "see adapool-sr models")
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not 2 <= length <= min(_MAX_HEADER, size - 8):
                raise foreign
            header = json.loads(file.read(length))
    except FileNotFoundError as error:
        raise MissingFileError(str(path), "does not exist", "check --model-path") from error
    except OSError as error:
        raise UnreadableFileError(str(path), f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise foreign from error
    if not isinstance(header, dict):
        raise foreign
    return header


def _json_object(text: str) -> dict[str, Any]:
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"an object was expected, got {text[:40]!r}")
    return value
