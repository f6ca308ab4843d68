"""How much of an estimate to believe."""

from __future__ import annotations

import math

from blsm._types import Array


def kept_share(estimate: float, variance: float) -> float:
    """The share of an estimate that remains once it is shrunk towards 0; none of one that noise alone would bring.

    The posterior mean where the variance of what is estimated comes from the estimate itself (Efron and Morris 1973,
    the positive-part rule).

    Args:
        estimate: of something that is expected to be about 0.
        variance: of its error.

    Returns:
        Between 0 and 1.
    """
    square = estimate**2  # 0 of the smallest numbers
    return max(0.0, 1 - variance / square) if square else 0.0


def is_clear(gains: Array, standard_errors: float) -> bool:
    """Whether gains, shape (n,), are above 0 on average by more than so many of its standard errors."""
    return bool(gains.mean() > standard_errors * gains.std(ddof=1) / math.sqrt(len(gains)))
