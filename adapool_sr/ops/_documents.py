"""The documentation of the functions, one text a method for all numbers of dimensions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TypeVar

__all__ = ["ADA", "EDSCW", "EM", "IDW", "UNPOOL", "documented"]

Function = TypeVar("Function", bound=Callable[..., object])

_SPACES = {1: ["L"], 2: ["H", "W"], 3: ["D", "H", "W"]}


def documented(name: str, rank: int, text: str) -> Callable[[Function], Function]:
    """Give a function its name and the text, whose signs stand for shapes of ``rank``."""
    space = _SPACES[rank]
    signs = {
        "NAME": name,
        "RANK": str(rank),
        "SPACE": ", ".join(space),
        "OUT": ", ".join(f"o{n}" for n in space),
        "KERNEL": ", ".join(f"k{n}" for n in space),
        "MASK": ", ".join(f"o{n}·k{n}" for n in space),
        "ONES": ", ".join("1" for _ in space),
        "FOURS": ", ".join("4" for _ in space),
        "FIVES": ", ".join("5" for _ in space),
        "TWOS": ", ".join("2" for _ in space),
        "THREES": ", ".join("3" for _ in space),
    }

    def name_it(function: Function) -> Function:
        words = inspect.cleandoc(text)
        for sign, meaning in signs.items():
            words = words.replace(f"<{sign}>", meaning)
        function.__name__ = function.__qualname__ = name
        function.__doc__ = words
        return function

    return name_it


_WINDOW = """\
    kernel_size: window size, one int or (<KERNEL>).
        stride: step between windows; None: the kernel's.
        padding: positions beside the map that windows may cover, at most half the kernel; they
            take no part in anything.
        ceil_mode: let a last window stick out, as in ``F.avg_pool<RANK>d``."""

_GRADIENT = """\
    weight_grad: True for the exact derivative, False for the paper's proportional rule, which
            holds the weights constant."""

_MASK = """\
    return_masks: also return the weights, window by window: (N, C, <MASK>)."""

ADA = f"""
    Adaptive exponential pooling: β·eDSCW + (1−β)·eM (Stergiou & Poppe 2023, AdaPool).

    Args:
        x: (N, C, <SPACE>) or (C, <SPACE>), float16, bfloat16, float32 or float64, any strides and
            range.
        beta: a float, or a tensor of x's dtype and device that broadcasts to the output: (),
            (C, <ONES>), (<OUT>), (C, <OUT>), (N, 1, <OUT>), …; used as given, 1 is eDSCW, 0 is eM.
    {_WINDOW}
        granularity: "channel": every channel has its own weights; "vector": the eDSCW part weighs
            whole channel vectors, its mask has one channel.
        similarity: of vectors: "dsc", "cosine" or "pce".
    {_GRADIENT}
        return_masks: also return the weights and beta, for ``adaunpool<RANK>d``.

    Returns:
        y (N, C, <OUT>), or (y, PoolMasks); dtype, device and memory format of x.

    Raises:
        TypeError: x is no float tensor, or beta of another dtype or kind.
        ValueError: wrong rank, a geometry that cannot be, beta that doesn't broadcast or is on
            another device, an unknown name.

    Example:
        >>> import torch
        >>> from adapool_sr.ops import <NAME>, adaunpool<RANK>d
        >>> y, masks = <NAME>(torch.rand(1, 3, <FIVES>), 0.5, ceil_mode=True, return_masks=True)
        >>> y.shape, adaunpool<RANK>d(y, masks, gain="area").shape
        (torch.Size([1, 3, <THREES>]), torch.Size([1, 3, <FIVES>]))
"""

EDSCW = f"""
    Pool by the exponential Dice-Sørensen similarity of each value to its window's mean.

    w = softmax over the window of 2·|x·m| / (x² + m²), y = Σ w·x (Stergiou & Poppe 2023, eDSCW).

    Args:
        x: (N, C, <SPACE>) or (C, <SPACE>), float16, bfloat16, float32 or float64, any strides and
            range.
    {_WINDOW}
        granularity: "channel": every channel has its own weights; "vector": one weight for the
            whole channel vector of a position.
        similarity: of vectors a and b: "dsc" 2·|a·b| / (‖a‖² + ‖b‖²), "cosine" a·b / (‖a‖·‖b‖) or
            "pce" a·b / (‖a‖² + ‖b‖² − a·b).
    {_GRADIENT}
    {_MASK}
            One channel at granularity "vector".

    Returns:
        y (N, C, <OUT>), or (y, mask); dtype, device and memory format of x.

    Raises:
        TypeError: x is no float tensor, or an argument is of the wrong kind.
        ValueError: wrong rank, a geometry that cannot be, an unknown name.

    Example:
        >>> import torch
        >>> from adapool_sr.ops import <NAME>
        >>> <NAME>(torch.ones(1, 3, <FOURS>)).shape
        torch.Size([1, 3, <TWOS>])
