"""Residual blocks, version 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

from blsm.blocks.base import CHANNELS, CIFAR10_SIZE, IMAGENET_CHANNELS, IMAGENET_SIZE, SIZE, BlockConfig, parameter
from blsm.blocks.registry import register_block
from blsm.domains import Choice, Integers, SameAs
from blsm.operators import Cursor, Tensor

#: A bottleneck's output is wider than its middle by this factor (He et al. 2015, Table 1).
EXPANSION = 4

#: One layer of the main path, as a path of operators.
_LAYER = ("conv", "batch_norm", "activation")

_IN_CHANNELS = Integers(8, 512, step=8, log=True)
_FILTERS = Integers(8, 128, step=8, log=True)


@dataclass(frozen=True)
class _Residual(BlockConfig):
    height: int = parameter(SIZE, cifar10=CIFAR10_SIZE, imagenet=IMAGENET_SIZE)
    width: int = parameter(SIZE, cifar10=SameAs("height"))
    in_channels: int = parameter(CHANNELS, cifar10=_IN_CHANNELS, imagenet=IMAGENET_CHANNELS)
    filters: int = parameter(CHANNELS, cifar10=_FILTERS, imagenet=Integers(8, 512, step=8, log=True))
    kernel_size: int = parameter(Choice(3, 5, 7))
    strides: int = parameter(Choice(1, 2))
    bottleneck: bool = parameter(Choice(False, True), default=False)

    @property
    def out_channels(self) -> int:
        """Channels of the output: filters, or 4 x filters with a bottleneck."""
        return self.filters * EXPANSION if self.bottleneck else self.filters

    def keeps_shape(self) -> bool:
        """Whether the shortcut is the identity; otherwise it is a 1x1 convolution (option B of He et al. 2015)."""
        return self.strides == 1 and self.in_channels == self.out_channels


@register_block
@dataclass(frozen=True)
class ResV1(_Residual):
    """Residual block of ResNet (He et al. 2015): activation after the addition.

    Two convolutions of kernel_size, or with bottleneck 1x1, kernel_size, 1x1 with 4 x filters at the end, each
    batch-normalised; the first convolution has the strides. A shortcut that changes shape is a 1x1 convolution.
    """

    family: ClassVar[str] = "res_v1"

    def operators(self, x: Tensor) -> Tensor:
        if self.bottleneck:
            y = x.conv(self.filters, 1, self.strides, role="reduce").batch_norm().activation("relu")
            y = y.conv(self.filters, self.kernel_size, role="middle").batch_norm().activation("relu")
            y = y.conv(self.out_channels, 1, role="restore").batch_norm()
        else:
            y = x.conv(self.filters, self.kernel_size, self.strides, role="first").batch_norm().activation("relu")
            y = y.conv(self.filters, self.kernel_size, role="second").batch_norm()
        shortcut = x
        if not self.keeps_shape():
            shortcut = x.conv(self.out_channels, 1, self.strides, role="shortcut").batch_norm()
        return y.add(shortcut).activation("relu")

    @classmethod
    def guess(cls, x: Cursor) -> Iterator[Self]:
        height, width, in_channels = x.image_shape
        for bottleneck in (False, True):
            kinds = (*_LAYER * (1 + bottleneck), "conv", "batch_norm", "add")
            if x.can_walk(*kinds):
                first, _, _, second, *_ = x.path(*kinds)
                yield cls(
                    height=height,
                    width=width,
                    in_channels=in_channels,
                    filters=first.shape[-1],
                    kernel_size=second["kernel_size"],
                    strides=first["strides"],
                    bottleneck=bottleneck,
                )


@register_block
@dataclass(frozen=True)
class ResV2(_Residual):
    """Residual block of ResNet V2 (He et al. 2016): pre-activation, identity mapping.

    Batch normalisation and relu come before each convolution: two of kernel_size, or with bottleneck 1x1, kernel_size,
    1x1 with 4 x filters at the end. The strides are in the first convolution of kernel_size. A shortcut that changes
    shape is a 1x1 convolution of the pre-activated input.
    """

    family: ClassVar[str] = "res_v2"

    def operators(self, x: Tensor) -> Tensor:
        active = x.batch_norm().activation("relu")
        if self.bottleneck:
            y = active.conv(self.filters, 1, role="reduce").batch_norm().activation("relu")
            y = y.conv(self.filters, self.kernel_size, self.strides, role="middle").batch_norm().activation("relu")
            y = y.conv(self.out_channels, 1, role="restore")
        else:
            y = active.conv(self.filters, self.kernel_size, self.strides, role="first").batch_norm().activation("relu")
            y = y.conv(self.filters, self.kernel_size, role="second")
        return y.add(x if self.keeps_shape() else active.conv(self.out_channels, 1, self.strides, role="shortcut"))

    @classmethod
    def guess(cls, x: Cursor) -> Iterator[Self]:
        height, width, in_channels = x.image_shape
        active = x.walk("batch_norm", "activation")
        for bottleneck in (False, True):
            kinds = (*_LAYER * (1 + bottleneck), "conv", "add")
            if active.can_walk(*kinds):
                first, _, _, second, *_ = active.path(*kinds)
                strided = second if bottleneck else first
                yield cls(
                    height=height,
                    width=width,
                    in_channels=in_channels,
                    filters=first.shape[-1],
                    kernel_size=strided["kernel_size"],
                    strides=strided["strides"],
                    bottleneck=bottleneck,
                )
