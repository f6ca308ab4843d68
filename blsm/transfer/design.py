"""Which architectures to measure on a new device: optimal design (Fedorov 1972), one row after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from blsm._types import Array


def d_optimal(covariance: Array, count: int, noise: float) -> Array:
    """Rows to measure: each time the one that is known least, given those before.

    Args:
        covariance: of all rows beforehand, shape (n, n).
        count: how many, at most n.
        noise: variance of a measurement.

    Returns:
        Distinct rows in the order of choice, int64, shape (count,).
    """
    return _chosen(covariance, count, noise, np.diag)


def a_optimal(covariance: Array, count: int, noise: float) -> Array:
    """Rows to measure: each time the one that reduces the variance of all rows most; see `d_optimal`."""

    def reduction(remaining: Array) -> Array:
        total: Array = np.square(remaining).sum(axis=0) / (np.diag(remaining) + noise)
        return total

    return _chosen(covariance, count, noise, reduction)


def _chosen(covariance: Array, count: int, noise: float, gain: Callable[[Array], Array]) -> Array:
    remaining = covariance
    rows: list[int] = []
    for _ in range(count):
        gains = np.array(gain(remaining))
        gains[rows] = -np.inf
        row = int(np.argmax(gains))
        rows.append(row)
        remaining = remaining - np.outer(remaining[row], remaining[row]) / (remaining[row, row] + noise)
    return np.array(rows)
