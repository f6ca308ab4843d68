"""The balanced accuracy-latency score (BALS): what a search maximises.

The paper prints BALS = a / a_ref + log(tau - tau_ref) / log(tau_ref) - 1. Read literally it is undefined for networks
faster than tau_ref, and rewards slowness beyond. Its text takes tau_ref = 100 ms as the bound and maximises, which asks
for log(tau_ref - tau); and a logarithm of milliseconds asks for a unit u:

    BALS = a / a_ref + log((tau_ref - tau) / u) / log(tau_ref / u) - 1

u is tau_ref / 100 by default, which gives the paper's numbers at tau_ref = 100 ms and u = 1 ms. Where less than u is
left to tau_ref the logarithm is continued by its tangent, so that the score is finite, smooth and strictly decreasing
in tau everywhere.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from blsm._types import Array
from blsm.errors import DomainError

REFERENCE_ACCURACY = 1.0
REFERENCE_LATENCY_MS = 100.0
#: The default unit is this share of the reference latency.
_UNIT_SHARE = 0.01


def balanced_score(
    accuracy: npt.ArrayLike,
    latency_ms: npt.ArrayLike,
    *,
    reference_accuracy: float = REFERENCE_ACCURACY,
    reference_latency_ms: float = REFERENCE_LATENCY_MS,
    unit_ms: float | None = None,
) -> Array:
    """The balanced accuracy-latency score; more is better.

    It is accuracy / reference_accuracy at latency 0, and one less where only the unit is left to the reference latency.

    Args:
        accuracy: 0 to 1, any shape; NaN gives NaN.
        latency_ms: milliseconds, of a shape that fits accuracy's.
        reference_accuracy: the accuracy that counts 1.
        reference_latency_ms: the latency bound tau_ref, milliseconds.
        unit_ms: the unit u, milliseconds, less than the reference latency; a hundredth of it if None.

    Returns:
        float64, shape of the arguments; a scalar array for scalars.

    Raises:
        DomainError: a reference or the unit is not positive and finite, or the unit is not less than the reference.
    """
    if not (math.isfinite(reference_accuracy) and reference_accuracy > 0):
        raise DomainError(f"the reference accuracy must be above 0, got {reference_accuracy!r}")
    penalty = latency_term(latency_ms, reference_latency_ms=reference_latency_ms, unit_ms=unit_ms)
    return np.asarray(np.asarray(accuracy, dtype=float) / reference_accuracy + penalty)


def latency_term(
    latency_ms: npt.ArrayLike, *, reference_latency_ms: float = REFERENCE_LATENCY_MS, unit_ms: float | None = None
) -> Array:
    """What latency adds to the score: 0 at latency 0, less the slower; see `balanced_score`."""
    if not (math.isfinite(reference_latency_ms) and reference_latency_ms > 0):
        raise DomainError(f"the reference latency must be above 0 ms, got {reference_latency_ms!r}")
    unit_ms = _UNIT_SHARE * reference_latency_ms if unit_ms is None else unit_ms
    if not 0 < unit_ms < reference_latency_ms:
        raise DomainError(f"the unit must lie between 0 and the {reference_latency_ms} ms reference, got {unit_ms!r}")
    left = (reference_latency_ms - np.asarray(latency_ms, dtype=float)) / unit_ms
    # The logarithm for left >= 1, and its tangent at 1 below.
    logarithm = np.log(np.maximum(left, 1)) + np.minimum(left - 1, 0)
    return np.asarray(logarithm / math.log(reference_latency_ms / unit_ms) - 1)
