"""Building blocks of networks."""

from adapool_sr.nn.blocks import ResidualBlock, conv3x3
from adapool_sr.nn.pooling import (
    AdaPool1d,
    AdaPool2d,
    AdaPool3d,
    AdaUnpool1d,
    AdaUnpool2d,
    AdaUnpool3d,
)
from adapool_sr.nn.weighted import (
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
    "ResidualBlock",
    "conv3x3",
]
