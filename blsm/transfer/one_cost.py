"""Regression of latencies on one cost: a device whose time is among the costs takes as long as that one says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from blsm._types import Array

#: Standard deviations of a normal distribution for its median deviation, and deviations of its 90 % interval.
_OF_MEDIAN, _OF_INTERVAL = 1.4826, 1.645
#: No deviation is known to be smaller.
_LEAST = 0.01
#: Of the deviations that few samples show, and of how many more there may be.
_LEVEL = 0.9


@dataclass(frozen=True)
class OneCost:
    """Latency is a multiple of one column of the encoding, but for a few architectures that are quite unlike it.

    Attributes:
        column: its place.
        factor: logarithm of milliseconds for one unit of it.
        deviation: of the logarithm, of most samples.
        spread: likewise, of so many that 90 % intervals hold.
    """

    column: int
    factor: float
    deviation: float
    spread: float

    @classmethod
    def of(cls, columns: Array, encodings: Array, latencies_ms: Array) -> Self | None:
        """The one of some columns that latencies vary with most closely; None if there are none.

        Args:
            columns: places of costs.
            encodings: of the samples.
            latencies_ms: of the samples.
        """
        found = []
        for column in columns.tolist():
            if (encodings[:, column] <= 0).any():
                continue
            ratio = np.log(latencies_ms / encodings[:, column])
            factor = float(np.median(ratio))
            apart = np.abs(ratio - factor)
            deviation = max(_OF_MEDIAN * float(np.median(apart)), _LEAST)
            spread = max(float(np.quantile(apart, _LEVEL)) / _OF_INTERVAL, deviation)
            found.append(cls(column, factor, deviation, spread))
        return min(found, key=lambda cost: cost.deviation, default=None)

    def predict(self, encodings: Array) -> Array:
        """Logarithms of milliseconds, shape (n,)."""
        logarithms: Array = self.factor + np.log(np.maximum(encodings[:, self.column], np.finfo(float).tiny))
        return logarithms

    def share(self, variance: Array) -> Array:
        """How far to go by it rather than by something else of some variance, 0 to 1, shape (n,).

        The variances say how far to trust both; that of most samples is little worth where it is not much smaller.
        """
        shares: Array = 1 / (1 + np.square(self.deviation**2 / variance))
        return shares

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        return {"one_cost": np.array([self.column, self.factor, self.deviation, self.spread])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self | None:
        """Inverse of `to_arrays`; None if there is none."""
        if "one_cost" not in arrays:
            return None
        column, factor, deviation, spread = arrays["one_cost"].tolist()
        return cls(int(column), factor, deviation, spread)
