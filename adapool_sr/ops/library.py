"""The operators' schemas and what the dispatcher knows of them: kernel, fake, autograd, autocast.

Two namespaces hold the same operators:

- ``adapool``: what :mod:`adapool_sr.ops.functional` calls. The native library adds CPU kernels to
  it; wherever none is registered, the reference runs.
- ``adapool_reference``: the reference alone. A native kernel calls it for a geometry, dtype or
  layout that is not its own, and tests compare against it.

An operator's overload ``vector`` weighs whole channel vectors by a ``similarity``; its eDSCW masks
have one channel.

Conventions of the schemas: x, y, masks and gradients are batched, (N, C, *space); the rank comes
from ``len(kernel)``. ``beta`` has x's dtype, device and number of dimensions, each 1 or the
output's size, and is not expanded. Results have the dtype and memory format of x (of y for
unpooling, of the tensor itself for gradients): :func:`adapool_sr.ops.geometry.is_channels_last`.
The gradient of beta is (N, C, *out) where beta varies over space, else (N, C, 1, …), summed over
space; contiguous, and float32 for half precisions, because the caller goes on summing. ``gain`` 0
means "area". An absent gradient is an empty tensor. Every operator is deterministic and returns new
memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from adapool_sr.ops import reference
from adapool_sr.ops.geometry import Geometry, new_map, output_size

__all__ = ["NAMESPACES", "SCHEMAS", "call", "decompositions"]

NAMESPACES = ("adapool", "adapool_reference")

_WINDOW = "int[] kernel, int[] stride, int[] padding, bool ceil_mode"
_POOL = f"{_WINDOW}, bool weight_grad"
_VECTOR = f"{_POOL}, str similarity"
_IDW = f"{_POOL}, str distance, float delta, bool drop, bool vector"

SCHEMAS = (
    f"ada_pool(Tensor x, Tensor beta, {_POOL}) -> Tensor",
    f"ada_pool_masks(Tensor x, Tensor beta, {_POOL}) -> (Tensor y, Tensor edscw, Tensor em)",
    "ada_pool_backward(Tensor grad, Tensor? grad_edscw, Tensor? grad_em, Tensor x, Tensor beta, "
    f"{_POOL}) -> (Tensor grad_x, Tensor grad_beta)",
    f"ada_pool.vector(Tensor x, Tensor beta, {_VECTOR}) -> Tensor",
    f"ada_pool_masks.vector(Tensor x, Tensor beta, {_VECTOR}) -> "
    "(Tensor y, Tensor edscw, Tensor em)",
    "ada_pool_backward.vector(Tensor grad, Tensor? grad_edscw, Tensor? grad_em, Tensor x, "
    f"Tensor beta, {_VECTOR}) -> (Tensor grad_x, Tensor grad_beta)",
    f"edscw_pool(Tensor x, {_POOL}) -> Tensor",
    f"edscw_pool_masks(Tensor x, {_POOL}) -> (Tensor y, Tensor mask)",
    f"edscw_pool_backward(Tensor grad, Tensor? grad_mask, Tensor x, {_POOL}) -> Tensor",
    f"edscw_pool.vector(Tensor x, {_VECTOR}) -> Tensor",
    f"edscw_pool_masks.vector(Tensor x, {_VECTOR}) -> (Tensor y, Tensor mask)",
    f"edscw_pool_backward.vector(Tensor grad, Tensor? grad_mask, Tensor x, {_VECTOR}) -> Tensor",
    f"em_pool(Tensor x, {_POOL}) -> Tensor",
    f"em_pool_masks(Tensor x, {_POOL}) -> (Tensor y, Tensor mask)",
    f"em_pool_backward(Tensor grad, Tensor? grad_mask, Tensor x, {_POOL}) -> Tensor",
    f"idw_pool(Tensor x, {_IDW}) -> Tensor",
    f"idw_pool_masks(Tensor x, {_IDW}) -> (Tensor y, Tensor mask)",
    f"idw_pool_backward(Tensor grad, Tensor? grad_mask, Tensor x, {_IDW}) -> Tensor",
    "ada_unpool(Tensor y, Tensor mask, Tensor? mask_em, Tensor? beta, int[] size, "
    f"{_WINDOW}, float gain) -> Tensor",
    "ada_unpool_backward(Tensor grad, Tensor y, Tensor mask, Tensor? mask_em, Tensor? beta, "
    f"int[] size, {_WINDOW}, float gain) -> "
    "(Tensor grad_y, Tensor grad_mask, Tensor grad_mask_em, Tensor grad_beta)",
    f"ada_unpool_like(Tensor y, Tensor x, Tensor beta, {_POOL}, float gain) -> Tensor",
    f"ada_unpool_like_backward(Tensor grad, Tensor y, Tensor x, Tensor beta, {_POOL}, float gain) "
    "-> (Tensor grad_y, Tensor grad_x, Tensor grad_beta)",
    f"ada_unpool_like.vector(Tensor y, Tensor x, Tensor beta, {_POOL}, float gain, str similarity) "
    "-> Tensor",
    "ada_unpool_like_backward.vector(Tensor grad, Tensor y, Tensor x, Tensor beta, "
    f"{_POOL}, float gain, str similarity) -> (Tensor grad_y, Tensor grad_x, Tensor grad_beta)",
)


def _name(schema: str) -> str:
    """NAME, or NAME.OVERLOAD."""
    return schema.partition("(")[0]


def _find(place: Any, name: str) -> Any:
    """The operator NAME or NAME.OVERLOAD of a namespace."""
    packet, _, overload = name.partition(".")
    return getattr(getattr(place, packet), overload or "default")


def _twin(name: str) -> Callable[..., Any]:
    """The reference of NAME or NAME.OVERLOAD."""
    function: Callable[..., Any] = getattr(reference, name.partition(".")[0])
    return function


# --- fakes: shapes, dtypes and formats without values ----------------------------------------


def _fake_pool(x: Tensor, *window: Any, shared: bool = False) -> tuple[Tensor, Tensor]:
    """The output and one mask, which has one channel if weights are shared by all."""
    geometry = Geometry(window[0], window[1], window[2], window[3], x.shape[2:])
    out = output_size(geometry)
    space = [o * k for o, k in zip(out, geometry.kernel, strict=True)]
    return new_map(x, out), x.new_empty((x.shape[0], 1, *space)) if shared else new_map(x, space)


def _fake_beta_grad(grad: Tensor, out: Any, beta: Tensor) -> Tensor:
    half = grad.dtype in (torch.float16, torch.bfloat16)
    space = out if any(n > 1 for n in beta.shape[2:]) else (1,) * len(out)
    dtype = torch.float32 if half else grad.dtype
    return torch.empty((*grad.shape[:2], *space), dtype=dtype, device=grad.device)


def _fake_ada_pool_masks(x: Tensor, beta: Tensor, *window: Any) -> tuple[Tensor, Tensor, Tensor]:
    y, mask = _fake_pool(x, *window)
    return y, mask, torch.empty_like(mask)


def _fake_ada_vector_masks(x: Tensor, beta: Tensor, *window: Any) -> tuple[Tensor, Tensor, Tensor]:
    y, em = _fake_pool(x, *window)
    return y, _fake_pool(x, *window, shared=True)[1], em


def _fake_ada_pool_backward(
    grad: Tensor, g1: Tensor | None, g2: Tensor | None, x: Tensor, beta: Tensor, *window: Any
) -> tuple[Tensor, Tensor]:
    return new_map(x, x.shape[2:]), _fake_beta_grad(grad, grad.shape[2:], beta)


def _fake_unpool_backward(
    grad: Tensor,
    y: Tensor,
    mask: Tensor,
    mask_em: Tensor | None,
    beta: Tensor | None,
    *window: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    grad_y, grad_mask = new_map(y, y.shape[2:]), new_map(mask, mask.shape[2:])
    if mask_em is None or beta is None:
        return grad_y, grad_mask, y.new_empty(0), y.new_empty(0)
    grad_em = new_map(mask_em, mask_em.shape[2:])
    return grad_y, grad_mask, grad_em, _fake_beta_grad(y, y.shape[2:], beta)


_FAKES: dict[str, Callable[..., Any]] = {
    "ada_pool": lambda x, beta, *window: _fake_pool(x, *window)[0],
    "ada_pool_masks": _fake_ada_pool_masks,
    "ada_pool_backward": _fake_ada_pool_backward,
    "ada_unpool": lambda y, mask, mask_em, beta, size, *window: new_map(y, size),
    "ada_unpool_backward": _fake_unpool_backward,
    "ada_unpool_like": lambda y, x, beta, *window: new_map(y, x.shape[2:]),
    "ada_unpool_like_backward": lambda grad, y, x, beta, *window: (
        new_map(y, y.shape[2:]),
        new_map(x, x.shape[2:]),
        _fake_beta_grad(y, y.shape[2:], beta),
    ),
}
for _single in ("edscw_pool", "em_pool", "idw_pool"):
    _FAKES[_single] = lambda x, *window: _fake_pool(x, *window)[0]
    _FAKES[f"{_single}_masks"] = _fake_pool
    _FAKES[f"{_single}_backward"] = lambda grad, grad_mask, x, *window: new_map(x, x.shape[2:])
_FAKES["idw_pool_masks"] = lambda x, *window: _fake_pool(x, *window, shared=window[-1])
_FAKES["ada_pool_masks.vector"] = _fake_ada_vector_masks
_FAKES["edscw_pool_masks.vector"] = lambda x, *window: _fake_pool(x, *window, shared=True)


# --- autograd --------------------------------------------------------------------------------


def _save(tensors: int) -> Callable[[Any, tuple[Any, ...], Any], None]:
    """Keep the inputs, the first ``tensors`` of which are tensors or None.

    Backward recomputes the weights, so nothing else is stored.
    """

    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:tensors])
        ctx.rest = inputs[tensors:]
        ctx.output_shape = (output[0] if isinstance(output, tuple) else output).shape

    return save


def _saved(ctx: Any) -> tuple[Any, ...]:
    """The inputs as they came."""
    return *ctx.saved_tensors, *ctx.rest


def _run_backward(op: Any, *inputs: Any) -> Any:
    """A backward operator, below autograd unless its result is to be differentiated again."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return op(*inputs)
    with torch._C._AutoDispatchBelowAutograd():
        return op(*inputs)