"""

EM = f"""
    Pool by the softmax of the values themselves (exponential maximum, SoftPool).

    w = softmax over the window of x, y = Σ w·x (Stergiou & Poppe 2023, eM).

    Args:
        x: (N, C, <SPACE>) or (C, <SPACE>), float16, bfloat16, float32 or float64, any strides and
            range.
    {_WINDOW}
        granularity: "channel" or "vector": eM is per channel in either case.
    {_GRADIENT}
    {_MASK}

    Returns:
        y (N, C, <OUT>), or (y, mask); dtype, device and memory format of x.

    Raises:
        TypeError: x is no float tensor, or an argument is of the wrong kind.
        ValueError: wrong rank, or a geometry that cannot be.

    Example:
        >>> import torch
        >>> from adapool_sr.ops import <NAME>
        >>> <NAME>(torch.zeros(3, <FOURS>), kernel_size=3, stride=2, padding=1).shape
        torch.Size([3, <TWOS>])
"""

IDW = f"""
    Pool by the inverse distance of each value to its window's mean.

    w = (1/d) / Σ (1/d) over the window, y = Σ w·x (Stergiou & Poppe 2023, IDW).

    Args:
        x: (N, C, <SPACE>) or (C, <SPACE>), float16, bfloat16, float32 or float64, any strides and
            range.
    {_WINDOW}
        granularity: "channel": every channel has its own weights; "vector": one weight for the
            whole channel vector of a position.
        distance: "l1", "l2", "huber" or "chebyshev"; at granularity "channel" all but "huber" are
            |x − m|.
        delta: of "huber", δ²·(√(1 + (d/δ)²) − 1) with d the l2 distance.
        zero_distance: where some distances are 0: "limit", these positions share the weight (the
            limit of the formula), or "drop", they weigh 0 and the others share by 1/d (the
            paper's; equal weights where all are 0). The weights of such windows are constants for
            the gradient.
    {_GRADIENT}
    {_MASK}
            One channel at granularity "vector".

    Returns:
        y (N, C, <OUT>), or (y, mask); dtype, device and memory format of x.

    Raises:
        TypeError: x is no float tensor, or an argument is of the wrong kind.
        ValueError: wrong rank, a geometry that cannot be, an unknown name, delta not positive.

    Example:
        >>> import torch
        >>> from adapool_sr.ops import <NAME>
        >>> <NAME>(torch.rand(2, 3, <FOURS>), distance="huber", delta=0.5).shape
        torch.Size([2, 3, <TWOS>])
"""

UNPOOL = """
    Spread pooled values over their windows by the encoder's weights (AdaUnpool).

    u(p) = gain·Σ over windows R that contain p of y_R·(β_R·w^eDSCW_R(p) + (1−β_R)·w^eM_R(p)); 0
    where no window lies. Three ways to give the weights:

    - ``masks`` from ``adapool<RANK>d(…, return_masks=True)``: they know their geometry and beta;
    - ``masks``, one plain tensor of ``edscwpool<RANK>d``, ``empool<RANK>d`` or ``idwpool<RANK>d``,
      with the window's arguments and ``output_size`` (None: the size that the windows just fill);
    - ``like``, the map that was pooled, with ``beta`` and the window's arguments: the weights are
      recomputed and nothing need be kept.

    Args:
        y: (N, C, <OUT>) or (C, <OUT>), float16, bfloat16, float32 or float64, any range.
        masks: PoolMasks, or one mask (N, C, <MASK>) of y's dtype and device; one channel serves
            all.
        like: (N, C, <SPACE>) or (C, <SPACE>), dtype and device of y.
        beta: as in ``adapool<RANK>d``; only with ``like``.
        kernel_size: window size, 2 where left out; not with PoolMasks.
        stride: step between windows; None: the kernel's.
        padding: as in the pooling.
        ceil_mode: as in the pooling.
        output_size: (<SPACE>) of the result; only with one plain mask.
        granularity: as in the pooling; only ``like`` asks for it.
        similarity: likewise.
        weight_grad: False holds the weights that ``like`` gives constant.
        gain: 1 keeps a window's sum (the paper's rule), K its mean; "area" weighs by the windows'
            and the overlaps' sizes, so that flat maps stay flat in any geometry.

    Returns:
        (N, C, <SPACE>) or (C, <SPACE>); dtype, device and memory format of y.

    Raises:
        TypeError: no float tensors, different dtypes, or arguments of the wrong kind.
        ValueError: shapes that don't fit, different devices, a gain that is not positive and
            finite, or arguments that don't go together.

    Example:
        >>> import torch
        >>> from adapool_sr.ops import adapool<RANK>d, <NAME>
        >>> x = torch.rand(1, 3, <FIVES>)
        >>> y = adapool<RANK>d(x, 0.5, 2, ceil_mode=True)
        >>> <NAME>(y, like=x, beta=0.5, kernel_size=2, ceil_mode=True, gain="area").shape
        torch.Size([1, 3, <FIVES>])
"""
