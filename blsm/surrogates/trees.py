"""Gradient boosted trees by LightGBM, whose leaves are constants or lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from blsm._types import Array
from blsm.surrogates.base import to_json
from blsm.surrogates.scaling import Scaling

if TYPE_CHECKING:
    import lightgbm

#: Objectives: squared errors, or absolute ones where a few rows are quite unlike their likes.
SQUARES, ABSOLUTE = "regression", "l1"

_PARAMETERS = {
    "num_leaves": 15,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "min_data_in_leaf": 5,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
_CONSTANTS = {"learning_rate": 0.1, "num_iterations": 200}
#: Lines gain by more and smaller steps. The ridge penalty is for inputs of unit variance.
_LINES = {"learning_rate": 1 / 15, "num_iterations": 300, "linear_tree": True, "linear_lambda": 0.1}
_TREES, _LINES_OF = "trees.txt", "lines.json"
#: Waking threads takes longer than predicting fewer rows.
_ROWS_FOR_THREADS = 2000


@dataclass(frozen=True)
class _Reach:
    """Where lines begin and end.

    Attributes:
        scaling: of the inputs.
        low: the least target they were fitted on; a line that leads on below it would tell nothing.
        high: the greatest one.
    """

    scaling: Scaling
    low: float
    high: float


@dataclass(frozen=True)
class Trees:
    """The sum of trees, each of which learned what those before it left.

    A leaf holds a constant, or a line: a ridge regression on the inputs that the path to the leaf compares (Shi et al.
    2019, "Gradient Boosting With Piece-Wise Linear Regression Trees"). Latency is smooth over much of a space, and
    lines follow it with fewer measurements than steps.
    """

    _booster: lightgbm.Booster
    _reach: _Reach | None

    @classmethod
    def fit(cls, inputs: Array, target: Array, seed: int, objective: str = SQUARES, lines: bool = False) -> Self:
        """Learns a target.

        Args:
            inputs: shape (n, inputs).
            target: shape (n,).
            seed: of the rows and inputs that each tree sees.
            objective: what to minimise, `SQUARES` or `ABSOLUTE`.
            lines: whether leaves hold lines, for `SQUARES` only; takes three times as long.
        """
        import lightgbm

        reach = _Reach(Scaling.of(inputs, inputs.shape[1]), float(target.min()), float(target.max())) if lines else None
        parameters = {**_PARAMETERS, **(_LINES if lines else _CONSTANTS), "objective": objective, "seed": seed}
        table = lightgbm.Dataset(inputs if reach is None else reach.scaling(inputs), target)
        return cls(lightgbm.train(parameters, table), reach)

    def predict(self, inputs: Array) -> Array:
        """The target, shape (n,), of inputs of shape (n, inputs)."""
        threads = 1 if len(inputs) < _ROWS_FOR_THREADS else 0
        if self._reach is None:
            return np.asarray(self._booster.predict(inputs, num_threads=threads))
        predicted = np.asarray(self._booster.predict(self._reach.scaling(inputs), num_threads=threads))
        return predicted.clip(self._reach.low, self._reach.high)

    @property
    def gains(self) -> Array:
        """The share of each input in what all splits gained, shape (inputs,)."""
        gains = self._booster.feature_importance("gain")
        shares: Array = gains / max(gains.sum(), np.finfo(float).tiny)
        return shares

    def to_files(self) -> dict[str, bytes]:
        """The trees as named files of plain data."""
        files = {_TREES: self._booster.model_to_string().encode()}
        if (reach := self._reach) is not None:
            data: dict[str, Any] = {"scaling": reach.scaling.to_json(), "low": reach.low, "high": reach.high}
            files[_LINES_OF] = to_json(data)
        return files

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Inverse of `to_files`; raises KeyError, ValueError or TypeError for anything else."""
        import lightgbm

        try:
            booster = lightgbm.Booster(model_str=files[_TREES].decode())
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(str(error)) from None
        reach = None
        if _LINES_OF in files:
            data = json.loads(files[_LINES_OF])
            reach = _Reach(Scaling.from_json(data["scaling"]), float(data["low"]), float(data["high"]))
        return cls(booster, reach)
