"""Which architectures to measure on a new device: optimal design (Fedorov 1972), one row after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from blsm._types import Array


def d_optimal(covariance: Array, count: int, noise: float, kinds: Array | None = None) -> Array:
    """Rows to measure: each time the one that is known least, given those before.

    Args:
        covariance: of all rows beforehand, shape (n, n).
        count: how many.
        noise: variance of a measurement.
        kinds: of the rows, shape (n,): so many of each kind, or all there are; one kind by default.

    Returns:
        Distinct rows in the order of choice, int64.
    """
    return _chosen(covariance, count, noise, kinds, np.diag)


def a_optimal(covariance: Array, count: int, noise: float, kinds: Array | None = None) -> Array:
    """Rows to measure: each time the one that reduces the variance of all rows most; see `d_optimal`."""

    def reduction(remaining: Array) -> Array:
        total: Array = np.square(remaining).sum(axis=0) / (np.diag(remaining) + noise)
        return total

    return _chosen(covariance, count, noise, kinds, reduction)


def _chosen(covariance: Array, count: int, noise: float, kinds: Array | None, gain: Callable[[Array], Array]) -> Array:
    remaining = covariance
    kinds = np.zeros(len(covariance), int) if kinds is None else kinds
    wanted = {kind: min(count, int((kinds == kind).sum())) for kind in np.unique(kinds).tolist()}
    rows: list[int] = []
    allowed = np.ones(len(covariance), bool)
    while allowed.any():
        row = int(np.argmax(np.where(allowed, gain(remaining), -np.inf)))
        rows.append(row)
        kind = kinds[row].item()
        wanted[kind] -= 1
        allowed[row] = False
        if not wanted[kind]:
            allowed[kinds == kind] = False
        remaining = remaining - np.outer(remaining[row], remaining[row]) / (remaining[row, row] + noise)
    return np.array(rows)
