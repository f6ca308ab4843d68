"""Gradient boosted trees (LightGBM): on top of the roofline base, and plain ones as in the paper."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.features import Features
from blsm.surrogates.base import Regressor, to_json
from blsm.surrogates.roofline import LEAST_MS, Roofline

if TYPE_CHECKING:
    import lightgbm

_ROUNDS = 200
_NUM_LEAVES = (7, 15)
_PARAMETERS = {
    "objective": "regression",
    "learning_rate": 0.1,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "min_data_in_leaf": 5,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
_FILE = "trees.txt"
#: Waking threads takes longer than predicting fewer rows.
_ROWS_FOR_THREADS = 2000


def _fit_trees(inputs: Array, target: Array, train_count: int, seed: int) -> lightgbm.Booster:
    """Chooses the number of leaves by squared error on the rows after `train_count`, then fits on all rows."""
    held_out = slice(train_count, None)

    def error(num_leaves: int) -> float:
        booster = _train(inputs[:train_count], target[:train_count], num_leaves, seed)
        return float(np.square(_predict_trees(booster, inputs[held_out]) - target[held_out]).mean())

    return _train(inputs, target, min(_NUM_LEAVES, key=error), seed)


def _train(inputs: Array, target: Array, num_leaves: int, seed: int) -> lightgbm.Booster:
    import lightgbm

    parameters = {**_PARAMETERS, "num_leaves": num_leaves, "seed": seed}
    return lightgbm.train(parameters, lightgbm.Dataset(inputs, target), _ROUNDS)


def _predict_trees(booster: lightgbm.Booster, inputs: Array) -> Array:
    return np.asarray(booster.predict(inputs, num_threads=1 if len(inputs) < _ROWS_FOR_THREADS else 0))


def load_trees(content: bytes) -> lightgbm.Booster:
    """Trees from LightGBM's text; raises ValueError for anything else."""
    import lightgbm

    try:
        return lightgbm.Booster(model_str=content.decode())
    except lightgbm.basic.LightGBMError as error:
        raise ValueError(str(error)) from None


class BoostedTrees(Regressor):
    """Roofline base times the exponential of boosted trees that learn log(measured / base).

    The base carries the orders of magnitude, so that the trees need to learn what is left only: the error of plain
    boosted trees is halved, and sums over networks are not biased by the logarithm. From config vectors alone there is
    no base: these are the plain boosted trees of the paper.
    """

    name: ClassVar[str] = "boosted_trees"
    has_base: ClassVar[bool] = True

    _trees: lightgbm.Booster

    def __init__(self, features: str | None = None) -> None:
        super().__init__(features)
        self._base = Roofline() if self.has_base and self.features == "costs" else None

    def _base_and_inputs(self, features: Features) -> tuple[Array | float, Array]:
        """The base in milliseconds, shape (n,), or 1 where there is none, and what the trees see."""
        if self._base is None:
            return 1.0, self._inputs(features)
        parts = self._base.parts(features)
        base_ms = parts.sum(axis=1).clip(LEAST_MS)
        log_base = np.log(base_ms)[:, None]
        shares = parts / base_ms[:, None]
        return base_ms, np.hstack([features.vectors, features.totals, log_base, shares, features.hints])

    def _fit(self, features: Features, latency_ms: Array, train_count: int, seed: int) -> None:
        if self._base is not None:
            self._base._fit(features, latency_ms, train_count, seed)
            self.term_names, self.hint_names = self._base.term_names, features.hint_names
        base_ms, inputs = self._base_and_inputs(features)
        self._trees = _fit_trees(inputs, np.log(latency_ms / base_ms), train_count, seed)

    def _predict(self, features: Features) -> Array:
        base_ms, inputs = self._base_and_inputs(features)
        latency_ms: Array = base_ms * np.exp(_predict_trees(self._trees, inputs))
        return latency_ms

    def to_files(self) -> dict[str, bytes]:
        trees = {_FILE: self._trees.model_to_string().encode()}
        if self._base is None:
            return {**self._inputs_to_files(), **trees}
        return {**self._base.to_files(), "hints.json": to_json(self.hint_names), **trees}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        if "hints.json" in files:
            regressor = cls("costs")
            regressor._base = Roofline.from_files(files)
            regressor.term_names = regressor._base.term_names
            regressor.hint_names = tuple(json.loads(files["hints.json"]))
        else:
            regressor = cls._of_inputs(files)
        regressor._trees = load_trees(files[_FILE])
        return regressor


class PlainBoostedTrees(BoostedTrees):
    """Boosted trees of log latency without a base; by default on the config vector alone, as in the paper."""

    name: ClassVar[str] = "plain_boosted_trees"
    default_features: ClassVar[str] = "vector"
    has_base: ClassVar[bool] = False
