"""Input scaling inside the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from blsm.blocks.base import SIZE, BlockConfig, parameter
from blsm.blocks.registry import register_block
from blsm.domains import Choice, Integers, SameAs
from blsm.operators import Cursor, Tensor


@register_block
@dataclass(frozen=True)
class Rescale(BlockConfig):
    """Keras' Rescaling (without and with an offset) and Normalization layers."""

    family: ClassVar[str] = "rescale"

    height: int = parameter(SIZE, cifar10=Integers(4, 64, step=4), imagenet=Integers(32, 512, step=16))
    width: int = parameter(SIZE, cifar10=SameAs("height"))
    in_channels: int = parameter(Integers(1, 64), cifar10=Choice(1, 3, 4))
    mode: str = parameter(Choice("scale", "scale_offset", "normalization"))

    def operators(self, x: Tensor) -> Tensor:
        return x.rescale(self.mode)

    @classmethod
    def guess(cls, x: Cursor) -> Self:
        height, width, in_channels = x.image_shape
        return cls(height=height, width=width, in_channels=in_channels, mode=x.walk("rescale")["mode"])
