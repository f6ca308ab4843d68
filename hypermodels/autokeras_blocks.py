"""Blocks for AutoKeras: stacks of one block family, or of a family of each stage's own choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import autokeras
import keras
from keras_tuner import HyperParameters

from blsm.blocks import block_family
from blsm.domains import Domain, SameAs, domain_from_json
from blsm.errors import DomainError
from blsm.hypermodels.random_networks import FAMILIES
from blsm.hypermodels.settings import declare
from blsm.hypermodels.stack import CIFAR10_STAGES, STEM, Shape, Stack, Stage
from blsm.profiles import Chain


@keras.saving.register_keras_serializable(package="blsm")
class BlockStack(autokeras.Block):  # type: ignore[misc]  # AutoKeras has no types
    """A stem and stages of blocks, each stage of a family of its own choice, as a block of an `autokeras.AutoModel`.

        inputs = autokeras.ImageInput()
        outputs = autokeras.ClassificationHead()(BlockStack()(autokeras.Normalization()(inputs)))

    Args:
        families: block families to choose from.
        stages: one after the other.
        stem: filters of the 3x3 convolution in front; None for no stem, as behind another stack.
        activation: of the stem, and of the blocks whose family has this parameter.
        parameters: domains in place of the default space's, for parameters such as `kernel_size`.
        pool: end with global average pooling, the only reduction that a latency model knows; False for a stack that
            another one follows.
        **kwargs: of `autokeras.Block`.

    Raises:
        DomainError: a family whose blocks can't be stacked, or a parameter that no family has.
    """

    def __init__(
        self,
        families: Sequence[str] = FAMILIES,
        stages: Sequence[Stage] = CIFAR10_STAGES,
        stem: Domain | None = STEM,
        activation: str = "relu6",
        parameters: Mapping[str, Domain] | None = None,
        pool: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.stack = Stack(tuple(families), tuple(stages), stem, activation, dict(parameters or {}))
        self.pool = pool

    def build(self, hp: HyperParameters, inputs: Any = None) -> Any:
        """Appends the blocks of a setting to the input node."""
        (x,) = keras.tree.flatten(inputs)
        if None in x.shape[1:]:
            raise DomainError(f"{self.name} needs images of a fixed size, got shape {tuple(x.shape[1:])}")
        for config in self.stack.blocks(declare(hp, self.stack), tuple(x.shape[1:])):
            x = block_family(config.family).apply(config, x)
        return keras.layers.GlobalAveragePooling2D()(x) if self.pool else x

    def blocks(self, hp: HyperParameters, input_shape: Shape) -> Chain:
        """The blocks of a setting for an input of (height, width, channels), without building Keras."""
        prefix = f"{self.name}/"
        values = {name.removeprefix(prefix): hp.values[name] for name in hp.values if name.startswith(prefix)}
        return self.stack.blocks(values, input_shape)

    def get_config(self) -> dict[str, Any]:
        """What `from_config` makes an equal block of, as JSON data."""
        stack = self.stack
        return {
            **super().get_config(),
            "families": list(stack.families),
            "stages": [
                {"filters": stage.filters.to_json(), "strides": stage.strides, "depth": stage.depth.to_json()}
                for stage in stack.stages
            ],
            "stem": None if stack.stem is None else stack.stem.to_json(),
            "activation": stack.activation,
            "parameters": {name: domain.to_json() for name, domain in stack.parameters.items()},
            "pool": self.pool,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Inverse of `get_config`."""
        stages = tuple(
            Stage(_domain(stage["filters"]), stage["strides"], _domain(stage["depth"])) for stage in config["stages"]
        )
        stem = None if config["stem"] is None else _domain(config["stem"])
        parameters = {name: _domain(domain) for name, domain in config["parameters"].items()}
        return cls(**{**config, "stages": stages, "stem": stem, "parameters": parameters})


def _domain(data: Mapping[str, Any]) -> Domain:
    domain = domain_from_json(data)
    assert not isinstance(domain, SameAs)
    return domain


class _OneFamily(BlockStack):
    """A stack of one family: `families` is not chosen."""

    family = ""

    def __init__(self, **kwargs: Any) -> None:
        kwargs["families"] = (self.family,)
        super().__init__(**kwargs)


@keras.saving.register_keras_serializable(package="blsm")
class MBConvStack(_OneFamily):
    """`BlockStack` of MobileNet's inverted residuals."""

    family = "mbconv"


@keras.saving.register_keras_serializable(package="blsm")
class ResV1Stack(_OneFamily):
    """`BlockStack` of ResNet's residual blocks."""

    family = "res_v1"


@keras.saving.register_keras_serializable(package="blsm")
class ResV2Stack(_OneFamily):
    """`BlockStack` of residual blocks with pre-activation."""

    family = "res_v2"
