from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self

import pytest

import blsm
from blsm.blocks import registry
from blsm.errors import DomainError, UnknownBlockError
from blsm.features import Features
from blsm.operators import Cursor, Tensor


@pytest.fixture
def fire() -> Iterator[blsm.BlockFamily]:
    """A user's own family: squeeze, then two kinds of kernel added."""

    @blsm.register_block
    @dataclass(frozen=True)
    class Fire(blsm.BlockConfig):
        """Squeeze and expand."""

        family: ClassVar[str] = "fire"

        height: int = blsm.parameter(blsm.Integers(1, 64))
        width: int = blsm.parameter(blsm.Integers(1, 64))
        in_channels: int = blsm.parameter(blsm.Integers(1, 256))
        squeeze: int = blsm.parameter(blsm.Integers(1, 64))
        filters: int = blsm.parameter(blsm.Integers(1, 256))

        def operators(self, x: Tensor) -> Tensor:
            y = x.conv(int(self.squeeze), role="squeeze").activation("relu")  # int(): not for arrays
            return y.conv(self.filters, 1, role="one").add(y.conv(self.filters, 3, role="three"))

        @classmethod
        def guess(cls, x: Cursor) -> Self:
            height, width, in_channels = x.image_shape
            squeeze, _, expand, _ = x.path("conv", "activation", "conv", "add")
            return cls(height, width, in_channels, squeeze.shape[-1], expand.shape[-1])

    yield blsm.block_family("fire")
    del registry._families["fire"]


def test_an_unknown_family_names_the_closest() -> None:
    with pytest.raises(UnknownBlockError, match=r"must be one of .*res_v1.*did you mean 'mbconv'"):
        blsm.block_family("mbconvv")


def test_builtin_families_come_first() -> None:
    assert {"mbconv", "res_v1", "res_v2", "conv", "head"} <= set(blsm.block_families())


def test_a_users_family_is_built_parsed_and_costed(fire: blsm.BlockFamily) -> None:
    configs = fire.sample(20, seed=0)
    assert blsm.parse(fire.build(configs[0])).blocks == (configs[0],)
    features = Features.of(configs)
    assert features.totals[:, 0].tolist() == [config.macs for config in configs]


def test_a_name_belongs_to_one_class(fire: blsm.BlockFamily) -> None:
    with pytest.raises(DomainError, match="registered already"):

        @blsm.register_block
        @dataclass(frozen=True)
        class Other(blsm.BlockConfig):
            family: ClassVar[str] = "fire"
            height: int = blsm.parameter(blsm.Integers(1, 64))


def test_a_class_without_parameters_is_no_family() -> None:
    with pytest.raises(DomainError, match=r"blsm\.parameter"):

        @blsm.register_block
        @dataclass(frozen=True)
        class Plain(blsm.BlockConfig):
            family: ClassVar[str] = "plain"
            height: int = 3
