"""The stem: convolution, batch normalisation, activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from blsm.blocks.base import (
    ACTIVATIONS,
    CHANNELS,
    CIFAR10_CHANNELS,
    CIFAR10_SIZE,
    IMAGENET_CHANNELS,
    IMAGENET_SIZE,
    SIZE,
    BlockConfig,
    parameter,
)
from blsm.blocks.registry import register_block
from blsm.domains import Choice, Integers, SameAs
from blsm.operators import Cursor, Tensor

#: Images have 1 or 3 channels; the others are for the last convolution.
_STEM = Choice(1, 3, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)


@register_block
@dataclass(frozen=True)
class Conv(BlockConfig):
    """Convolution, batch normalisation and activation: a network's stem, or its last 1x1 convolution."""

    family: ClassVar[str] = "conv"

    height: int = parameter(SIZE, cifar10=CIFAR10_SIZE, imagenet=IMAGENET_SIZE)
    width: int = parameter(SIZE, cifar10=SameAs("height"))
    in_channels: int = parameter(Integers(1, 4096), cifar10=_STEM, imagenet=Choice(*_STEM.values, 320, 512, 1024))
    filters: int = parameter(CHANNELS, cifar10=CIFAR10_CHANNELS, imagenet=IMAGENET_CHANNELS)
    kernel_size: int = parameter(Choice(1, 3, 5, 7))
    strides: int = parameter(Choice(1, 2))
    activation: str = parameter(Choice(*ACTIVATIONS), default="relu")

    def operators(self, x: Tensor) -> Tensor:
        return x.conv(self.filters, self.kernel_size, self.strides).batch_norm().activation(self.activation)

    @classmethod
    def guess(cls, x: Cursor) -> Self:
        height, width, in_channels = x.image_shape
        conv, _, active = x.path("conv", "batch_norm", "activation")
        return cls(
            height=height,
            width=width,
            in_channels=in_channels,
            filters=conv.shape[-1],
            kernel_size=conv["kernel_size"],
            strides=conv["strides"],
            activation=active["function"],
        )
