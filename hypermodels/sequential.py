"""Hypermodels of KerasTuner: input scaling, a stack of blocks, a classifier."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import keras
import keras_tuner

from blsm.blocks import block_family
from blsm.domains import Space
from blsm.hypermodels.random_networks import FAMILIES
from blsm.hypermodels.settings import declare
from blsm.hypermodels.stack import CIFAR10_STAGES, Stack, domains_of
from blsm.profiles import Chain


class SequentialBlocks(keras_tuner.HyperModel):  # type: ignore[misc]  # KerasTuner has no types
    """Image classifiers: rescaled input, stem, stages of blocks, head, softmax; labels are integers.

    Training has the defaults of Stolle et al. (ECML PKDD 2022): batches of 64, Adam at 0.01, 20 epochs as proxy.
    What `search` or `fit` is given goes first.

    Args:
        stack: stem and stages.
        input_shape: (height, width, channels) of the images, whose values are 0 to 255.
        classes: how many, at least 2.
        learning_rate: of Adam.
        name: of the hypermodel.

    Raises:
        DomainError: the stack's blocks don't fit the input shape.
    """

    def __init__(
        self,
        stack: Stack,
        input_shape: tuple[int, int, int] = (32, 32, 3),
        classes: int = 10,
        learning_rate: float = 0.01,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        self.stack = stack
        self.input_shape = input_shape
        self.classes = classes
        self.learning_rate = learning_rate
        height, width, channels = input_shape
        self._before = block_family("rescale").config(
            height=height, width=width, in_channels=channels, mode="scale_offset"
        )
        self._after = block_family("output").config(in_channels=classes, activation="softmax")
        self.blocks(keras_tuner.HyperParameters())

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Makes all hyperparameters known without building a model."""
        declare(hp, self.stack)

    def blocks(self, hp: keras_tuner.HyperParameters) -> Chain:
        """The blocks of a setting, in order, without building Keras; `blsm.parse(self.build(hp))` finds the same.

        Args:
            hp: only its `values` are read; one that is missing has its default.
        """
        blocks = self.stack.blocks(hp.values, self.input_shape)
        return (self._before, *blocks, self._head(blocks[-1].output_shape), self._after)

    def reachable(self) -> Chain:
        """Every block that some setting has."""
        return self._reachable

    @cached_property
    def _reachable(self) -> Chain:
        blocks, ends = self.stack.reachable(self.input_shape)
        return (self._before, *blocks, *map(self._head, sorted(ends)), self._after)

    def domains(self) -> dict[str, Space]:
        """Block family -> the values that its parameters reach in some setting."""
        return domains_of(self.reachable())

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """The compiled model of a setting."""
        self.declare_hyperparameters(hp)
        inputs = x = keras.Input(self.input_shape)
        for config in self.blocks(hp):
            x = block_family(config.family).apply(config, x)
        model = keras.Model(inputs, x)
        optimizer = keras.optimizers.Adam(self.learning_rate)
        model.compile(optimizer, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def fit(self, hp: keras_tuner.HyperParameters, model: keras.Model, *args: Any, **kwargs: Any) -> Any:
        """Trains a model as `model.fit` does, with the defaults above."""
        kwargs.setdefault("epochs", 20)
        data = args[0] if args else kwargs.get("x")
        # Data sets and generators have batches of their own.
        if isinstance(getattr(data, "shape", None), tuple) and len(args) < 3:
            kwargs.setdefault("batch_size", 64)
        return model.fit(*args, **kwargs)

    def _head(self, shape: tuple[int, ...]) -> Any:
        height, width, channels = shape
        return block_family("head").config(height=height, width=width, in_channels=channels, units=self.classes)


class Cifar10(SequentialBlocks):
    """`SequentialBlocks` for CIFAR-10: 32x32 pixels, 10 classes, 3 stages, up to 22 hyperparameters.

    Every block that it reaches lies in the default space of its family, so that a latency model fitted on
    `blsm profile --block all` covers it too.

    Args:
        families: block families that each stage chooses from.
        **options: of `SequentialBlocks`.
    """

    def __init__(self, families: tuple[str, ...] = FAMILIES, **options: Any) -> None:
        super().__init__(Stack(tuple(families), CIFAR10_STAGES), **options)
