"""Putting AdaPool into other people's networks."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from adapool_sr.nn.pooling import AdaPool1d, AdaPool2d, AdaPool3d
from adapool_sr.ops.functional import Size

__all__ = ["POOLINGS", "Replacement", "Replacements", "replace_pooling"]

POOLINGS: tuple[type[nn.Module], ...] = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
)
"""The types that :func:`replace_pooling` looks for by default."""

_MAX = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_ADA = {1: AdaPool1d, 2: AdaPool2d, 3: AdaPool3d}


class Replacement(NamedTuple):
    """One module that matched.

    Attributes:
        name: its qualified name in the model, e.g. "layer1.0.pool"; of a shared one, the first.
        old: what stood there, as ``print`` shows it.
        new: what stands there now, likewise; None if it was left as it was.
        note: why it was left, or in what the new one differs beyond the weights; else "".
    """

    name: str
    old: str
    new: str | None
    note: str


class Replacements(NamedTuple):
    """What :func:`replace_pooling` did; ``print`` shows a line for each module.

    Attributes:
        changed: modules that were replaced.
        left: modules that matched and could not be.
    """

    changed: Sequence[Replacement]
    left: Sequence[Replacement]

    def __str__(self) -> str:
        """A line for each module."""
        lines = [
            f"{r.name}: {r.old} -> {r.new}" + (f" ({r.note})" if r.note else "")
            for r in self.changed
        ]
        lines += [f"{r.name}: {r.old} left: {r.note}" for r in self.left]
        return "\n".join(lines) or "nothing matched"


class _Left(Exception):
    """A module cannot be replaced; the message says why."""


def replace_pooling(
    model: nn.Module,
    types: Collection[type[nn.Module]] = POOLINGS,
    names: str | Sequence[str] = "*",
    *,
    beta: float | Tensor = 0.5,
    learnable: bool = True,
    granularity: str = "channel",
    weight_grad: bool = True,
) -> Replacements:
    """Swap max and average pooling of a network for AdaPool, in place.

    Each new module has a β of its own and keeps kernel, stride, padding and ceil_mode, so that
    every size stays what it was. A convolution with a stride, if its type is among ``types``, keeps
    its weights and becomes a convolution of stride 1 followed by AdaPool over windows of the
    stride; one of 1x1 pools first, which is less work. Its parameters get other names
    (``conv.weight`` becomes ``conv.0.weight``): load a checkpoint before.

    Only modules are seen, not calls such as ``F.max_pool2d`` in a ``forward``; global and adaptive
    pooling has no kernel and is no matter for AdaPool.

    Args:
        model: any module; training or not, on any device.
        types: exact types, subclasses are left and named: any of :data:`POOLINGS`, ``nn.Conv1d``,
            ``nn.Conv2d``, ``nn.Conv3d``.
        names: one or more patterns ("layer?.*", "*.pool") for qualified names.
        beta: the start value, as for :class:`adapool_sr.nn.AdaPool2d`.
        learnable: whether β is trained.
        granularity: "channel" or "vector".
        weight_grad: exact derivative, or the paper's proportional rule.

    Returns:
        What was changed, and what matched and was left, with the reason.

    Raises:
        TypeError: ``model`` is no module, or a type is none that can be replaced.
        ValueError: ``model`` is itself a module to replace, or beta is out of its range.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(3, 2, 1))
        >>> print(replace_pooling(net).changed[0].name)
        1
        >>> net(torch.rand(1, 3, 9, 9)).shape
        torch.Size([1, 8, 4, 4])
    """
    _check(model, types)
    patterns = [names] if isinstance(names, str) else list(names)
    options = {
        "beta": beta,
        "learnable": learnable,
        "granularity": granularity,
        "weight_grad": weight_grad,
    }
    first = next((t for t in (*model.parameters(), *model.buffers())), torch.empty(0))
    changed, left = [], []
    done: dict[nn.Module, nn.Module | None] = {}
    for parent, child, name, old in list(_matching(model, tuple(types), patterns)):
        if old in done:  # one module in several places stays one
            new = done[old]
        else:
            text = repr(old)
            try:
                new, note = _successor(old, types, options)
                new.to(first.device).train(old.training)
                changed.append(Replacement(name, text, _line(new), note))
            except _Left as reason:
                new = None
                left.append(Replacement(name, text, None, str(reason)))
            done[old] = new
        if new is not None:
            parent._modules[child] = new
    return Replacements(changed, left)


def _check(model: nn.Module, types: Collection[type[nn.Module]]) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    for kind in types:
        if kind not in (*POOLINGS, *_CONVOLUTIONS):
            raise TypeError(
                f"types must be pooling or convolution classes of torch.nn, got {kind!r}"
            )
    if isinstance(model, tuple(types)):
        raise ValueError(
            f"model is itself a {type(model).__name__}, which cannot be replaced in place; "
            "put it into a torch.nn.Sequential"
        )


def _line(module: nn.Module) -> str:
    """A module's repr in one line."""
    if isinstance(module, nn.Sequential):
        return " + ".join(map(repr, module))
    return repr(module)


def _matching(
    model: nn.Module, types: tuple[type[nn.Module], ...], patterns: list[str]
) -> Iterator[tuple[nn.Module, str, str, nn.Module]]:
    """(parent, name in it, qualified name, module) wherever rule and name match."""
    for prefix, parent in model.named_modules():
        for child, module in parent._modules.items():
            name = f"{prefix}.{child}" if prefix else child
            if not isinstance(module, types) or not any(fnmatchcase(name, p) for p in patterns):
                continue
            if not isinstance(module, _CONVOLUTIONS) or max(module.stride) > 1:
                yield parent, child, name, module


def _tuple(value: Size, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


# The attributes of ``old`` are those of its type, which the caller has checked.
def _successor(
    old: Any, types: Collection[type[nn.Module]], options: dict[str, Any]
) -> tuple[nn.Module, str]:
    """The module that takes the place of ``old``, and a note."""
    if type(old) not in types:
        raise _Left("a subclass, whose forward may do more")
    rank = int(type(old).__name__[-2])
    if isinstance(old, _CONVOLUTIONS):
        return _pooled_convolution(old, rank, options)
    if old._forward_hooks or old._forward_pre_hooks or old._backward_hooks:
        raise _Left("it has hooks, which would be lost")
    note = ""
    if isinstance(old, _MAX):
        if max(_tuple(old.dilation, rank)) > 1:
            raise _Left(f"AdaPool has no dilation, got {old.dilation}")
        if old.return_indices:
            raise _Left("it returns indices; AdaPool has masks instead")
    elif max(_tuple(old.padding, rank)) > 0 and old.count_include_pad:
        note = "the padding no longer counts as zeros"
    elif getattr(old, "divisor_override", None):
        note = "without divisor_override: the weights sum to 1"
    new = _ADA[rank](old.kernel_size, old.stride, old.padding, old.ceil_mode, **options)
    return new, note


def _pooled_convolution(old: Any, rank: int, options: dict[str, Any]) -> tuple[nn.Module, str]:
    """A convolution without its stride, and AdaPool over windows of the stride.

    ``floor((n−1)/s)+1`` positions that the stride keeps are as many windows as ceil_mode counts.
    """
    stride = tuple(old.stride)
    pool = _ADA[rank](stride, ceil_mode=True, **options)
    old.stride = (1,) * rank
    small = max(old.kernel_size) == 1 and max(_tuple(old.padding, rank)) == 0
    return nn.Sequential(*((pool, old) if small else (old, pool))), f"stride {stride} was pooling's"
