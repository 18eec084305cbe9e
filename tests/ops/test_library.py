"""What the dispatcher knows of the operators: schemas, fakes, autograd, autocast, compilation."""

from __future__ import annotations

import inspect
import shutil
from typing import Any

import pooling_truth as truth
import pytest
import torch
from pooling_truth import WINDOWS, mixed, relu_like
from torch import Tensor

from adapool_sr import ops
from adapool_sr.ops import adapool2d, adaunpool2d, library, pools, reference, unpools

NAMES = [schema.partition("(")[0] for schema in library.SCHEMAS]


def operator(namespace: str, name: str) -> Any:
    """The overload that NAME or NAME.OVERLOAD means."""
    packet, _, overload = name.partition(".")
    return getattr(getattr(getattr(torch.ops, namespace), packet), overload or "default")


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True, params=truth.NAMESPACES)
def namespace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    truth.use_namespace(request.param, monkeypatch)
    return str(request.param)


def test_the_package_exports_the_functions_by_name() -> None:
    for name in ops.__all__:
        assert hasattr(ops, name)
    for module in (pools, unpools):
        assert set(module.__all__) <= set(ops.__all__)
        for name in module.__all__:
            assert getattr(ops, name).__name__ == name


@pytest.mark.parametrize("name", NAMES)
def test_reference_twin_has_the_arguments_of_the_schema(name: str, namespace: str) -> None:
    schema = operator(namespace, name)._schema
    twin = [*inspect.signature(getattr(reference, name.partition(".")[0])).parameters]
    expected = twin if name.endswith(".vector") else [n for n in twin if n != "similarity"]
    assert [a.name for a in schema.arguments] == expected


def sample_inputs(
    name: str, window: tuple[Any, ...], dtype: torch.dtype, format_: torch.memory_format
) -> tuple[Any, ...]:
    """Inputs for one operator, differentiable ones with requires_grad."""
    x = relu_like(2, 3, 7, 6, dtype=dtype).contiguous(memory_format=format_)
    beta = torch.full((1, 3, 1, 1), 0.3, dtype=dtype)
    kernel, stride, padding, ceil_mode = (list(w) if isinstance(w, tuple) else w for w in window)
    geometry = (kernel, stride, padding, ceil_mode)
    vector = name.endswith(".vector")
    granularity = "vector" if vector else "channel"
    y, masks = adapool2d(x, beta, *window, granularity=granularity, return_masks=True)
    g = mixed(*y.shape, seed=1, dtype=dtype).contiguous(memory_format=format_)
    gx = mixed(*x.shape, seed=2, dtype=dtype)
    packet = name.partition(".")[0]
    single = not packet.startswith("ada")
    # Huber of vectors: what passes through most.
    more = ["huber", 0.5, False, True] if packet.startswith("idw") else ["dsc"] if vector else []
    mask = masks.edscw[:, :1] if packet.startswith("idw") else masks.edscw
    if packet.endswith("_pool_backward"):
        extra = [mask] if single else [mask, None]
        inputs: list[Any] = [g, *extra, x, *([] if single else [beta]), *geometry, True, *more]
    elif "_pool" in packet:
        inputs = [x, *([] if single else [beta]), *geometry, True, *more]
    elif "like" in packet:
        inputs = [y, x, beta, *geometry, True, 0.0, *more]
    else:
        inputs = [y, masks.edscw, masks.em, beta, list(x.shape[2:]), *geometry, 0.0]
    if packet.startswith("ada_unpool") and packet.endswith("backward"):
        inputs = [gx, *inputs]
    return tuple(
        v.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        if isinstance(v, Tensor)
        else v
        for v in inputs
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str, dtype: torch.dtype, namespace: str) -> None:
    op = operator(namespace, name)
    # AOT needs a second for each; one window and layout for it, the cheap checks for all.
    cheap = ("test_schema", "test_autograd_registration", "test_faketensor")
    for window in (WINDOWS[0], WINDOWS[1], WINDOWS[3]):
        for format_ in (torch.contiguous_format, torch.channels_last):
            inputs = sample_inputs(name, window, dtype, format_)
            torch.library.opcheck(op, inputs, test_utils=cheap)
    if dtype in (torch.float32, torch.bfloat16) and "_backward" not in name:
        inputs = sample_inputs(name, WINDOWS[0], dtype, torch.channels_last)
        torch.library.opcheck(op, inputs, test_utils="test_aot_dispatch_dynamic")


@pytest.mark.parametrize("name", ["ada_unpool", "ada_unpool_backward"])
def test_opcheck_with_one_mask_alone(name: str, namespace: str) -> None:
    op = operator(namespace, name)
    inputs = list(sample_inputs(name, WINDOWS[3], torch.float32, torch.contiguous_format))
    first = 3 if name.endswith("_backward") else 2
    inputs[first] = inputs[first + 1] = None
    cheap = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(op, tuple(inputs), test_utils=cheap)


