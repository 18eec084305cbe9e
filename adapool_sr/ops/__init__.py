"""The pooling operators: functions over dispatcher operators, with native kernels where built.

They need nothing but torch. ``adapool``, ``edscwpool``, ``empool`` and ``idwpool`` shrink maps,
``adaunpool`` enlarges them again by the weights of the shrinking; each in one, two and three
dimensions. :mod:`adapool_sr.ops.compat` has the names and signatures of the authors' code.
"""

from adapool_sr.ops.functional import PoolMasks
from adapool_sr.ops.geometry import Geometry
from adapool_sr.ops.pools import (
    adapool1d,
    adapool2d,
    adapool3d,
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
from adapool_sr.ops.unpools import adaunpool1d, adaunpool2d, adaunpool3d

__all__ = [
    "Geometry",
    "PoolMasks",
    "adapool1d",
    "adapool2d",
    "adapool3d",
    "adaunpool1d",
    "adaunpool2d",
    "adaunpool3d",
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
