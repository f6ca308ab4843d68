"""Gradient boosted trees (LightGBM): on top of the roofline base, and plain ones as in the paper."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.features import Features
from blsm.operators.costs import ARRAY_COSTS, DIRECT_COSTS, PROCESSOR_COSTS, THREAD_COSTS
from blsm.shrinkage import is_clear
from blsm.surrogates.base import Regressor, to_json
from blsm.surrogates.roofline import LEAST_MS, Roofline
from blsm.surrogates.scaling import Scaling
from blsm.surrogates.trees import SQUARES, Trees

#: Costs to leave out, and how much smaller the error must be for it: counting arrays takes most of the time of a
#: prediction, and more costs must pay, whatever they count.
_LEFT_OUT = (
    ((ARRAY_COSTS, DIRECT_COSTS, THREAD_COSTS), 1.0),
    ((ARRAY_COSTS, DIRECT_COSTS), 1.05),
    ((ARRAY_COSTS, THREAD_COSTS), 1.05),
    ((ARRAY_COSTS,), 1.1),
    ((PROCESSOR_COSTS, DIRECT_COSTS, THREAD_COSTS), 1.05),
    ((DIRECT_COSTS, THREAD_COSTS), 1.05),
)
#: Arrays must also gain so many standard errors: one of six choices is often better by chance.
_MUST_GAIN = 2.0
_HINTS = "hints.json"


class BoostedTrees(Regressor):
    """Roofline base times the exponential of boosted trees that learn log(measured / base).

    The base carries the orders of magnitude, so that the trees need to learn what is left only: the error of plain
    boosted trees is halved, and sums over networks are not biased by the logarithm. What is left is smooth for the most
    part, and leaves hold lines. Of the costs, the validation set decides which it needs, by trees of constants, which
    are fitted faster: those of a processor, with direct convolutions, several threads, both or neither, those of a
    matrix array, or of a processor and an array. From config vectors alone there is no base: these are the plain
    boosted trees of the paper.

    Args:
        features: as in `blsm fit --features NAME`.
        objective: what the trees minimise, of the errors of the logarithm, see `blsm.surrogates.trees`.
    """

    name: ClassVar[str] = "boosted_trees"
    has_base: ClassVar[bool] = True

    _trees: Trees

    def __init__(self, features: str | None = None, objective: str = SQUARES) -> None:
        super().__init__(features)
        self.objective = objective
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
        train, held_out = slice(train_count), slice(train_count, None)

        def errors(known: Features) -> Array:
            self._learn(known[train], latency_ms[train], seed)
            found: Array = np.abs(np.log(self._predict(known[held_out]) / latency_ms[held_out]))
            return found

        if self._base is not None:
            known = [features.without(patterns) for patterns, _ in _LEFT_OUT]
            features = known[_least(list(map(errors, known)))]
        self._learn(features, latency_ms, seed, lines=self._base is not None and self.objective == SQUARES)

    def _learn(self, features: Features, latency_ms: Array, seed: int, lines: bool = False) -> None:
        """Fits the base, then trees to what it leaves."""
        if self._base is not None:
            self._base._fit(features, latency_ms, len(latency_ms), seed)
            self.term_names, self.hint_names = self._base.term_names, features.hint_names
        base_ms, inputs = self._base_and_inputs(features)
        self._trees = Trees.fit(inputs, np.log(latency_ms / base_ms), seed, self.objective, lines)

    def _predict(self, features: Features) -> Array:
        base_ms, inputs = self._base_and_inputs(features)
        latency_ms: Array = base_ms * np.exp(self._trees.predict(inputs))
        return latency_ms

    def embedded(self, configs: Sequence[BlockConfig]) -> Array:
        """Configs as points, the farther apart the more the trees tell them apart.

        Args:
            configs: two or more of its family.

        Returns:
            What the trees see and its ranks among the configs, shape (len(configs), 2 * inputs): each column of unit
            variance, times the square root of the input's share of what all inputs gained in the fit. Costs span orders
            of magnitude: by themselves the largest count, by their ranks all.
        """
        from scipy.stats import rankdata

        _, inputs = self._base_and_inputs(Features.of(configs, self.term_names, self.hint_names))
        columns = np.hstack([inputs, rankdata(inputs, axis=0)])
        points: Array = Scaling.of(columns, columns.shape[1])(columns) * np.tile(np.sqrt(self._trees.gains), 2)
        return points

    def to_files(self) -> dict[str, bytes]:
        trees = self._trees.to_files()
        if self._base is None:
            return {**self._inputs_to_files(), **trees}
        return {**self._base.to_files(), _HINTS: to_json(self.hint_names), **trees}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        if _HINTS in files:
            regressor = cls("costs")
            regressor._base = Roofline.from_files(files)
            regressor.term_names = regressor._base.term_names
            regressor.hint_names = tuple(json.loads(files[_HINTS]))
        else:
            regressor = cls._of_inputs(files)
        regressor._trees = Trees.from_files(files)
        return regressor


def _least(errors: Sequence[Array]) -> int:
    """Which of `_LEFT_OUT` to leave out, by the errors of held-out configs."""
    means = [
        factor * found.mean() if ARRAY_COSTS in patterns or is_clear(errors[0] - found, _MUST_GAIN) else np.inf
        for found, (patterns, factor) in zip(errors, _LEFT_OUT, strict=True)
    ]
    return int(np.argmin(means))


class PlainBoostedTrees(BoostedTrees):
    """Boosted trees of log latency without a base; by default on the config vector alone, as in the paper."""

    name: ClassVar[str] = "plain_boosted_trees"
    default_features: ClassVar[str] = "vector"
    has_base: ClassVar[bool] = False
