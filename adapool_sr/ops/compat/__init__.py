"""The names and signatures of the authors' code (github.com/alexandrosstergiou/adaPool) over ours.

For people and checkpoints that come from there: write ``from adapool_sr.ops.compat import …`` for
``from adaPool import …``. The formulas are the paper's; what was wrong there is mended here. Masks
have a channel dimension, belong to their call and carry gradients; β is kept in [0, 1], starts
nowhere at exactly 0 and gets its gradient with ``native=True`` too; nothing hides a NaN or changes
the caller's tensor; any device and float dtype will do.

A mask lies window by window (see :class:`adapool_sr.ops.PoolMasks`), which for windows side by side
is the input pixel for pixel; for other strides there is none here, ask :mod:`adapool_sr.ops`.
"""

from adapool_sr.ops.compat.checkpoints import convert_state_dict
from adapool_sr.ops.compat.functions import (
    adapool1d,
    adapool2d,
    adapool3d,
    adaunpool,
    edscwpool1d,
    edscwpool2d,
    edscwpool3d,
    empool1d,
    empool2d,
    empool3d,
    idwpool1d,
    idwpool2d,
    idwpool3d,
)
from adapool_sr.ops.compat.modules import (
    AdaPool1d,
    AdaPool2d,
    AdaPool3d,
    AdaUnpool1d,
    AdaUnpool2d,
    AdaUnpool3d,
    EDSCWPool1d,
    EDSCWPool2d,
    EDSCWPool3d,
    EMPool1d,
    EMPool2d,
    EMPool3d,
    IDWPool1d,
    IDWPool2d,
    IDWPool3d,
)

__all__ = [
    "AdaPool1d",
    "AdaPool2d",
    "AdaPool3d",
    "AdaUnpool1d",
    "AdaUnpool2d",
    "AdaUnpool3d",
    "EDSCWPool1d",
    "EDSCWPool2d",
    "EDSCWPool3d",
    "EMPool1d",
    "EMPool2d",
    "EMPool3d",
    "IDWPool1d",
    "IDWPool2d",
    "IDWPool3d",
    "adapool1d",
    "adapool2d",
    "adapool3d",
    "adaunpool",
    "convert_state_dict",
    "edscwpool1d",
    "edscwpool2d",
    "edscwpool3d",
    "empool1d",
    "empool2d",
    "empool3d",
    "idwpool1d",
    "idwpool2d",
    "idwpool3d",
]
