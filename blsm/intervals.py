"""Prediction intervals that hold: split-conformal quantiles of errors on measurements that no fit has seen.

Conformal intervals need no assumption on how errors are distributed: of n + 1 exchangeable scores, the last is at most
the ceil((n + 1) level)-th smallest of the others with a probability of `level` or more (Vovk, Gammerman and Shafer
2005, chapter 2; Lei et al. 2018, Theorem 2.2). Scores are |log(measured / predicted)| here: intervals are relative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from blsm._types import Array
from blsm.errors import DomainError

#: The level of an interval: the share of what is measured that lies inside, unless the caller asks for another.
DEFAULT_LEVEL = 0.9


def check_level(level: float) -> None:
    """Raises DomainError unless a level lies between 0 and 1."""
    if not 0 < level < 1:
        raise DomainError(f"the level of an interval must be above 0 and below 1, e.g. 0.9, got {level!r}")


def log_errors(predicted_ms: Array, measured_ms: Array) -> tuple[float, ...]:
    """The scores |log(measured / predicted)|, ascending; both in milliseconds, of shape (n,)."""
    return tuple(sorted(np.abs(np.log(measured_ms / predicted_ms)).tolist()))


def conformal_quantile(scores: Sequence[float], level: float) -> float:
    """The ceil((n + 1) level)-th smallest of n scores; infinite where n scores are too few for the level.

    Raises:
        DomainError: the level does not lie between 0 and 1.
    """
    check_level(level)
    # Rounded first: 10 * 0.9 must not count as a little more than 9.
    rank = math.ceil(round((len(scores) + 1) * level, 9))
    return math.inf if rank > len(scores) else sorted(scores)[rank - 1]


def normal_quantile(level: float) -> float:
    """Half the width of the central interval of a standard normal distribution.

    Raises:
        DomainError: the level does not lie between 0 and 1.
    """
    check_level(level)
    return NormalDist().inv_cdf((1 + level) / 2)


def normal_scores(deviation: float, count: int) -> tuple[float, ...]:
    """What `count` scores are about if errors are normal: for measurements that kept their deviation only."""
    return tuple(deviation * normal_quantile((index + 0.5) / count) for index in range(count))
