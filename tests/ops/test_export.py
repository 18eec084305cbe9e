"""Networks of the operators alone as ONNX files and torch.export archives, in every rank."""

from __future__ import annotations

import io
import logging
from importlib import import_module
from typing import Any

import pytest
import torch
from test_pooling_family import function, words
from torch import Tensor, nn

from adapool_sr import nn as modules
from adapool_sr.ops import library

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

# What a graph is traced with, and the sizes that it is run at.
TRACED = {1: (13,), 2: (9, 11), 3: (5, 7, 9)}
SIZES: dict[int, list[tuple[int, ...]]] = {
    1: [(13,), (4,), (8,), (21,)],
    2: [(9, 11), (4, 4), (8, 5), (17, 30)],
    3: [(5, 7, 9), (4, 4, 4), (3, 8, 5)],
}


class EncoderDecoder(nn.Module):
    """A convolution, AdaPool, a convolution, and AdaUnpool in both its ways."""

    def __init__(self, rank: int, granularity: str) -> None:
        super().__init__()
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[rank]
        self.outer, self.inner = convolution(2, 4, 3, padding=1), convolution(4, 4, 1)
        options: dict[str, Any] = {"ceil_mode": True, "granularity": granularity}
        self.pool = getattr(modules, f"AdaPool{rank}d")(**options, return_masks=True)
        self.unpool = getattr(modules, f"AdaUnpool{rank}d")(**options)

    def forward(self, x: Tensor) -> Tensor:
        features = self.outer(x).relu()
        y, masks = self.pool(features)
        y = self.inner(y).relu()
        kept: Tensor = getattr(modules, f"AdaUnpool{x.dim() - 2}d")()(y, masks)
        again: Tensor = self.unpool(y, like=features, beta=self.pool.beta)
        return kept + 2 * again


class Overlapping(nn.Module):
    """Every method over windows that overlap, with padding, and an unpooling."""

    def __init__(self, rank: int, granularity: str) -> None:
        super().__init__()
        self.rank, self.granularity = rank, granularity
        # Of 2, not 3, in three dimensions: 27 positions a window make a graph of minutes.
        kernel, stride = (3, 2) if rank < 3 else (2, 1)
        self.window = ((kernel,) * rank, (stride,) * rank, (1,) * rank, True)

    def forward(self, x: Tensor) -> Tensor:
        options = {"granularity": self.granularity}
        pools = [function(f"{name}pool", self.rank) for name in ("edscw", "em", "idw")]
        y = sum(pool(x, *self.window, **options) for pool in pools)
        unpool = function("adaunpool", self.rank)
        u: Tensor = unpool(y, like=x, beta=0.3, gain="area", **options, **words(self.window))
        return u


def traced(network: nn.Module, rank: int) -> torch.export.ExportedProgram:
    """The network in plain PyTorch operators for any batch and size."""
    dynamic = {dim: torch.export.Dim.DYNAMIC for dim in (0, *range(2, rank + 2))}
    # Else torch takes a size that it is not given as 1 to be at least 2.
    shapes = import_module("torch.fx.experimental._config")
    with torch.no_grad(), shapes.patch(backed_size_oblivious=True):
        x = torch.zeros(2, 2, *TRACED[rank])
        program = torch.export.export(network, (x,), dynamic_shapes=(dynamic,), strict=False)
        plain: torch.export.ExportedProgram = program.run_decompositions(library.decompositions())
    assert not [node for node in plain.graph.nodes if "adapool" in str(node.target)]
    return plain


CASES: list[tuple[type[nn.Module], int, str]] = [  # others take a minute each to trace
    (EncoderDecoder, 1, "channel"),
    (EncoderDecoder, 2, "channel"),
    (EncoderDecoder, 3, "channel"),
    (EncoderDecoder, 2, "vector"),
    (Overlapping, 1, "vector"),
    (Overlapping, 2, "channel"),
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kind", "rank", "granularity"), CASES)
def test_an_exported_network_gives_the_same_result_everywhere(
    kind: type[nn.Module], rank: int, granularity: str
) -> None:
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network = kind(rank, granularity).eval()
    plain = traced(network, rank)
    archive = io.BytesIO()
    torch.export.save(plain, archive)
    archive.seek(0)
    loaded = torch.export.load(archive).module(check_guards=False)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    exported = torch.onnx.export(plain, dynamo=True, verbose=False, input_names=["x"])
    assert exported is not None
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(
        exported.model_proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for size in SIZES[rank]:
        x = torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            expected = network(x)
            torch.testing.assert_close(loaded(x), expected, rtol=1e-4, atol=1e-5)
        (found,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)
