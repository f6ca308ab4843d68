"""The function that turns logits into probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from blsm.blocks.base import BlockConfig, parameter
from blsm.blocks.registry import register_block
from blsm.domains import Choice, Integers
from blsm.operators import Cursor, NoMatch, Tensor


@register_block
@dataclass(frozen=True)
class Output(BlockConfig):
    """Softmax or sigmoid over a vector of logits. A family of its own because it is optional, and not free."""

    family: ClassVar[str] = "output"

    in_channels: int = parameter(Integers(1, 100_000), cifar10=Integers(1, 1000, log=True))
    activation: str = parameter(Choice("softmax", "sigmoid"), default="softmax")

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (self.in_channels,)

    def operators(self, x: Tensor) -> Tensor:
        return x.activation(self.activation)

    @classmethod
    def guess(cls, x: Cursor) -> Self:
        if len(x.shape) != 1:
            raise NoMatch
        return cls(in_channels=x.shape[0], activation=x.walk("activation")["function"])
