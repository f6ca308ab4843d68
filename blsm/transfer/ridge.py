"""Ridge regression with its penalty chosen by leaving one row out; the known devices of a pool as such fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def of_length_one(self, values: Array) -> Self:
        """The same, scaled further so that rows of `values` have a squared length of 1 on average."""
        length = np.sqrt(np.square(self(values)).sum(axis=1).mean()) or 1.0
        return type(self)(self.mean, self.scale * length)


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
        return cls.fits(columns, [target])[0]

    @classmethod
    def fits(cls, columns: Array, targets: Sequence[Array]) -> list[Self]:
        """Fits several targets on the same columns, each with a penalty of its own."""
        middle = columns.mean(axis=0)
        left, singular, right = _decompose(columns - middle)
        squares = np.square(left)
        found = []
        for target in targets:
            level = float(target.mean())
            centred = target - level
            rotated = left.T @ centred
            errors = []
            for penalty in _PENALTIES * len(target):
                shrink = singular**2 / (singular**2 + penalty)
                leverage = 1 / len(target) + squares @ shrink
                residual = centred - left @ (shrink * rotated)
                errors.append(np.square(residual / np.maximum(1 - leverage, 1e-6)).mean())
            penalty = _PENALTIES[int(np.argmin(errors))] * len(target)
            coefficients = right @ (singular / (singular**2 + penalty) * rotated)
            found.append(cls(coefficients, level - float(middle @ coefficients)))
        return found

    def predict(self, columns: Array) -> Array:
        """Predictions for rows, shape (n,)."""
        result: Array = columns @ self.coefficients + self.intercept
        return result


def _decompose(centred: Array) -> tuple[Array, Array, Array]:
    """Left singular vectors, singular values and right singular vectors, as columns; without those that are zero."""
    if len(centred) > centred.shape[1]:  # much faster where there are many rows
        values, right = np.linalg.eigh(centred.T @ centred)
        kept = values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)
        singular, right = np.sqrt(values[kept]), right[:, kept]
        return centred @ right / singular, singular, right
    left, singular, transposed = np.linalg.svd(centred, full_matrices=False)
    kept = singular > 1e-8 * max(float(singular.max(initial=0.0)), 1e-300)
    return left[:, kept], singular[kept], transposed[kept].T


@dataclass(frozen=True)
class KnownLatencies:
    """What the known devices take for any encoding, milliseconds: by a ridge fit of each, or as the encoding has it.

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
        table_ms = pool.table_ms
        fits: dict[int, Ridge] = {}
        # Devices that were measured on the same rows are fitted together.
        masks, groups = np.unique(~np.isnan(table_ms), axis=1, return_inverse=True)
        for number, rows in enumerate(masks.T):
            members = np.flatnonzero(groups.ravel() == number)
            inputs = standard(pool.encodings[rows][:, columns])
            fits |= zip(members.tolist(), Ridge.fits(inputs, list(table_ms[rows][:, members].T)), strict=True)
        coefficients = np.column_stack([fits[number].coefficients for number in range(len(fits))])
        return cls(
            columns, standard, coefficients, np.array([fits[number].intercept for number in range(len(fits))]), least_ms
        )

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
