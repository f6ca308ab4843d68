"""Regression of latencies of one order of magnitude: a sum of what the known devices take and of costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from blsm._types import Array
from blsm.transfer import bayesian_regression
from blsm.transfer.bayesian_regression import Posterior
from blsm.transfer.design import d_optimal
from blsm.transfer.pool import DevicePool
from blsm.transfer.ridge import Standard

#: Groups of columns that are a source of prior knowledge each.
_GROUPS = ("physical", "stages", "vec")
#: Tables before those of the groups: a constant, the known devices' mean, the known devices. The constant is 0 once it
#: is standardised; it keeps the draws of amplitudes those that the published figures were made with.
_FIRST = 3
#: How uncertain one measurement is taken to be when samples are chosen, in units of the prior variance of a table.
_DESIGN_NOISE = 0.1


@dataclass(frozen=True)
class LinearSpace:
    """Tables of features of encodings; latency is a linear function of them.

    Attributes:
        groups: columns of the encoding, one entry for each of `_GROUPS`; empty where there are none.
        standards: of each table.
    """

    groups: tuple[Array, ...]
    standards: tuple[Standard, ...]

    @classmethod
    def of(cls, pool: DevicePool, known_ms: Array) -> Self:
        """The space of a pool whose known devices take `known_ms`, shape (n, devices)."""
        unfitted = cls(tuple(pool.columns(name) for name in _GROUPS), ())
        tables = unfitted._tables(pool.encodings, known_ms)
        return cls(unfitted.groups, tuple(Standard.of(table).of_length_one(table) for table in tables))

    def references(self, encodings: Array, known_ms: Array, count: int, kinds: Array | None = None) -> Array:
        """Rows to measure, so many of each kind."""
        varying = [table for table in self.features(encodings, known_ms) if table.any()]
        covariance = sum((table @ table.T / len(varying) for table in varying), np.ones((len(encodings),) * 2))
        return d_optimal(covariance, count, _DESIGN_NOISE, kinds)

    def features(self, encodings: Array, known_ms: Array) -> list[Array]:
        """The tables, standardised."""
        tables = self._tables(encodings, known_ms)
        return [standard(table) for standard, table in zip(self.standards, tables, strict=True)]

    def fit(self, encodings: Array, known_ms: Array, latencies_ms: Array, seed: int) -> LinearSum:
        """Regression on samples, see `bayesian_regression.fit`."""
        return LinearSum(self, bayesian_regression.fit(self.features(encodings, known_ms), latencies_ms, seed))

    def _tables(self, encodings: Array, known_ms: Array) -> list[Array]:
        mean_ms = np.exp(np.log(known_ms).mean(axis=1, keepdims=True))
        return [np.ones_like(mean_ms), mean_ms, known_ms, *(encodings[:, columns] for columns in self.groups)]

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        arrays = {f"group_{number}": columns for number, columns in enumerate(self.groups)}
        for number, standard in enumerate(self.standards):
            arrays |= {f"mean_{number}": standard.mean, f"scale_{number}": standard.scale}
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else."""
        groups = tuple(arrays[f"group_{number}"] for number in range(len(_GROUPS)))
        tables = range(_FIRST + len(groups))
        return cls(groups, tuple(Standard(arrays[f"mean_{number}"], arrays[f"scale_{number}"]) for number in tables))


@dataclass(frozen=True)
class LinearSum:
    """What is known of a device after samples.

    Attributes:
        space: of the pool.
        posterior: of milliseconds.
    """

    space: LinearSpace
    posterior: Posterior

    def predict(self, encodings: Array, known_ms: Array) -> Array:
        """Milliseconds, shape (n,)."""
        return self.posterior.predict(np.hstack(self.space.features(encodings, known_ms)))

    def intervals(self, encodings: Array, known_ms: Array, deviations: float) -> tuple[Array, Array]:
        """So many standard deviations below and above, milliseconds, each of shape (n,)."""
        features = np.hstack(self.space.features(encodings, known_ms))
        middle_ms, margin_ms = self.posterior.predict(features), deviations * np.sqrt(self.posterior.variance(features))
        return middle_ms - margin_ms, middle_ms + margin_ms

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        return {**self.space.to_arrays(), **self.posterior.to_arrays()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError or ValueError for anything else."""
        return cls(LinearSpace.from_arrays(arrays), Posterior.from_arrays(arrays))