def _for_beta(ctx: Any, place: int, grad: Tensor, beta: Tensor) -> Tensor | None:
    """Sum the operator's gradient (N, C, …) over what beta was broadcast along, if it is wanted."""
    if not ctx.needs_input_grad[place]:
        return None
    total = grad if grad.shape == beta.shape else grad.sum_to_size(beta.shape)
    return total if total.dtype == beta.dtype else total.to(beta.dtype)


def _output_grad(ctx: Any, grad: Tensor | None, x: Tensor) -> Tensor:
    """The gradient of the output, which is absent where only masks were used."""
    return x.new_zeros(ctx.output_shape) if grad is None else grad


def _pool_autograd(ops: Any, name: str) -> Callable[..., Any]:
    """The backward of a pooling, with masks or without."""
    packet, _, overload = name.partition(".")
    packet = packet.removesuffix("_masks")
    backward_op = _find(ops, f"{packet}_backward.{overload or 'default'}")
    ada = packet == "ada_pool"
    no_masks = (None,) * (2 if ada else 1)
    weight_grad = 6 if ada else 5  # its place among the arguments: x, (beta,) the window's four

    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        inputs = _saved(ctx)
        x = inputs[0]
        # Weights held constant carry no gradient: the masks' goes nowhere.
        extra = grads[1:] if len(grads) > 1 and inputs[weight_grad] else no_masks
        result = _run_backward(backward_op, _output_grad(ctx, grads[0], x), *extra, *inputs)
        if not ada:
            return result, *(None,) * (len(inputs) - 1)
        grad_x, grad_beta = result
        return grad_x, _for_beta(ctx, 1, grad_beta, inputs[1]), *(None,) * (len(inputs) - 2)

    return backward


