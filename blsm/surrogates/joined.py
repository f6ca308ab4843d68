"""What a block adds when it follows another one: learned from pairs of blocks that were measured joined.

An isolated block fetches its input from where a network never puts it, converts its layout, and fuses with nothing. How
much of that it saves depends on both blocks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations, product
from typing import Self

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.features import Features, KnownRows, cycles_on, end_features, saved_cycles
from blsm.intervals import conformal_quantile, log_errors
from blsm.operators.ends import ENDS
from blsm.surrogates.base import to_json, under
from blsm.surrogates.boosted_trees import BoostedTrees
from blsm.surrogates.trees import ABSOLUTE, SQUARES

#: Two blocks, the second of which reads what the first one writes.
Pair = tuple[BlockConfig, BlockConfig]

#: Where a block adds less than this share of its pair, the difference is mostly noise.
LEAST_SHARE = 0.03
#: The isolated latency, among what the trees see.
_ISOLATED = "joined.log_isolated"
_BEFORE = tuple(f"joined.before.{name}" for name in ENDS)
#: Cycles of an array that the block before no longer takes, with a minus sign.
_SAVED = "joined.array.saved"
#: Absolute errors where a few pairs are fused or stored in quite another way than their likes.
_OBJECTIVES = (SQUARES, ABSOLUTE)
_HELD_OUT = 0.15
_FILE = "joined.json"


class _JoinedTrees(BoostedTrees):
    """Boosted trees on features that include the isolated latency, which may be their base."""

    def __init__(self, features: str | None = None, objective: str = SQUARES, corrects_isolated: bool = False) -> None:
        super().__init__(features, objective)
        self.corrects_isolated = corrects_isolated

    def _base_and_inputs(self, features: Features) -> tuple[Array | float, Array]:
        base_ms, inputs = super()._base_and_inputs(features)
        if self.corrects_isolated:
            base_ms = np.exp(features.hints[:, features.hint_names.index(_ISOLATED)])
        return base_ms, inputs

    def added_ms(self, configs: Sequence[BlockConfig], ends: Array, isolated_ms: Array) -> Array:
        """What blocks add, milliseconds, shape (n,).

        Args:
            configs: the blocks.
            ends: of the blocks before them, see `ends_of`.
            isolated_ms: the latency of each block alone, shape (n,).
        """
        own = Features.from_table(self._own.of(configs), *self._own_names)
        return self._predict(_joined(own, ends, isolated_ms))

    @property
    def _own_names(self) -> tuple[list[str], list[str]]:
        """Terms and hints of the block itself."""
        assert self.term_names is not None
        assert self.hint_names is not None
        terms = [name for name in self.term_names if name != _SAVED]
        return terms, [name for name in self.hint_names if name not in (_ISOLATED, *_BEFORE)]

    @cached_property
    def _own(self) -> KnownRows:
        terms, hints = self._own_names
        return KnownRows(partial(_table, term_names=terms, hint_names=hints))


@dataclass(frozen=True)
class JoinedSurrogate:
    """Predicts what blocks of one family add to a network where they follow another block.

    Boosted trees that see what those of isolated blocks see, and the ends of the block before. They correct the
    isolated latency, or a roofline base of their own, and minimise squared errors or absolute ones: held-out pairs
    choose those kinds of trees whose mean errs least.

    Attributes:
        trees: the regressors; their geometric mean counts.
        array: whose cycles they know, see `blsm.operators.arrays`; an earlier blsm's know none.
        scores: |log(measured / predicted)| of held-out pairs, ascending: the conformal scores.
        deviation: root mean square of the error on held-out pairs, as a share of that of what the blocks add.
        count: how many pairs it was fitted on.
    """

    trees: tuple[_JoinedTrees, ...]
    array: str | None
    scores: tuple[float, ...]
    deviation: float
    count: int

    @classmethod
    def fit(cls, pairs: Sequence[Pair], added_ms: Array, isolated_ms: Array, seed: int) -> Self:
        """Learns from pairs.

        Args:
            pairs: pairs of blocks, the second ones of one family.
            added_ms: the latency of each pair less that of its first block alone, positive, shape (n,).
            isolated_ms: the latency of each second block alone, predicted by a surrogate that has not seen it: what the
                trees learn to correct must be as rough as what they will correct. Shape (n,).
            seed: of the split and the trees.
        """
        order = np.random.default_rng(seed).permutation(len(pairs))
        pairs, added_ms, isolated_ms = [pairs[index] for index in order], added_ms[order], isolated_ms[order]
        configs = [after for _, after in pairs]
        own = Features.to_fit(configs, isolated_ms, follows=True)
        array = next(iter(cycles_on(own.term_names)), None)
        ends = ends_of([before for before, _ in pairs], array)
        features = _joined(own, ends, isolated_ms)
        kept = len(pairs) - round(_HELD_OUT * len(pairs))
        kinds = list(product((True, False), _OBJECTIVES))

        def fitted(corrects_isolated: bool, objective: str, count: int) -> _JoinedTrees:
            trees = _JoinedTrees("costs", objective, corrects_isolated)
            trees._fit(features[:count], added_ms[:count], round((1 - _HELD_OUT) * count), seed)
            return trees

        held_out = configs[kept:], ends[kept:], isolated_ms[kept:]
        apart_ms = {kind: fitted(*kind, kept).added_ms(*held_out) for kind in kinds}
        predicted_ms = {
            chosen: _mean([apart_ms[kind] for kind in chosen])
            for size in range(1, len(kinds) + 1)
            for chosen in combinations(kinds, size)
        }
        # Of all pairs together: in the sum over a network, the slow ones count.
        best = min(predicted_ms, key=lambda chosen: float(np.abs(predicted_ms[chosen] - added_ms[kept:]).sum()))
        deviation = np.linalg.norm(predicted_ms[best] - added_ms[kept:]) / np.linalg.norm(added_ms[kept:])
        scores = log_errors(predicted_ms[best], added_ms[kept:])
        trees = tuple(fitted(*kind, len(pairs)) for kind in best)
        if not any(_SAVED in (chosen.term_names or ()) for chosen in trees):
            array = None  # nobody asks
        return cls(trees, array, scores, float(deviation), len(pairs))

    def margin(self, level: float) -> float:
        """Half the width of the interval of the logarithm of what a block adds."""
        return min(conformal_quantile(self.scores, level), self.scores[-1])

    def predict(self, pairs: Sequence[Pair], isolated_ms: Array) -> Array:
        """What the second blocks add, milliseconds, shape (len(pairs),).

        Args:
            pairs: pairs of blocks, the second ones of the surrogate's family.
            isolated_ms: the predicted latency of each second block alone, shape (len(pairs),).
        """
        configs, ends = [after for _, after in pairs], self._ends.of([before for before, _ in pairs])
        return _mean([trees.added_ms(configs, ends, isolated_ms) for trees in self.trees])

    def prepare(self, configs: Sequence[BlockConfig], before: Sequence[BlockConfig]) -> None:
        """Looks at blocks and at those that may come before them, for `predict` to know them."""
        if configs:
            self._ends.of(before)
            for trees in self.trees:
                trees._own.of(configs)

    @cached_property
    def _ends(self) -> KnownRows:
        return KnownRows(partial(ends_of, array=self.array))

    def to_files(self) -> dict[str, bytes]:
        """The fitted state as named files of plain data."""
        data = {
            "corrects_isolated": [trees.corrects_isolated for trees in self.trees],
            "array": self.array,
            "scores": self.scores,
            "deviation": self.deviation,
            "count": self.count,
        }
        files = {
            f"trees_{number}.{name}": content
            for number, trees in enumerate(self.trees)
            for name, content in trees.to_files().items()
        }
        return {_FILE: to_json(data), **files}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Inverse of `to_files`; raises KeyError, ValueError or TypeError for anything else."""
        data = json.loads(files[_FILE])
        scores = tuple(map(float, data["scores"]))
        found = []
        for number, corrects_isolated in enumerate(data["corrects_isolated"]):
            trees = _JoinedTrees.from_files(under(files, f"trees_{number}."))
            trees.corrects_isolated = bool(corrects_isolated)
            found.append(trees)
        if not found:
            raise ValueError("a joined surrogate without trees")
        return cls(tuple(found), data.get("array"), scores, float(data["deviation"]), int(data["count"]))


def _mean(latencies_ms: Sequence[Array]) -> Array:
    """The geometric mean of predictions of the same pairs."""
    if len(latencies_ms) == 1:
        return latencies_ms[0]
    mean: Array = np.exp(np.mean(np.log(latencies_ms), axis=0))
    return mean


def _table(configs: Sequence[BlockConfig], term_names: Sequence[str] | None, hint_names: Sequence[str]) -> Array:
    return Features.of(configs, term_names, hint_names, follows=True).table


def ends_of(before: Sequence[BlockConfig], array: str | None) -> Array:
    """Of the blocks before: their ends, and the cycles on an array that they save, shape (n, len(ENDS) + 1)."""
    cycles = np.zeros(len(before)) if array is None else saved_cycles(before, array)
    return np.column_stack([end_features(before), cycles])


def _joined(own: Features, ends: Array, isolated_ms: Array) -> Features:
    """The features of second blocks, with what they are joined to as hints."""
    *columns, cycles = ends.T
    hints = {_ISOLATED: np.log(isolated_ms), **dict(zip(_BEFORE, columns, strict=True))}
    return own.with_more({_SAVED: -cycles}, hints)
