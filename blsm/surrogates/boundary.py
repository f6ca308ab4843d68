"""What joining two blocks adds to the sum of both, or saves: learned from pairs of blocks that were measured joined."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.features import end_features
from blsm.operators.ends import ENDS
from blsm.surrogates.base import to_json
from blsm.surrogates.boosted_trees import load_trees

if TYPE_CHECKING:
    import lightgbm

#: Two blocks, the second of which reads what the first one writes.
Pair = tuple[BlockConfig, BlockConfig]

_ROUNDS, _MEMBERS = 400, 3
_PARAMETERS = {
    # A pair may be fused or stored in quite another way than its likes: squares would chase those few.
    "objective": "huber",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "min_data_in_leaf": 5,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
#: How a boundary's cost may grow with the tensor that crosses it: not at all (a fixed cost of going on) to in
#: proportion (copying it). Held-out pairs choose.
_EXPONENTS = (0.0, 0.5, 1.0)
_HELD_OUT = 0.15
_FILE = "boundary.json"


@dataclass(frozen=True)
class BoundarySurrogate:
    """Predicts boundary costs: the latency of two joined blocks, less that of both alone, plus the dispatch cost.

    Boosted trees learn the cost over a power of the tensor's size from both blocks' `blsm.operators.ends`; an error
    counts in proportion to the latency of the pair.

    Attributes:
        trees: an ensemble of equals, which differ by their seeds.
        exponent: the cost grows with this power of the tensor's elements.
        unit_ms: what the trees' outputs are multiples of, milliseconds per element to that power.
        deviation: root mean square of the error on held-out pairs, as a share of that of their latencies.
        count: how many pairs it was fitted on.
    """

    trees: tuple[lightgbm.Booster, ...]
    exponent: float
    unit_ms: float
    deviation: float
    count: int

    @classmethod
    def fit(cls, pairs: Sequence[Pair], costs_ms: Array, pairs_ms: Array, seed: int) -> Self:
        """Learns from pairs; some of them, held out from a first fit, choose the exponent and tell the deviation.

        Args:
            pairs: pairs of blocks.
            costs_ms: their boundary costs, below 0 where joining saves time, shape (n,).
            pairs_ms: their latencies, milliseconds, shape (n,).
            seed: of the split and the trees.
        """
        inputs = _inputs(pairs)
        order = np.random.default_rng(seed).permutation(len(pairs))
        held_out, train = np.split(order, [math.ceil(_HELD_OUT * len(pairs))])
        deviations = {}
        for exponent in _EXPONENTS:
            few = cls._fit(inputs[train], costs_ms[train], pairs_ms[train], exponent, seed)
            errors_ms = few._costs_ms(inputs[held_out]) - costs_ms[held_out]
            # Of all pairs together: in the sum over a network, the slow ones count.
            deviations[exponent] = float(np.linalg.norm(errors_ms) / np.linalg.norm(pairs_ms[held_out]))
        best = min(_EXPONENTS, key=lambda exponent: deviations[exponent])
        return replace(cls._fit(inputs, costs_ms, pairs_ms, best, seed), deviation=deviations[best])

    @classmethod
    def _fit(cls, inputs: Array, costs_ms: Array, pairs_ms: Array, exponent: float, seed: int) -> Self:
        import lightgbm

        size = _elements(inputs) ** exponent
        weights = size / pairs_ms
        # Huber's loss turns from squares to absolute values at about this unit.
        unit_ms = float(np.average(np.abs(costs_ms) / size, weights=weights)) or 1.0
        target = costs_ms / size / unit_ms
        trees = [
            lightgbm.train(
                {**_PARAMETERS, "seed": seed + member}, lightgbm.Dataset(inputs, target, weight=weights), _ROUNDS
            )
            for member in range(_MEMBERS)
        ]
        return cls(tuple(trees), exponent, unit_ms, math.inf, len(inputs))

    def predict(self, pairs: Sequence[Pair]) -> Array:
        """Boundary costs in milliseconds, float64, shape (len(pairs),)."""
        return self._costs_ms(_inputs(pairs))

    def _costs_ms(self, inputs: Array) -> Array:
        outputs = np.mean([booster.predict(inputs, num_threads=1) for booster in self.trees], axis=0)
        costs_ms: Array = outputs * self.unit_ms * _elements(inputs) ** self.exponent
        return costs_ms

    def to_files(self) -> dict[str, bytes]:
        """The fitted state as named files of plain data."""
        trees = {f"trees_{number}.txt": b.model_to_string().encode() for number, b in enumerate(self.trees)}
        numbers = {name: getattr(self, name) for name in ("exponent", "unit_ms", "deviation", "count")}
        return {_FILE: to_json({**numbers, "trees": list(trees)}), **trees}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Inverse of `to_files`; raises KeyError, ValueError or TypeError for anything else."""
        data = json.loads(files[_FILE])
        trees = tuple(load_trees(files[name]) for name in data["trees"])
        unit_ms, deviation = float(data["unit_ms"]), float(data["deviation"])
        return cls(trees, float(data["exponent"]), unit_ms, deviation, int(data["count"]))


def _inputs(pairs: Sequence[Pair]) -> Array:
    """The ends of both blocks side by side, shape (len(pairs), 2 * len(ENDS))."""
    blocks = list(dict.fromkeys(block for pair in pairs for block in pair))
    rows = dict(zip(blocks, range(len(blocks)), strict=True))
    table = end_features(blocks)
    before, after = ([rows[pair[side]] for pair in pairs] for side in (0, 1))
    return np.hstack([table[before], table[after]])


def _elements(inputs: Array) -> Array:
    """The size of the tensor between two blocks."""
    elements: Array = inputs[:, ENDS.index("elements_out")]
    return elements
