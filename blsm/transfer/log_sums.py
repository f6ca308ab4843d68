"""Regression of latencies over orders of magnitude by two sums that err elsewhere, of which the mean is taken.

A device whose own time is among the costs, as an NPU's cycles are, is predicted by that one cost instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from blsm._types import Array
from blsm.errors import FitError
from blsm.surrogates.base import under
from blsm.transfer.log_sum import LogSum, LogSumSpace
from blsm.transfer.one_cost import OneCost
from blsm.transfer.pool import DevicePool

_EARLIER = "its block_prior is that of an earlier blsm: run `blsm transfer` again"


@dataclass(frozen=True)
class LogSumsSpace:
    """The sums of a pool.

    Attributes:
        spaces: the first has the known devices among its parts, the second, if there are costs, has them alone.
        times: columns of the encoding each of which may be a device's own time.
    """

    spaces: tuple[LogSumSpace, ...]
    times: Array

    @classmethod
    def of(cls, pool: DevicePool, known_ms: Array) -> Self:
        """Those of a pool whose known devices take `known_ms`, shape (n, devices)."""
        of_costs = LogSumSpace.of_costs(pool, known_ms)
        spaces = LogSumSpace.of_known(pool, known_ms), *(() if of_costs is None else (of_costs,))
        return cls(spaces, pool.columns("times"))

    def references(self, encodings: Array, known_ms: Array, count: int, kinds: Array | None = None) -> Array:
        """Rows to measure, so many of each kind: those that tell the first sum most, which knows least beforehand."""
        return self.spaces[0].references(encodings, known_ms, count, kinds)

    def fit(self, encodings: Array, known_ms: Array, latencies_ms: Array, seed: int = 0) -> LogSums:
        """Each sum after samples, see `LogSumSpace.fit`; nothing in it is random."""
        sums = tuple(space.fit(encodings, known_ms, latencies_ms) for space in self.spaces)
        return LogSums(sums, OneCost.of(self.times, encodings, latencies_ms))

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        return {**_numbered([space.to_arrays() for space in self.spaces]), "times": self.times}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else, and what `LogSums.from_arrays` does."""
        spaces = tuple(LogSumSpace.from_arrays(own) for own in _of_each(arrays))
        if "times" not in arrays:
            raise FitError(_EARLIER)
        return cls(spaces, arrays["times"])


@dataclass(frozen=True)
class LogSums:
    """What is known of a device after samples.

    Attributes:
        sums: of each space.
        time: the device's own time, if there are costs that may be.
    """

    sums: tuple[LogSum, ...]
    time: OneCost | None

    def predict(self, encodings: Array, known_ms: Array) -> Array:
        """Milliseconds, the geometric mean of the sums or the device's own time, shape (n,)."""
        if self.time is None:
            return self._of_sums(encodings, known_ms)
        return self._with_time(self.time, encodings, known_ms)[0]

    def intervals(self, encodings: Array, known_ms: Array, deviations: float) -> tuple[Array, Array]:
        """So many standard deviations below and above, milliseconds, each of shape (n,)."""
        if self.time is None:
            middle_ms, variance = self._of_sums(encodings, known_ms), self._variance(encodings, known_ms)
        else:
            middle_ms, variance = self._with_time(self.time, encodings, known_ms)
        factor = np.exp(deviations * np.sqrt(variance))
        return middle_ms / factor, middle_ms * factor

    def _with_time(self, time: OneCost, encodings: Array, known_ms: Array) -> tuple[Array, Array]:
        """Milliseconds by the sums and the device's own time, and the variance of their logarithms, shape (n,) each."""
        variance = self._variance(encodings, known_ms)
        share = time.share(variance)
        logarithms = share * time.predict(encodings) + (1 - share) * np.log(self._of_sums(encodings, known_ms))
        return np.exp(logarithms), share * time.spread**2 + (1 - share) * variance

    def _of_sums(self, encodings: Array, known_ms: Array) -> Array:
        """Milliseconds, the geometric mean of the sums, shape (n,)."""
        latency_ms: Array = np.exp(np.mean([found.predict(encodings, known_ms) for found in self.sums], axis=0))
        return latency_ms

    def _variance(self, encodings: Array, known_ms: Array) -> Array:
        """Of the logarithms that the sums predict, shape (n,)."""
        variance: Array = np.mean([found.variance(encodings, known_ms) for found in self.sums], axis=0)
        return variance

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        time = {} if self.time is None else self.time.to_arrays()
        return {**_numbered([found.to_arrays() for found in self.sums]), **time}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else.

        Raises:
            FitError: an earlier blsm made them, whose regression was another one.
        """
        return cls(tuple(LogSum.from_arrays(own) for own in _of_each(arrays)), OneCost.from_arrays(arrays))


def _numbered(each: list[dict[str, Array]]) -> dict[str, Array]:
    arrays = {f"sum_{number}_{name}": array for number, own in enumerate(each) for name, array in own.items()}
    return {"sums": np.array(len(each)), **arrays}


def _of_each(arrays: Mapping[str, Array]) -> list[dict[str, Array]]:
    if "costs" in arrays:
        raise FitError(_EARLIER)
    return [under(arrays, f"sum_{number}_") for number in range(int(arrays["sums"]))]
