"""MobileNet's inverted residual block."""

from __future__ import annotations

from collections.abc import Iterator
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


@register_block
@dataclass(frozen=True)
class MBConv(BlockConfig):
    """Inverted residual with linear bottleneck (Sandler et al. 2018), squeeze-and-excitation as in MobileNetV3.

    Expand 1x1 (absent when expand_ratio is 1), depthwise, squeeze-and-excitation (absent when se_ratio is 0), project
    1x1, each convolution batch-normalised; the residual is present when strides is 1 and the channels agree. The
    excitation squeezes the expanded channels by se_ratio, with relu inside and hard_sigmoid as gate (Howard et al.
    2019, Section 5.3).
    """

    family: ClassVar[str] = "mbconv"

    height: int = parameter(SIZE, cifar10=CIFAR10_SIZE, imagenet=IMAGENET_SIZE)
    width: int = parameter(SIZE, cifar10=SameAs("height"))
    in_channels: int = parameter(CHANNELS, cifar10=CIFAR10_CHANNELS, imagenet=IMAGENET_CHANNELS)
    filters: int = parameter(CHANNELS, cifar10=CIFAR10_CHANNELS, imagenet=IMAGENET_CHANNELS)
    kernel_size: int = parameter(Choice(3, 5, 7))
    strides: int = parameter(Choice(1, 2))
    expand_ratio: int = parameter(Integers(1, 10), cifar10=Integers(1, 6))
    se_ratio: float = parameter(Choice(0.0, 0.25, 0.5), default=0.0)
    activation: str = parameter(Choice(*ACTIVATIONS), default="relu6")

    def operators(self, x: Tensor) -> Tensor:
        expanded = self.in_channels * self.expand_ratio
        y = x
        if self.expand_ratio != 1:
            y = y.conv(expanded, role="expand").batch_norm().activation(self.activation)
        y = y.depthwise_conv(self.kernel_size, self.strides).batch_norm().activation(self.activation)
        if self.se_ratio != 0:
            squeezed = expanded // round(1 / self.se_ratio)
            gate = y.global_pool(keepdims=True).conv(squeezed, use_bias=True, role="squeeze").activation("relu")
            y = y.multiply(gate.conv(expanded, use_bias=True, role="excite").activation("hard_sigmoid"))
        y = y.conv(self.filters, role="project").batch_norm()
        if self.strides == 1 and self.in_channels == self.filters:
            y = y.add(x)
        return y

    @classmethod
    def guess(cls, x: Cursor) -> Iterator[Self]:
        height, width, in_channels = x.image_shape
        expand = ("conv", "batch_norm", "activation")
        depthwise = x.walk(*expand if x.can_walk(*expand, "depthwise_conv") else (), "depthwise_conv")
        active = depthwise.walk("batch_norm", "activation")
        excited = active.can_walk("global_pool")
        # The squeezed width is rounded down, so that the ratio is tried and not computed.
        for se_ratio in (0.25, 0.5) if excited else (0.0,):
            yield cls(
                height=height,
                width=width,
                in_channels=in_channels,
                filters=(active.walk("multiply") if excited else active).walk("conv").shape[-1],
                kernel_size=depthwise["kernel_size"],
                strides=depthwise["strides"],
                expand_ratio=active.shape[-1] // in_channels,
                se_ratio=se_ratio,
                activation=active["function"],
            )