def _unpool_autograd(ops: Any) -> Callable[..., Any]:
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
        inputs = _saved(ctx)
        mask_em, beta = inputs[2:4]
        nothing = (None,) * (len(inputs) - 4)
        if grad is None:
            return None, None, None, None, *nothing
        grads = _run_backward(ops.ada_unpool_backward.default, grad, *inputs)
        grad_y, grad_mask, grad_em, grad_beta = grads
        if mask_em is None or beta is None:
            return grad_y, grad_mask, None, None, *nothing
        return grad_y, grad_mask, grad_em, _for_beta(ctx, 3, grad_beta, beta), *nothing

    return backward


def _unpool_like_autograd(ops: Any, name: str) -> Callable[..., Any]:
    overload = name.partition(".")[2] or "default"
    backward_op = _find(ops, f"ada_unpool_like_backward.{overload}")

    def backward(ctx: Any, grad: Tensor | None) -> tuple[Any, ...]:
        inputs = _saved(ctx)
        nothing = (None,) * (len(inputs) - 3)
        if grad is None:
            return None, None, None, *nothing
        grad_y, grad_x, grad_beta = _run_backward(backward_op, grad, *inputs)
        return grad_y, grad_x, _for_beta(ctx, 2, grad_beta, inputs[2]), *nothing

    return backward


