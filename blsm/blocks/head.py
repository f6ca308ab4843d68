"""The classifier: global average pooling and a dense layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from blsm.blocks.base import CHANNELS, CIFAR10_SIZE, IMAGENET_CHANNELS, IMAGENET_SIZE, SIZE, BlockConfig, parameter
from blsm.blocks.registry import register_block
from blsm.domains import Integers, SameAs
from blsm.operators import Cursor, Tensor


@register_block
@dataclass(frozen=True)
class Head(BlockConfig):
    """Global average pooling and a dense layer that gives the logits; a softmax after it is the family `output`."""

    family: ClassVar[str] = "head"

    height: int = parameter(SIZE, cifar10=CIFAR10_SIZE, imagenet=IMAGENET_SIZE)
    width: int = parameter(SIZE, cifar10=SameAs("height"))
    in_channels: int = parameter(CHANNELS, cifar10=Integers(8, 512, step=8, log=True), imagenet=IMAGENET_CHANNELS)
    units: int = parameter(Integers(1, 100_000), cifar10=Integers(2, 1000, log=True))

    def operators(self, x: Tensor) -> Tensor:
        return x.global_pool().dense(self.units)

    @classmethod
    def guess(cls, x: Cursor) -> Self:
        height, width, in_channels = x.image_shape
        pooled = x.walk("global_pool")
        # Fully convolutional classifiers spell the dense layer as a 1x1 convolution.
        logits = pooled.walk("dense" if pooled.can_walk("dense") else "conv")
        return cls(height=height, width=width, in_channels=in_channels, units=logits.shape[-1])
