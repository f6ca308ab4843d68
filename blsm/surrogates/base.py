"""What a regressor is: latency in milliseconds from block configs of one family."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.errors import FitError
from blsm.features import Features
from blsm.operators.costs import check_names

#: What a regressor may see of a block: its config vector alone, as in the paper, or its analytic costs too.
FEATURES = ("vector", "costs")
_INPUTS = "inputs.json"
_Content = TypeVar("_Content")


class Regressor(ABC):
    """Predicts the latency of blocks of one family on one device.

    Attributes:
        name: as in `blsm fit --regressor NAME`.
        default_features: what it sees unless told otherwise.
        chatty: whether native code that fits it writes to standard error.
        errs_alike: whether its errors on different blocks go together, so that they do not cancel out in a network.
        features: what it sees, one of `FEATURES`.
        term_names: the cost terms it needs; None before it is fitted means all.
        hint_names: likewise the hints.

    Args:
        features: as in `blsm fit --features NAME`; the regressor's default if None.

    Raises:
        FitError: no such features.
    """

    name: ClassVar[str]
    default_features: ClassVar[str] = "costs"
    chatty: ClassVar[bool] = False
    errs_alike: ClassVar[bool] = False
    features: str = "costs"
    term_names: tuple[str, ...] | None = None
    hint_names: tuple[str, ...] | None = None

    def __init__(self, features: str | None = None) -> None:
        self.features = self.default_features if features is None else features
        if self.features not in FEATURES:
            raise FitError(f"features must be one of {', '.join(FEATURES)}, got {features!r}")
        if self.features == "vector":
            self.term_names = self.hint_names = ()

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
        latency_ms = np.concatenate([train_ms, validation_ms])
        configs = [*train, *validation]
        if self.term_names is None:
            features = Features.to_fit(configs, latency_ms)
        else:
            features = Features.of(configs, self.term_names, self.hint_names)
        self.term_names, self.hint_names = features.term_names, features.hint_names
        self._fit(features, latency_ms, len(train), seed)

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
        """Inverse of `to_files`; raises KeyError, ValueError or TypeError for anything else.

        Raises:
            FitError: it was fitted on costs that are counted no more.
        """

    def _inputs(self, features: Features) -> Array:
        """What a regressor without a base sees, shape (n, inputs); the first ones are the config vector."""
        if self.features == "vector":
            return features.vectors
        return np.hstack([features.vectors, features.totals, features.terms, features.hints])

    def _inputs_to_files(self) -> dict[str, bytes]:
        """Says what `_inputs` are."""
        return {_INPUTS: to_json({"features": self.features, "terms": self.term_names, "hints": self.hint_names})}

    @classmethod
    def _of_inputs(cls, files: Mapping[str, bytes]) -> Self:
        """A regressor that sees what `_inputs_to_files` said."""
        data = json.loads(files[_INPUTS])
        regressor = cls(data["features"])
        check_names(data["terms"])
        regressor.term_names, regressor.hint_names = tuple(data["terms"]), tuple(data["hints"])
        return regressor


def to_json(data: Any) -> bytes:
    """JSON text for a file of a bundle."""
    return json.dumps(data, indent=1).encode()


def under(files: Mapping[str, _Content], prefix: str) -> dict[str, _Content]:
    """The files whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): content for name, content in files.items() if name.startswith(prefix)}