def _through_reference(function: Callable[..., Any]) -> Callable[..., Any]:
    """The derivative of a backward operator: that of the reference's own plain PyTorch."""

    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            inputs = [
                (v.view_as(v) if v.requires_grad and again else v.detach().requires_grad_())
                if isinstance(v, Tensor)
                else v
                for v in _saved(ctx)
            ]
            outputs = function(*inputs)
            pairs = zip(outputs if isinstance(outputs, tuple) else (outputs,), grads, strict=True)
            used = [(o, g) for o, g in pairs if g is not None and o.requires_grad]
            tensors = [v for v in inputs if isinstance(v, Tensor)]
            if not used:
                return (None,) * len(inputs)
            found = iter(
                torch.autograd.grad(
                    [o for o, _ in used],
                    tensors,
                    [g for _, g in used],
                    create_graph=again,
                    allow_unused=True,
                )
            )
        return tuple(next(found) if isinstance(v, Tensor) else None for v in inputs)

    return backward


# --- the short way ---------------------------------------------------------------------------

# By namespace, name, and whether it is the overload for vectors.
_DIRECT: dict[tuple[str, str, bool], tuple[Callable[..., Any], Callable[..., Any]]] = {}


def _direct(
    op: Any, save: Callable[..., None], backward: Callable[..., Any]
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The operator below autograd, and with an autograd function of its own.

    What ``register_autograd`` makes is found by every way into the dispatcher but costs 10 µs a
    call, and as much again with gradients: more than the kernel takes on a small map.
    """

    def plain(*inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return op(*inputs)

    class Direct(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> Any:
            output = plain(*inputs)
            save(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return backward(ctx, *grads)

    return plain, Direct.apply


def call(namespace: str, name: str, vector: bool, inputs: tuple[Any, ...]) -> Any:
    """Run the operator NAME, or its overload for vectors, the shortest way that is right.

    Raises:
        KeyError: no such operator.
    """
    if torch.compiler.is_compiling():
        packet = getattr(getattr(torch.ops, namespace), name)
        return packet.vector(*inputs) if vector else packet.default(*inputs)
    plain, differentiable = _DIRECT[namespace, name, vector]
    if torch.is_grad_enabled():
        for value in inputs:
            if isinstance(value, Tensor) and value.requires_grad:
                return differentiable(*inputs)
    return plain(*inputs)


def _register(namespace: str) -> torch.library.Library:
    library = torch.library.Library(namespace, "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    ops = getattr(torch.ops, namespace)
    for schema in SCHEMAS:
        name = _name(schema)
        kernels = [("CompositeExplicitAutograd", _twin(name))]
        # Autocast changes nothing: an operator runs in its input's dtype.
        kernels += [(f"Autocast{d}", torch.library.fallthrough_kernel) for d in ("CPU", "CUDA")]
        for key, kernel in kernels:
            library.impl(name, kernel, key)  # type: ignore[no-untyped-call]
        fake = _FAKES.get(name) or _FAKES[name.partition(".")[0]]
        torch.library.register_fake(f"{namespace}::{name}", fake, lib=library)
        packet = name.partition(".")[0]
        if packet.endswith("_backward"):
            backward = _through_reference(_twin(name))
        elif packet == "ada_unpool":
            backward = _unpool_autograd(ops)
        elif packet == "ada_unpool_like":
            backward = _unpool_like_autograd(ops, name)
        else:
            backward = _pool_autograd(ops, name)
        save = _save(tensors=schema.partition(" -> ")[0].count("Tensor"))
        torch.library.register_autograd(
            f"{namespace}::{name}", backward, setup_context=save, lib=library
        )
        packet, _, overload = name.partition(".")
        _DIRECT[namespace, packet, bool(overload)] = _direct(_find(ops, name), save, backward)
    return library


_LIBRARIES = [_register(namespace) for namespace in NAMESPACES]


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The operators of pooling and unpooling in plain PyTorch, for ``run_decompositions``.

    An exported program that was decomposed by them needs neither this package nor its kernels.
    """
    return {
        _find(getattr(torch.ops, namespace), name): _twin(name)
        for namespace in NAMESPACES
        for name in map(_name, SCHEMAS)
        if "_backward" not in name
    }
