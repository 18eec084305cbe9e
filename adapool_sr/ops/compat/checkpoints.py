"""Checkpoints of the authors' modules: see :mod:`adapool_sr.ops.compat`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["convert_state_dict"]


def convert_state_dict(
    state: Mapping[str, Tensor],
    *,
    learnable: bool = True,
    names: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """A checkpoint of the authors' modules for those of :mod:`adapool_sr.nn`.

    Every raw ``….beta`` becomes the ``….logit`` of a learnable ``AdaPool2d`` (or 1d, 3d) or its
    ``….fixed_beta``; everything else stays. The authors' training let β leave [0, 1]; their forward
    meant to clamp it, so that is done. A logit cannot hold 0 or 1: there β becomes 0.001 or 0.999.
    The modules' class here, with the raw ``beta``, takes an old checkpoint as it is.

    Args:
        state: of the authors' network, tensors by name.
        learnable: whether the poolings that take it are.
        names: of the poolings, where other modules have a ``beta`` too; None: all.

    Returns:
        A new dictionary; the tensors that stay are the same.

    Raises:
        KeyError: a name has no ``beta`` in the checkpoint.

    Example:
        >>> sorted(convert_state_dict({"pool.beta": torch.rand(4, 4), "conv.bias": torch.zeros(3)}))
        ['conv.bias', 'pool.logit']
    """
    betas = [key for key in state if key == "beta" or key.endswith(".beta")]
    if names is not None:
        betas = [f"{name}.beta" if name else "beta" for name in names]
        for key in betas:
            if key not in state:
                raise KeyError(f"{key!r} is not in the checkpoint")
    found = {}
    for key, value in state.items():
        if key not in betas:
            found[key] = value
        elif learnable:
            found[f"{key.removesuffix('beta')}logit"] = torch.logit(value.clamp(0.001, 0.999))
        else:
            found[f"{key.removesuffix('beta')}fixed_beta"] = value.clamp(0.0, 1.0)
    return found
