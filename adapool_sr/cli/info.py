"""``adapool-sr info``: versions, devices, threads, and which kernels run and why."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from adapool_sr import __version__
from adapool_sr.cli._common import add_json_flag, available_cpus, emit

NAME = "info"
HELP = "Say versions, devices, and which kernels run and why."
EXAMPLE = "adapool-sr info\nadapool-sr info --json"

__all__ = ["EXAMPLE", "HELP", "NAME", "add_arguments", "run"]

_PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "safetensors",
    "ninja",
    "lightning",
    "tensorboard",
    "gradio",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "spandrel",
    "torchvision",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    add_json_flag(parser)


def run(args: argparse.Namespace) -> int:
    """Print what is found, or with ``--json`` one object with all of it."""
    facts = {
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        **_devices(),
        "kernels": _kernels(),
        "models": _models(),
    }
    if args.json:
        emit("info", **facts)
    elif not args.quiet:
        print("\n".join(_lines(facts)))
    return 0


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    """The devices, the one that ``auto`` takes with its precision, and the threads."""
    import torch

    from adapool_sr.inference.devices import choose_device, choose_precision

    auto = choose_device("auto")
    devices = [{"name": "cpu", "is": f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}"}]
    devices += [
        {"name": f"cuda:{index}", "is": torch.cuda.get_device_name(index)}
        for index in range(torch.cuda.device_count())
    ]
    return {
        "devices": devices,
        "auto": {"device": str(auto), "precision": str(choose_precision("auto", auto))[6:]},
        "threads": available_cpus(),
    }


def _processor() -> str:
    """The processor's name, as Linux has it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2] for line in text.splitlines() if line.startswith("model name")]
    return names[0].strip() if names else platform.machine()


def _kernels() -> dict[str, str]:
    """Which pooling kernels run and why; builds them if that is still to do."""
    from adapool_sr.ops import build, build_cuda

    cpu, cuda = build.load(), build_cuda.load()
    return {
        "cpu": cpu.kernel,
        "isa": cpu.isa,
        "why": cpu.why,
        "cuda": cuda.kernel,
        "cuda_why": cuda.why,
    }


def _models() -> list[dict[str, Any]]:
    from adapool_sr.models.registry import available

    return [
        {"name": m.name, "scale": m.scale, "parameters": m.parameters, "license": m.license}
        for m in available()
    ]


def _lines(facts: dict[str, Any]) -> list[str]:
    """The facts for a person, a label and a value a line."""
    packages = [
        f"{name} {found}" if found else f"{name} not installed"
        for name, found in facts["packages"].items()
    ]
    kernels, auto = facts["kernels"], facts["auto"]
    isa = f" ({kernels['isa']})" if kernels["isa"] else ""
    pairs = [
        ("adapool-sr", facts["version"]),
        ("python", f"{facts['python']} on {facts['system']}"),
        ("packages", ", ".join(packages)),
        *((device["name"], device["is"]) for device in facts["devices"]),
        ("auto", f"{auto['device']} in {auto['precision']}, {facts['threads']} threads"),
        ("kernels", f"{kernels['cpu']}{isa} on the CPU: {kernels['why']}"),
        ("", f"{kernels['cuda']} on CUDA: {kernels['cuda_why']}"),
        *(
            ("model", f"{m['name']}: x{m['scale']}, {m['parameters']:,} parameters, {m['license']}")
            for m in facts["models"]
        ),
    ]
    width = max(len(label) for label, _ in pairs)
    return [f"{label:<{width}}  {value}" for label, value in pairs]
