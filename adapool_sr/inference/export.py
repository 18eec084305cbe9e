"""Writing our networks for other programs: ONNX and torch.export, of any height and width.

The pooling operators are decomposed into plain PyTorch (their reference), so that neither file
needs this package or its kernels. What was written is run and compared before it gets its name.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapool_sr.files.errors import AdaPoolError, MissingExtraError
from adapool_sr.files.writing import write_whole
from adapool_sr.inference.backends import open_session
from adapool_sr.inference.memory import bytes_per_pixel
from adapool_sr.models.checkpoint import LoadedModel
from adapool_sr.models.registry import FORMAT, FORMAT_VERSION
from adapool_sr.ops.library import decompositions

__all__ = ["INPUT", "OUTPUT", "TOLERANCE", "export_onnx", "export_program", "metadata_of"]

INPUT, OUTPUT = "image", "enlarged"
"""Names of the ONNX file's input (N, 3, H, W) and output (N, 3, scale·H, scale·W)."""

TOLERANCE = 1e-4
"""The most by which a value of an exported network may differ, where 1 is white."""

# One pixel, odd and even sides and batches: each has a path of its own in some pooling.
_TRIED = ((1, 1, 1), (1, 5, 7), (2, 16, 12), (1, 1, 6), (1, 33, 21))


def export_onnx(path: Path, model: LoadedModel, *, name: str, license: str) -> None:
    """Write a network as an ONNX file that needs nothing beside it.

    Args:
        path: NAME.onnx.
        model: what :func:`adapool_sr.models.checkpoint.load` returned.
        name: of the model, for the file's metadata.
        license: of the weights, likewise.

    Raises:
        MissingExtraError: onnx, onnxscript or onnxruntime is absent.
        AdaPoolError: onnxruntime computes something else than PyTorch.
        UnwritableFileError: the file cannot be written.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 # checks the file
        import onnxscript  # noqa: F401 # torch's exporter needs it
    except ImportError as error:
        raise MissingExtraError("exporting ONNX", "export") from error
    program = _traced(model.network)
    with _silence():
        # Opset 20: what torch writes without converting it; onnxruntime has it since 1.17.
        exported = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=[INPUT], output_names=[OUTPUT]
        )
    if exported is None:
        raise AdaPoolError("ONNX", "PyTorch's exporter gave no program", "update torch")
    proto = exported.model_proto
    onnx.helper.set_model_props(proto, metadata_of(model, name, license))
    _name_sizes(proto.graph, model.spec.scale)
    content = proto.SerializeToString()
    session = open_session(content)

    def run(x: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {INPUT: x.numpy()})[0])

    _compare(model.network, run, "onnxruntime")
    write_whole(path, content)


def export_program(path: Path, model: LoadedModel, *, name: str, license: str) -> None:
    """Write a network as a ``torch.export`` archive, for ``torch.export.load(…).module()``.

    Args:
        path: NAME.pt2.
        model: what :func:`adapool_sr.models.checkpoint.load` returned.
        name: of the model, for the archive's extra file ``adapool-sr.json``.
        license: of the weights, likewise.

    Raises:
        AdaPoolError: the program computes something else than the network.
        UnwritableFileError: the file cannot be written.
    """
    facts = {"adapool-sr.json": json.dumps(metadata_of(model, name, license))}
    content = io.BytesIO()
    with _silence():
        torch.export.save(_traced(model.network), content, extra_files=facts)
        content.seek(0)
        run = torch.export.load(content).module()
    _compare(model.network, run, "the exported program")
    write_whole(path, content.getvalue())


def metadata_of(model: LoadedModel, name: str, license: str) -> dict[str, str]:
    """What an exported file says of its network: enough to run it in tiles."""
    network, spec = model.network, model.spec
    cpu = torch.device("cpu")
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "name": name,
        "arch": spec.arch,
        "scale": str(spec.scale),
        "license": license,
        "parameters": str(spec.parameters),
        "sha256": spec.sha256,
        "config": json.dumps(spec.config),
        "training": json.dumps(spec.training),
        "size_multiple": str(network.size_multiple),
        "receptive_radius": str(network.receptive_radius),
        "pixel_bytes": f"{bytes_per_pixel(network, 3, cpu, torch.float32):.0f}",
    }


def _traced(network: nn.Module) -> torch.export.ExportedProgram:
    """The network as a graph of plain PyTorch operators for any batch, height and width."""
    # Imported by name, for mypy: torch adds the function patch to it while it runs.
    shapes = import_module("torch.fx.experimental._config")
    dynamic = {dim: torch.export.Dim.DYNAMIC for dim in (0, 2, 3)}
    # Odd sides: a graph that is traced with them has the last windows that stick out. Without
    # backed_size_oblivious torch takes every size that it is not given as 1 to be at least 2, and
    # the program refuses pictures of one pixel.
    with _silence(), torch.no_grad(), shapes.patch(backed_size_oblivious=True):
        program = torch.export.export(
            network, (torch.zeros(2, 3, 37, 51),), dynamic_shapes=(dynamic,), strict=False
        )
        plain: torch.export.ExportedProgram = program.run_decompositions(decompositions())
    return plain


def _name_sizes(graph: Any, scale: int) -> None:
    """Give the sizes of input and output names that a person understands."""
    names = ("batch", "", "height", "width")
    for value, factor in ((graph.input[0], 1), (graph.output[0], scale)):
        for index, size in enumerate(value.type.tensor_type.shape.dim):
            if names[index]:
                size.dim_param = (
                    names[index] if not index or factor == 1 else (f"{factor}*{names[index]}")
                )
    del graph.value_info[:]  # they have the old names, and can be inferred


def _compare(network: nn.Module, run: Callable[[Tensor], Tensor], what: str) -> None:
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in _TRIED:
        x = torch.rand(batch, 3, height, width, generator=generator)
        with torch.inference_mode():
            difference = float((run(x) - network(x)).abs().max())
        if not difference <= TOLERANCE:
            raise AdaPoolError(
                what,
                f"differs from the network by {difference:.2g} at {width}x{height}",
                "other versions of torch, onnx or onnxruntime may do better: see constraints.txt",
            )


@contextmanager
def _silence() -> Iterator[None]:
    """Keep back what torch's exporters say to their own developers."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)
