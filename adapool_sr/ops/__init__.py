"""The pooling operators: functions over dispatcher operators, with native kernels where built."""

from adapool_sr.ops.functional import PoolMasks, adapool2d, adaunpool2d, edscwpool2d, empool2d
from adapool_sr.ops.geometry import Geometry

__all__ = ["Geometry", "PoolMasks", "adapool2d", "adaunpool2d", "edscwpool2d", "empool2d"]
