"""Ridge regression with its penalty chosen by leaving one row out; the known devices of a pool as such fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from blsm._types import Array
from blsm.transfer.pool import DevicePool

#: Penalties to choose from, for standardised columns and one row.
_PENALTIES = 10.0 ** np.arange(-5, 2)


@dataclass(frozen=True)
class Standard:
    """Columns moved to mean 0 and divided by their standard deviation; columns that never vary become 0.

    Attributes:
        mean: shape (d,).
        scale: shape (d,); infinite for columns that never vary.
    """

    mean: Array
    scale: Array

    @classmethod
    def of(cls, values: Array) -> Self:
        """As the columns of `values`, shape (n, d), need it."""
        mean, deviation = values.mean(axis=0), values.std(axis=0)
        return cls(mean, np.where(deviation > 1e-9 * np.abs(mean), deviation, np.inf))

    def __call__(self, values: Array) -> Array:
        result: Array = (values - self.mean) / self.scale
        return result


@dataclass(frozen=True)
class Ridge:
    """A linear fit.

    Attributes:
        coefficients: shape (d,).
        intercept: of rows of zeros.
    """

    coefficients: Array
    intercept: float

    @classmethod
    def fit(cls, columns: Array, target: Array) -> Self:
        """Fits standardised columns; the penalty is the one with the least squared error when each row is left out.

        Args:
            columns: shape (n, d).
            target: shape (n,).
        """
        middle = columns.mean(axis=0)
        centred, level = columns - middle, float(target.mean())
        left, singular, right = np.linalg.svd(centred, full_matrices=False)
        kept = singular > 1e-10 * max(singular.max(initial=0.0), 1e-300)
        left, singular, right = left[:, kept], singular[kept], right[kept]
        rotated = left.T @ (target - level)

        def error(penalty: float) -> float:
            shrink = singular**2 / (singular**2 + penalty * len(target))
            leverage = 1 / len(target) + np.square(left) @ shrink
            residual = target - level - left @ (shrink * rotated)
            return float(np.square(residual / np.maximum(1 - leverage, 1e-6)).mean())

        penalty = min(_PENALTIES, key=error) * len(target)
        coefficients = right.T @ (singular / (singular**2 + penalty) * rotated)
        return cls(coefficients, level - float(middle @ coefficients))

    def predict(self, columns: Array) -> Array:
        """Predictions for rows, shape (n,)."""
        result: Array = columns @ self.coefficients + self.intercept
        return result


@dataclass(frozen=True)
class KnownLatencies:
    """What the known devices take for any encoding, milliseconds: by a ridge fit of each, or as the encoding says itself.

    Attributes:
        columns: of the encoding that are used, shape (k,).
        standard: of these columns.
        coefficients: shape (k, devices).
        intercepts: shape (devices,), milliseconds.
        least_ms: no prediction is smaller, shape (devices,).
    """

    columns: Array
    standard: Standard
    coefficients: Array
    intercepts: Array
    least_ms: Array

    @classmethod
    def fit(cls, pool: DevicePool) -> Self:
        """Learns the devices of a pool; its group `known` (their latencies, predicted by their own surrogates) is taken
        as it is."""
        least_ms = np.nanmin(pool.table_ms, axis=0)
        if "known" in pool.groups:
            columns = pool.columns("known")
            as_is = Standard(np.zeros(len(columns)), np.ones(len(columns)))
            return cls(columns, as_is, np.eye(len(columns)), np.zeros(len(columns)), least_ms)
        columns = pool.columns("vec", "physical", "stages")
        standard = Standard.of(pool.encodings[:, columns])
        fits = []
        for latencies_ms in pool.latencies_ms.values():
            rows = ~np.isnan(latencies_ms)
            fits.append(Ridge.fit(standard(pool.encodings[rows][:, columns]), latencies_ms[rows]))
        coefficients = np.column_stack([fit.coefficients for fit in fits])
        return cls(columns, standard, coefficients, np.array([fit.intercept for fit in fits]), least_ms)

    def predict(self, encodings: Array) -> Array:
        """Milliseconds, positive, shape (n, devices)."""
        latency_ms = self.standard(encodings[:, self.columns]) @ self.coefficients + self.intercepts
        return np.maximum(latency_ms, self.least_ms)

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        return {
            "known_columns": self.columns,
            "known_mean": self.standard.mean,
            "known_scale": self.standard.scale,
            "known_coefficients": self.coefficients,
            "known_intercepts": self.intercepts,
            "known_least_ms": self.least_ms,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else."""
        names = ("columns", "mean", "scale", "coefficients", "intercepts", "least_ms")
        columns, mean, scale, coefficients, intercepts, least_ms = (arrays[f"known_{name}"] for name in names)
        return cls(columns, Standard(mean, scale), coefficients, intercepts, least_ms)
