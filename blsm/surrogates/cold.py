"""What blocks take longer with nothing in the caches: learned from blocks that were timed both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.caches import left
from blsm.features import Features
from blsm.operators.costs import ARRAY_COSTS, THREAD_COSTS
from blsm.surrogates.roofline import Roofline

#: Names of the terms that count operators, or parts of them, not data.
_CODE = re.compile(r"^(constant|operators)$")


@dataclass(frozen=True)
class ColdSurrogate:
    """Predicts what blocks of one family take longer when nothing of theirs is in the caches.

    A roofline of what comes from memory then, weights and tensors, as far as it is in the caches otherwise. It has few
    numbers to learn, as each measurement is a matter of luck. What depends on the number of operators alone is left
    out: that is mostly the runtime's own code, which the other blocks of a network need as well.

    Attributes:
        base: what all data take longer.
    """

    base: Roofline

    @classmethod
    def fit(cls, configs: Sequence[BlockConfig], latency_ms: Array, excess_ms: Array) -> Self:
        """Learns from blocks.

        Args:
            configs: of one family.
            latency_ms: what they take when they run over and over, milliseconds, shape (n,).
            excess_ms: what they take longer with nothing in the caches, shape (n,).
        """
        # What NPUs' arrays do, and how threads share work, takes long to count.
        features = Features.of(configs, arrays=()).without([ARRAY_COSTS, THREAD_COSTS])
        base = Roofline()
        # Networks are made of slow blocks, whose excess is the largest; but the slower, the noisier it is.
        terms = features.terms * left(latency_ms)[:, None]
        base.fit_sums(replace(features, terms=terms), excess_ms, np.sqrt(latency_ms))
        base.leave_out(_CODE)
        return cls(base)

    def predict(self, configs: Sequence[BlockConfig], latency_ms: Array) -> Array:
        """What blocks take longer, milliseconds, shape (len(configs),); `latency_ms` as of `fit`."""
        all_ms = self.base.parts(Features.of(configs, self.base.term_names, ())).sum(axis=1)
        excess_ms: Array = left(latency_ms) * all_ms
        return excess_ms

    def to_files(self) -> dict[str, bytes]:
        """The fitted state as named files of plain data."""
        return self.base.to_files()

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Inverse of `to_files`; raises KeyError, ValueError or TypeError for anything else."""
        return cls(Roofline.from_files(files))


def predict_excesses(
    surrogates: Mapping[str, ColdSurrogate], configs: Sequence[BlockConfig], latency_ms: Array
) -> Array:
    """What blocks of any families take longer with nothing in the caches, milliseconds; NaN where that is not known.

    Args:
        surrogates: block family -> its surrogate.
        configs: the blocks.
        latency_ms: what they take when they run over and over, milliseconds, shape (len(configs),).
    """
    excess_ms = np.full(len(configs), np.nan)
    families = np.array([config.family for config in configs])
    for family, surrogate in surrogates.items():
        members = np.flatnonzero(families == family)
        if len(members):
            excess_ms[members] = surrogate.predict([configs[index] for index in members], latency_ms[members])
    return excess_ms
