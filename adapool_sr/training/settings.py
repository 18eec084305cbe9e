"""Checks of what a configuration says of the model, before anything is built."""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from adapool_sr.files.errors import (
    ConfigError,
    MissingFileError,
    ModelFileError,
    UnknownModelError,
)
from adapool_sr.models import checkpoint, registry
from adapool_sr.models.registry import ModelSpec
from adapool_sr.models.sr import AdaPoolSR

__all__ = ["Start", "build_network", "check_settings", "start_from"]

#: Arguments of the network by which the same tensors do other things.
ARRANGEMENT = ("skip", "block", "head", "sharpness")


class Start(NamedTuple):
    """What a network took over from another.

    Attributes:
        taken: how many tensors.
        tensors: how many the network has.
        unlike: how the other network was arranged otherwise, as "skip was true and is false".
    """

    taken: int
    tensors: int
    unlike: tuple[str, ...]


def build_network(settings: Mapping[str, Any]) -> AdaPoolSR:
    """Make the network.

    Args:
        settings: arguments of :class:`~adapool_sr.models.sr.AdaPoolSR` by name.

    Raises:
        ConfigError: an argument that it doesn't have, or a value that it doesn't take.
    """
    known = list(inspect.signature(AdaPoolSR).parameters)
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"model.network.{key}", "is no argument of the network", remedy)
    try:
        return AdaPoolSR(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError("model.network", str(error)) from error


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse values that :class:`~adapool_sr.training.SRModule` cannot take.

    Raises:
        ConfigError: a value is out of its range.
    """
    limits: Sequence[tuple[str, bool, str]] = [
        ("lr", settings["lr"] > 0, "above 0"),
        ("total_steps", settings["total_steps"] >= 1, "at least 1"),
        ("warmup_steps", settings["warmup_steps"] >= 0, "at least 0"),
        ("lr_floor", 0 <= settings["lr_floor"] <= 1, "between 0 and 1"),
        ("betas", all(0 <= beta < 1 for beta in settings["betas"]), "at least 0 and below 1"),
        ("weight_decay", settings["weight_decay"] >= 0, "at least 0"),
        ("clip_norm", settings["clip_norm"] >= 0, "at least 0"),
        ("luma_weight", 0 <= settings["luma_weight"] <= 1, "between 0 and 1"),
        ("expand", settings["expand"] >= 0, "at least 0"),
        ("ema_decay", 0 <= settings["ema_decay"] < 1, "at least 0 and below 1"),
    ]
    for key, fits, allowed in limits:
        if not fits:
            raise ConfigError(f"model.{key}", f"must be {allowed}, got {settings[key]}")


def _found(source: str) -> Path | ModelSpec:
    if source.endswith((".safetensors", ".ckpt")):
        if not Path(source).exists():
            raise MissingFileError(f"--init-from {source}", "no such file", "check the path")
        return Path(source)
    try:
        return registry.find(source)
    except UnknownModelError:
        names = ", ".join(model.name for model in registry.available())
        raise UnknownModelError(
            f"--init-from {source}", "is no .safetensors or .ckpt file and no model", f"use {names}"
        ) from None


def start_from(network: AdaPoolSR, source: str) -> Start:
    """Put other weights into a network, as far as names and shapes agree.

    Args:
        network: changed in place.
        source: name of a shipped model, or a .safetensors or .ckpt file (its averaged weights).

    Raises:
        MissingFileError, UnreadableFileError, ModelFileError: as
            :func:`adapool_sr.models.checkpoint.load`, or nothing fits.
        UnknownModelError: no model has that name.
    """
    given = checkpoint.load(_found(source))
    theirs, ours = given.network.state_dict(), network.state_dict()
    fitting = {
        name: tensor
        for name, tensor in theirs.items()
        if name in ours and ours[name].shape == tensor.shape
    }
    if not fitting:
        raise ModelFileError(
            f"--init-from {source}", "holds no tensor that fits", "use its model.network"
        )
    network.load_state_dict(fitting, strict=False)
    pairs = [(key, given.network.config[key], network.config[key]) for key in ARRANGEMENT]
    unlike = tuple(
        f"{key} was {json.dumps(their)} and is {json.dumps(our)}"
        for key, their, our in pairs
        if their != our
    )
    return Start(len(fitting), len(ours), unlike)
