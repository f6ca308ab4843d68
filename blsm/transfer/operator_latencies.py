"""Operator latencies of devices that nobody ran single operators on, estimated from whole architectures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from blsm._types import Array
from blsm.transfer.pool import DevicePool

#: Ridge penalty for a known device, in units of standardised columns: there are more rows than columns.
_PENALTY = 1.0
#: Relative deviation of what a sum of operators explains; it says how far samples outweigh the known devices.
_NOISE = 0.05


@dataclass(frozen=True)
class OperatorLatencies:
    """Linear regressions of latency on what architectures are made of, scaled by each device's own mean.

    A new device's few samples can't tell its operators apart. Its estimate is the most probable one if its operators
    vary about the known devices' mean as theirs do.

    Attributes:
        columns: of the encoding that count operators or their costs.
        mean, scale: of these columns over the pool.
        known: log of the mean latency, constant, and a latency for each column; shape (devices, 2 + columns).
    """

    columns: Array
    mean: Array
    scale: Array
    known: Array

    @classmethod
    def of(cls, pool: DevicePool) -> Self:
        """The operator latencies of known devices."""
        columns = pool.columns("vec", "physical")
        columns = columns if len(columns) else np.arange(pool.encodings.shape[1])
        values = pool.encodings[:, columns]
        deviation = values.std(axis=0)
        empty = cls(columns, values.mean(axis=0), np.where(deviation > 0, deviation, 1.0), np.zeros((0, 0)))
        rows = []
        for latencies_ms in pool.latencies_ms.values():
            there = ~np.isnan(latencies_ms)
            x, mean_ms = empty._design(pool.encodings[there]), latencies_ms[there].mean()
            weights = np.linalg.solve(x.T @ x + _PENALTY * np.eye(x.shape[1]), x.T @ (latencies_ms[there] / mean_ms))
            rows.append([np.log(mean_ms), *weights])
        return cls(empty.columns, empty.mean, empty.scale, np.array(rows))

    def of_samples(self, encodings: Array, latencies_ms: Array) -> Array:
        """The most probable operator latencies of a new device, a row like those of `known`."""
        prior, spread = self.known[:, 1:].mean(axis=0), self.known[:, 1:].std(axis=0)
        x = self._design(encodings)
        # The mean over the pool is not known: it is that of the samples over what the prior says of them.
        mean_ms = latencies_ms.mean() / max(float((x @ prior).mean()), _NOISE)
        residual = latencies_ms / mean_ms - x @ prior
        gain = (spread**2)[:, None] * x.T
        change = gain @ np.linalg.solve(x @ gain + _NOISE**2 * np.eye(len(x)), residual)
        return np.array([np.log(mean_ms), *(prior + change)])

    def predict(self, row: Array, encodings: Array) -> Array:
        """What a row like those of `known` makes of encodings: milliseconds, shape (n,)."""
        predicted: Array = np.exp(row[0]) * (self._design(encodings) @ row[1:])
        return predicted

    def _design(self, encodings: Array) -> Array:
        x = (encodings[:, self.columns] - self.mean) / self.scale
        return np.column_stack([np.ones(len(x)), x])

    def to_arrays(self) -> dict[str, Array]:
        """As arrays, for a file."""
        return {f"operators_{name}": getattr(self, name) for name in ("columns", "mean", "scale", "known")}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError where they are not among the arrays."""
        return cls(*(arrays[f"operators_{name}"] for name in ("columns", "mean", "scale", "known")))
