"""Self-ensemble: the mean of a network's results over the eight flips and turns of its input."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

__all__ = ["TURNS", "self_ensembled"]

TURNS = 8
_FLIPS: tuple[tuple[int, ...], ...] = ((), (1,), (2,), (1, 2))  # of (C, H, W)


def self_ensembled(x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Average ``run`` over the eight flips and turns of a picture, each turned back, in float.

    The "geometric self-ensemble" of Lim et al., "Enhanced Deep Residual Networks for Single Image
    Super-Resolution", CVPRW 2017, section 3.4.

    Args:
        x: (C, H, W) float.
        run: takes (C, H, W) or (C, W, H) and gives a new float picture, enlarged alike both ways.

    Returns:
        The mean of the eight, contiguous, of the dtype that ``run`` gives.
    """
    total = run(x)
    for turned in (False, True):
        for flips in _FLIPS:
            if turned or flips:
                y = run((x.transpose(1, 2) if turned else x).flip(flips)).flip(flips)
                total += y.transpose(1, 2) if turned else y
    return total.div_(TURNS)
