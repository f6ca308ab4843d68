"""What a regressor is: latency in milliseconds from block configs of one family."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.features import Features


class Regressor(ABC):
    """Predicts the latency of blocks of one family on one device.

    Attributes:
        name: as in `blsm fit --regressor NAME`.
        term_names: the cost terms it needs; None before it is fitted means all.
        hint_names: likewise the hints.
    """

    name: ClassVar[str]
    term_names: tuple[str, ...] | None = None
    hint_names: tuple[str, ...] | None = None

    def fit(
        self,
        train: Sequence[BlockConfig],
        train_ms: Array,
        validation: Sequence[BlockConfig],
        validation_ms: Array,
        seed: int,
    ) -> None:
        """Chooses hyperparameters on the validation set, then learns from both sets.

        Args:
            train: configs of one family.
            train_ms: their latencies in milliseconds, shape (len(train),).
            validation: further configs.
            validation_ms: their latencies.
            seed: of every random choice.
        """
        features = Features.of([*train, *validation], self.term_names, self.hint_names)
        self._fit(features, np.concatenate([train_ms, validation_ms]), len(train), seed)

    def predict(self, configs: Sequence[BlockConfig]) -> Array:
        """Latencies in milliseconds, float64, shape (len(configs),)."""
        return self._predict(Features.of(configs, self.term_names, self.hint_names))

    @abstractmethod
    def _fit(self, features: Features, latency_ms: Array, train_count: int, seed: int) -> None:
        """Fits; the first `train_count` rows are the training set, the rest is for validation."""

    @abstractmethod
    def _predict(self, features: Features) -> Array:
        """Predicts from features that have `term_names` and `hint_names`."""

    @abstractmethod
    def to_files(self) -> dict[str, bytes]:
        """The fitted state as named files of plain data."""

    @classmethod
    @abstractmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Inverse of `to_files`; raises KeyError, ValueError or TypeError for anything else."""


def to_json(data: Any) -> bytes:
    """JSON text for a file of a bundle."""
    return json.dumps(data, indent=1).encode()
