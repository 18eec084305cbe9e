"""Building blocks of networks."""

from adapool_sr.nn.blocks import ResidualBlock, conv3x3
from adapool_sr.nn.pooling import AdaPool2d, AdaUnpool2d, EDSCWPool2d, EMPool2d

__all__ = [
    "AdaPool2d",
    "AdaUnpool2d",
    "EDSCWPool2d",
    "EMPool2d",
    "ResidualBlock",
    "conv3x3",
]
