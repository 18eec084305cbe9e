"""The pooling operators in plain PyTorch: what every kernel must compute, for any rank and device.

Source: Stergiou & Poppe, "AdaPool: Exponential Adaptive Pooling for Information-Retaining
Downsampling", IEEE TIP 32, 2023 (arXiv 2111.00772).

Each public function has the name and arguments of its operator in :mod:`adapool_sr.ops.library`;
``similarity`` is an argument of the overload ``vector`` alone, and "" there is none: every channel
has its own weights. Windows are handled as K *pieces* of the output's size, one for each position
inside the window (see :mod:`adapool_sr.ops.geometry`); what the methods differ in stands in
:mod:`adapool_sr.ops.reference.weighting`. Half precisions are computed in float32. ``beta`` has as
many dimensions as x, each 1 or the output's.
"""

from adapool_sr.ops.reference.pooling import (
    ada_pool,
    ada_pool_backward,
    ada_pool_masks,
    edscw_pool,
    edscw_pool_backward,
    edscw_pool_masks,
    em_pool,
    em_pool_backward,
    em_pool_masks,
    idw_pool,
    idw_pool_backward,
    idw_pool_masks,
)
from adapool_sr.ops.reference.unpooling import (
    ada_unpool,
    ada_unpool_backward,
    ada_unpool_like,
    ada_unpool_like_backward,
)

__all__ = [
    "ada_pool",
    "ada_pool_backward",
    "ada_pool_masks",
    "ada_unpool",
    "ada_unpool_backward",
    "ada_unpool_like",
    "ada_unpool_like_backward",
    "edscw_pool",
    "edscw_pool_backward",
    "edscw_pool_masks",
    "em_pool",
    "em_pool_backward",
    "em_pool_masks",
    "idw_pool",
    "idw_pool_backward",
    "idw_pool_masks",
]
