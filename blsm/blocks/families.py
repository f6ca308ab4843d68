"""The built-in families; importing this module registers them in this order."""

from blsm.blocks.conv import Conv
from blsm.blocks.head import Head
from blsm.blocks.mbconv import MBConv
from blsm.blocks.output import Output
from blsm.blocks.rescale import Rescale
from blsm.blocks.resnet import ResV1, ResV2

__all__ = ["Conv", "Head", "MBConv", "Output", "ResV1", "ResV2", "Rescale"]