def test_betas_gradient_has_the_shape_and_dtype_that_the_schema_page_says(namespace: str) -> None:
    backward = getattr(torch.ops, namespace).ada_pool_backward
    for dtype in DTYPES:
        x, g = mixed(2, 3, 8, 6, dtype=dtype), mixed(2, 3, 4, 3, dtype=dtype)
        summed = torch.float64 if dtype == torch.float64 else torch.float32
        for shape, expected in (
            ((1, 1, 1, 1), (2, 3, 1, 1)),
            ((2, 3, 1, 1), (2, 3, 1, 1)),
            ((1, 1, 4, 1), (2, 3, 4, 3)),
            ((2, 1, 4, 3), (2, 3, 4, 3)),
        ):
            beta = torch.full(shape, 0.5, dtype=dtype)
            args = (beta, [2, 2], [2, 2], [0, 0], False, True)
            grad_beta = backward(g, None, None, x, *args)[1]
            assert grad_beta.shape == expected
            assert grad_beta.dtype == summed
            assert grad_beta.is_contiguous()


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_no_dtype(name: str, namespace: str) -> None:
    for key in ("AutocastCPU", "AutocastCUDA"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"{namespace}::{name}", key)


def test_autocast_runs_in_the_inputs_dtype() -> None:
    x = mixed(1, 2, 4, 4, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, masks = adapool2d(x, 0.5, return_masks=True)
        u = adaunpool2d(y, masks)
        half = adapool2d(x.bfloat16(), 0.5)
    assert torch.equal(y, adapool2d(x, 0.5))
    assert u.dtype == torch.float32
    assert half.dtype == torch.bfloat16


def test_meta_tensors_give_shapes_without_values() -> None:
    x = torch.empty(2, 3, 7, 6, device="meta")
    y, masks = adapool2d(x, 0.5, 3, 2, 1, True, return_masks=True)
    assert y.device.type == "meta"
    assert y.shape == (2, 3, 4, 4)
    assert masks.em.shape == (2, 3, 12, 12)
    assert adaunpool2d(y, masks).shape == x.shape


class Both(torch.nn.Module):
    """A small encoder-decoder: pool with masks, work, unpool by them and by the map."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = torch.nn.Parameter(torch.full((4, 1, 1), 0.3))
        self.inner = torch.nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, masks = adapool2d(x, self.beta, ceil_mode=True, return_masks=True)
        y = self.inner(y).relu()
        kept = adaunpool2d(y, masks, gain="area")
        again = adaunpool2d(y, like=x, beta=self.beta, ceil_mode=True, gain="area")
        return kept + 2 * again


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_module_compiles_without_a_graph_break(dynamic: bool) -> None:
    torch.manual_seed(0)
    network = Both()
    compiled = torch.compile(network, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for size in ((8, 6), (7, 9)):
        x = mixed(2, 4, *size, dtype=torch.float32)
        results = []
        for run in (network, compiled):
            network.zero_grad()
            leaf = x.clone().requires_grad_()
            u = run(leaf)
            torch.autograd.backward(u.square().sum())
            results.append([u.detach(), leaf.grad, *(p.grad for p in network.parameters())])
        torch.testing.assert_close(results[1], results[0])
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_a_module_compiles_with_inductor(namespace: str) -> None:
    if namespace == "adapool_reference":
        pytest.skip("a minute of compiling; the operators are opaque to it either way")
    network = Both()
    x = mixed(2, 4, 7, 6, dtype=torch.float32)
    compiled = torch.compile(network, fullgraph=True)
    torch.testing.assert_close(compiled(x), network(x))
    torch._dynamo.reset()


def test_an_exported_program_keeps_the_operators(namespace: str) -> None:
    x = mixed(2, 4, 7, 6, dtype=torch.float32)
    network = Both().eval()
    program = torch.export.export(network, (x,))
    targets = {str(node.target) for node in program.graph.nodes}
    assert f"{namespace}.ada_unpool_like.default" in targets
    torch.testing.assert_close(program.module()(x), network(x))


class Windows(torch.nn.Module):
    """Every kind of pooling and unpooling with one geometry."""

    def __init__(self, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
        super().__init__()
        self.window = (kernel, stride, padding, ceil_mode)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y, masks = adapool2d(x, 0.3, *self.window, return_masks=True)
        em, mask = ops.empool2d(x, *self.window, return_masks=True)
        return (
            adaunpool2d(y, masks),
            adaunpool2d(ops.edscwpool2d(x, *self.window), like=x, beta=0.3, **self.words()),
            adaunpool2d(em, mask, output_size=(x.shape[2], x.shape[3]), **self.words()),
            mask,
        )

    def words(self) -> dict[str, Any]:
        names = ("kernel_size", "stride", "padding", "ceil_mode")
        return dict(zip(names, self.window, strict=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
@pytest.mark.parametrize(
    "window", [(2, 2, 0, True), (2, 2, 0, False), ((3, 2), (3, 2), 0, True), (3, 2, 1, False)]
)
def test_a_decomposed_program_is_plain_and_right_at_every_size(
    namespace: str, window: tuple[Any, Any, Any, bool]
) -> None:
    network = Windows(*window)
    dynamic = {dim: torch.export.Dim.DYNAMIC for dim in (0, 2, 3)}
    x = mixed(2, 4, 13, 11, dtype=torch.float32)
    program = torch.export.export(network, (x,), dynamic_shapes=(dynamic,))
    plain = program.run_decompositions(library.decompositions())
    assert not [node for node in plain.graph.nodes if "adapool" in str(node.target)]
    run = plain.module(check_guards=False)  # of sizes that torch, not the operators, leaves out
    for size in ((1, 12, 18), (3, 7, 8), (1, 33, 21), (1, 4, 5)):
        x = mixed(size[0], 4, *size[1:], dtype=torch.float32)
        torch.testing.assert_close(run(x), network(x))
