"""Networks that no other beats in both accuracy and latency, and how much of the plane they dominate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from blsm._types import Array
from blsm.errors import DomainError


def pareto_front(accuracy: npt.ArrayLike, latency_ms: npt.ArrayLike) -> Array:
    """The networks that are not dominated: none is as accurate and as fast, and better in one of the two.

    Equal networks do not dominate each other: either all or none of them are on the front.

    Args:
        accuracy: shape (n,); a network with NaN is never on the front.
        latency_ms: milliseconds, shape (n,); as for accuracy.

    Returns:
        Indices, int64, fastest first; equal networks in their given order.

    Raises:
        DomainError: the arguments are not two lists of the same length.
    """
    accuracy, latency_ms = _pair(accuracy, latency_ms)
    known = np.flatnonzero(~(np.isnan(accuracy) | np.isnan(latency_ms)))
    points, which = np.unique(np.stack([latency_ms[known], -accuracy[known]], axis=1), axis=0, return_inverse=True)
    # Sorted by latency, then by accuracy downward: a point is on the front if it beats all before it.
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(points[:, 1])[:-1]]) if len(points) else np.empty(0)
    on_front = (points[:, 1] < best_before)[which.ravel()]
    return np.asarray(known[on_front][np.argsort(which.ravel()[on_front], kind="stable")])


def hypervolume(
    accuracy: npt.ArrayLike,
    latency_ms: npt.ArrayLike,
    reference_accuracy: float = 0.0,
    reference_latency_ms: float = 100.0,
) -> float:
    """The area that networks dominate, between the reference point and their front: accuracy x milliseconds.

    Args:
        accuracy: shape (n,).
        latency_ms: milliseconds, shape (n,).
        reference_accuracy: networks that are not more accurate add nothing.
        reference_latency_ms: networks that are not faster add nothing, milliseconds.

    Raises:
        DomainError: the arguments are not two lists of the same length.
    """
    accuracy, latency_ms = _pair(accuracy, latency_ms)
    better = (accuracy > reference_accuracy) & (latency_ms < reference_latency_ms)
    accuracy, latency_ms = accuracy[better], latency_ms[better]
    front = pareto_front(accuracy, latency_ms)
    gains = np.diff(accuracy[front], prepend=reference_accuracy)
    return float(np.sum(gains * (reference_latency_ms - latency_ms[front])))


def _pair(accuracy: npt.ArrayLike, latency_ms: npt.ArrayLike) -> tuple[Array, Array]:
    first, second = np.asarray(accuracy, dtype=float), np.asarray(latency_ms, dtype=float)
    if first.ndim != 1 or first.shape != second.shape:
        raise DomainError(f"accuracy and latency must be lists of one length, got shapes {first.shape}, {second.shape}")
    return first, second
