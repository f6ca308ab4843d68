"""Gradient boosted trees (LightGBM): on top of the roofline base, and plain ones as in the paper."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from blsm.features import Features
from blsm.surrogates.base import Regressor, to_json
from blsm.surrogates.roofline import Roofline

if TYPE_CHECKING:
    import lightgbm

#: Members of an ensemble differ by seed only; their mean is steadier than any.
_MEMBERS = 2
_ROUNDS = 400
_NUM_LEAVES = (7, 15, 31)
_PARAMETERS = {
    "objective": "regression",
    "learning_rate": 0.06,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "min_data_in_leaf": 5,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}


class _Ensemble:
    """The mean of a few boosters."""

    def __init__(self, boosters: list[lightgbm.Booster]) -> None:
        self.boosters = boosters

    @classmethod
    def fit(cls, inputs: np.ndarray, target: np.ndarray, train_count: int, seed: int) -> Self:
        """Chooses the number of leaves by squared error on the rows after `train_count`, then fits on all rows."""
        rows = slice(None) if train_count == len(target) else slice(train_count, None)

        def error(num_leaves: int) -> float:
            member = _train(inputs[:train_count], target[:train_count], num_leaves, seed)
            return float(np.square(member.predict(inputs[rows]) - target[rows]).mean())

        best = min(_NUM_LEAVES, key=error)
        return cls([_train(inputs, target, best, seed + member) for member in range(_MEMBERS)])

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        return np.mean([booster.predict(inputs) for booster in self.boosters], axis=0)

    def to_files(self) -> dict[str, bytes]:
        return {f"trees_{n}.txt": booster.model_to_string().encode() for n, booster in enumerate(self.boosters)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        import lightgbm

        texts = [files[f"trees_{number}.txt"].decode() for number in range(_MEMBERS)]
        try:
            return cls([lightgbm.Booster(model_str=text) for text in texts])
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(str(error)) from None


def _train(inputs: np.ndarray, target: np.ndarray, num_leaves: int, seed: int) -> Any:
    import lightgbm

    parameters = {**_PARAMETERS, "num_leaves": num_leaves, "seed": seed}
    return lightgbm.train(parameters, lightgbm.Dataset(inputs, target), _ROUNDS)


class BoostedTrees(Regressor):
    """Roofline base times the exponential of boosted trees that learn log(measured / base).

    The base carries the orders of magnitude, so that the trees need to learn what is left only: the error of plain
    boosted trees is halved, and sums over networks are not biased by the logarithm.
    """

    name: ClassVar[str] = "boosted_trees"

    def __init__(self) -> None:
        self._base = Roofline()
        self._trees = _Ensemble([])

    def _inputs(self, features: Features) -> tuple[np.ndarray, np.ndarray]:
        parts = self._base.parts(features)
        base_ms = parts.sum(axis=1).clip(1e-6)
        log_base = np.log(base_ms)[:, None]
        shares = parts / base_ms[:, None]
        return base_ms, np.hstack([features.vectors, features.totals, log_base, shares, features.hints])

    def _fit(self, features: Features, latency_ms: np.ndarray, train_count: int, seed: int) -> None:
        self._base._fit(features, latency_ms, train_count, seed)
        self.term_names, self.hint_names = self._base.term_names, features.hint_names
        base_ms, inputs = self._inputs(features)
        self._trees = _Ensemble.fit(inputs, np.log(latency_ms / base_ms), train_count, seed)

    def _predict(self, features: Features) -> np.ndarray:
        base_ms, inputs = self._inputs(features)
        return base_ms * np.exp(self._trees.predict(inputs))

    def to_files(self) -> dict[str, bytes]:
        hints = {"hints.json": to_json(self.hint_names)}
        return {**self._base.to_files(), **hints, **self._trees.to_files()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        regressor = cls()
        regressor._base = Roofline.from_files(files)
        regressor._trees = _Ensemble.from_files(files)
        regressor.term_names = regressor._base.term_names
        regressor.hint_names = tuple(json.loads(files["hints.json"]))
        return regressor


class PlainBoostedTrees(Regressor):
    """Boosted trees of log latency on the config vector alone, as in the paper."""

    name: ClassVar[str] = "plain_boosted_trees"
    term_names = ()
    hint_names = ()

    def __init__(self) -> None:
        self._trees = _Ensemble([])

    def _fit(self, features: Features, latency_ms: np.ndarray, train_count: int, seed: int) -> None:
        self._trees = _Ensemble.fit(features.vectors, np.log(latency_ms), train_count, seed)

    def _predict(self, features: Features) -> np.ndarray:
        return np.exp(self._trees.predict(features.vectors))

    def to_files(self) -> dict[str, bytes]:
        return self._trees.to_files()

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        regressor = cls()
        regressor._trees = _Ensemble.from_files(files)
        return regressor
