"""Regression of latencies over orders of magnitude by two sums that err elsewhere, of which the mean is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from blsm._types import Array
from blsm.errors import FitError
from blsm.surrogates.base import under
from blsm.transfer.log_sum import LogSum, LogSumSpace
from blsm.transfer.pool import DevicePool


@dataclass(frozen=True)
class LogSumsSpace:
    """The sums of a pool.

    Attributes:
        spaces: the first has the known devices among its parts, the second, if there are costs, has them alone.
    """

    spaces: tuple[LogSumSpace, ...]

    @classmethod
    def of(cls, pool: DevicePool, known_ms: Array) -> Self:
        """Those of a pool whose known devices take `known_ms`, shape (n, devices)."""
        of_costs = LogSumSpace.of_costs(pool, known_ms)
        return cls((LogSumSpace.of_known(pool, known_ms), *(() if of_costs is None else (of_costs,))))

    def references(self, encodings: Array, known_ms: Array, count: int, kinds: Array | None = None) -> Array:
        """Rows to measure, so many of each kind: those that tell the first sum most, which knows least beforehand."""
        return self.spaces[0].references(encodings, known_ms, count, kinds)

    def fit(self, encodings: Array, known_ms: Array, latencies_ms: Array, seed: int = 0) -> LogSums:
        """Each sum after samples, see `LogSumSpace.fit`; nothing in it is random."""
        return LogSums(tuple(space.fit(encodings, known_ms, latencies_ms) for space in self.spaces))

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        return _numbered([space.to_arrays() for space in self.spaces])

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else, and what `LogSums.from_arrays` does."""
        return cls(tuple(LogSumSpace.from_arrays(own) for own in _of_each(arrays)))


@dataclass(frozen=True)
class LogSums:
    """What is known of a device after samples.

    Attributes:
        sums: of each space.
    """

    sums: tuple[LogSum, ...]

    def predict(self, encodings: Array, known_ms: Array) -> Array:
        """Milliseconds, the geometric mean of the sums, shape (n,)."""
        latency_ms: Array = np.exp(np.mean([found.predict(encodings, known_ms) for found in self.sums], axis=0))
        return latency_ms

    def intervals(self, encodings: Array, known_ms: Array, deviations: float) -> tuple[Array, Array]:
        """So many standard deviations below and above, milliseconds, each of shape (n,)."""
        variance = np.mean([found.variance(encodings, known_ms) for found in self.sums], axis=0)
        middle_ms, factor = self.predict(encodings, known_ms), np.exp(deviations * np.sqrt(variance))
        return middle_ms / factor, middle_ms * factor

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        return _numbered([found.to_arrays() for found in self.sums])

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else.

        Raises:
            FitError: an earlier blsm made them, whose regression was another one.
        """
        return cls(tuple(LogSum.from_arrays(own) for own in _of_each(arrays)))


def _numbered(each: list[dict[str, Array]]) -> dict[str, Array]:
    arrays = {f"sum_{number}_{name}": array for number, own in enumerate(each) for name, array in own.items()}
    return {"sums": np.array(len(each)), **arrays}


def _of_each(arrays: Mapping[str, Array]) -> list[dict[str, Array]]:
    if "costs" in arrays:
        raise FitError("its block_prior is that of an earlier blsm: run `blsm transfer` again")
    return [under(arrays, f"sum_{number}_") for number in range(int(arrays["sums"]))]
