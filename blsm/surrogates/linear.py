"""Exponentially activated linear regression, as in the paper."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.features import Features
from blsm.surrogates.base import Regressor, to_json
from blsm.surrogates.scaling import Scaling

_LEARNING_RATE = 0.01
_BATCH = 64
_MOST_EPOCHS = 2000
#: Training ends once the validation loss has not improved for so many epochs.
_PATIENCE = 50
_FILE = "linear.json"


class Linear(Regressor):
    """tau = exp(W c + b) by gradient descent in batches of 64 at a learning rate of 0.01.

    The loss is half the mean squared error of the logarithm of latency: the activation then makes the loss convex, and
    fast blocks count as much as slow ones. Inputs are standardised; where they are so many that a step of this size
    could overshoot, it is shorter. The validation set decides how many epochs it takes.

    Attributes:
        weights: of the standardised inputs, shape (inputs,).
        bias: b.
    """

    name: ClassVar[str] = "linear"

    _scaling: Scaling

    def __init__(self, features: str | None = None) -> None:
        super().__init__(features)
        self.weights = np.zeros(0)
        self.bias = 0.0

    def _fit(self, features: Features, latency_ms: Array, train_count: int, seed: int) -> None:
        inputs, target = self._inputs(features), np.log(latency_ms)
        self._scaling = Scaling.of(inputs, features.vectors.shape[1])
        scaled = self._scaling(inputs)
        train, held_out = slice(train_count), slice(train_count, None)
        epochs = self._descend(scaled[train], target[train], seed, (scaled[held_out], target[held_out]))
        self._descend(scaled, target, seed, most_epochs=epochs)

    def _descend(
        self,
        inputs: Array,
        target: Array,
        seed: int,
        validation: tuple[Array, Array] | None = None,
        most_epochs: int = _MOST_EPOCHS,
    ) -> int:
        """Gradient descent from zero weights; returns the epoch after which the validation loss was least."""
        rng = np.random.default_rng(seed)
        self.weights, self.bias = np.zeros(inputs.shape[1]), float(target.mean())
        lengths = np.square(inputs).sum(axis=1)
        best, best_epoch = np.inf, 0
        for epoch in range(1, most_epochs + 1):
            order = rng.permutation(len(inputs))
            for start in range(0, len(order), _BATCH):
                rows = order[start : start + _BATCH]
                error = inputs[rows] @ self.weights + self.bias - target[rows]
                # The loss curves at most as much as the inputs' mean squared length: a longer step might raise it.
                rate = min(_LEARNING_RATE, 1 / (1 + lengths[rows].mean()))
                self.weights -= rate * (error @ inputs[rows]) / len(rows)
                self.bias -= rate * float(error.mean())
            if validation is not None:
                loss = float(np.square(validation[0] @ self.weights + self.bias - validation[1]).mean())
                if loss < best:
                    best, best_epoch = loss, epoch
                elif epoch - best_epoch >= _PATIENCE:
                    break
        return best_epoch

    def _predict(self, features: Features) -> Array:
        latency_ms: Array = np.exp(self._scaling(self._inputs(features)) @ self.weights + self.bias)
        return latency_ms

    def to_files(self) -> dict[str, bytes]:
        state = {"weights": self.weights.tolist(), "bias": self.bias, "scaling": self._scaling.to_json()}
        return {**self._inputs_to_files(), _FILE: to_json(state)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        regressor, state = cls._of_inputs(files), json.loads(files[_FILE])
        regressor.weights, regressor.bias = np.array(state["weights"], float), float(state["bias"])
        regressor._scaling = Scaling.from_json(state["scaling"])
        return regressor
