"""A look at a search space before the search: does the surrogate cover it, and can the score see its latencies?"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.errors import CoverageError, SearchError
from blsm.hypermodels.reach import check_covered
from blsm.hypermodels.stack import domains_of
from blsm.latency_model import LatencyModel
from blsm.screening import Limits, Screening
from blsm.strategies.encoding import Encoding

_log = logging.getLogger(__name__)

#: Random settings that are looked at: where they are judged all at once, and where each is a model to build or measure.
_SETTINGS, _BUILT = 1000, 10
#: So many blocks are predicted before the search: together they take a second, which a few trials would take else.
_PREPARED = 10_000
#: Below this share of the reference latency the score hardly sees latency.
_BLIND = 0.05


def survey(screening: Screening, space: Any, reference_latency_ms: float, seed: int) -> float:
    """Checks a surrogate and the reference latency against random settings of the space.

    Warns where all of them are so fast that the score hardly sees latency. Networks are measured for `auto` only.

    Args:
        screening: judges settings; its limits do not count here.
        space: KerasTuner's `HyperParameters`, the whole space.
        reference_latency_ms: milliseconds; NaN to take twice the median.
        seed: of the random settings.

    Returns:
        The reference latency, milliseconds.

    Raises:
        SearchError: no setting that was looked at is as fast as the reference.
        CoverageError: the surrogate does not cover what the hypermodel can reach.
    """
    automatic = math.isnan(reference_latency_ms)
    if not (automatic or hasattr(screening.source, "latencies")):
        return reference_latency_ms
    free = Screening(screening.source, screening.hypermodel, Limits())
    random = np.random.default_rng([seed, 2**31])
    latency_ms = _many(free, space, random) if free.cheap(space) else _few(free, space, random)
    if not len(latency_ms):
        if automatic:
            raise SearchError("reference_latency_ms='auto' needs settings that can be built, and none could")
        return reference_latency_ms
    count, fastest, median, slowest = len(latency_ms), latency_ms.min(), float(np.median(latency_ms)), latency_ms.max()
    if automatic:
        reference_latency_ms = 2 * median
        _log.warning(
            "reference_latency_ms='auto': %.4g ms, twice the median of %d random settings", reference_latency_ms, count
        )
    elif fastest > reference_latency_ms:
        raise SearchError(
            f"reference_latency_ms={reference_latency_ms:g} is out of reach: the fastest of {count} random settings "
            f"takes {fastest:.4g} ms, the median {median:.4g} ms; take {2 * median:.3g}, or 'auto'"
        )
    elif slowest < _BLIND * reference_latency_ms:
        warnings.warn(
            f"the score hardly sees latency: the slowest of {count} random settings takes {slowest:.4g} ms, less than "
            f"{_BLIND:.0%} of reference_latency_ms={reference_latency_ms:g}; take {2 * median:.3g}, or 'auto'",
            stacklevel=2,
        )
    return reference_latency_ms


def _many(screening: Screening, space: Any, random: np.random.Generator) -> Array:
    """Latencies of many random settings."""
    encoding = Encoding(space.space)
    settings = encoding.values(encoding.sample(_SETTINGS, random))
    _check_covered(screening, chain.from_iterable(found or () for found in screening.chains(settings, space)))
    _prepare(screening)
    latency_ms = screening.latencies(settings, space)
    return np.asarray(latency_ms[~np.isnan(latency_ms)])


def _few(screening: Screening, space: Any, random: np.random.Generator) -> Array:
    """Latencies of a few random settings, each built."""
    encoding = Encoding(space.space)
    settings = encoding.values(encoding.sample(_BUILT, random))
    candidates = [screening.candidate(values, space) for values in settings]
    estimates = [candidate.estimate for candidate in candidates if candidate.estimate is not None]
    _check_covered(screening, (block.config for estimate in estimates for block in estimate.blocks))
    return np.array([estimate.latency_ms for estimate in estimates])


def _prepare(screening: Screening) -> None:
    """Has a surrogate predict all blocks that the hypermodel reaches, where it tells and they are not too many."""
    reachable = getattr(screening.hypermodel, "reachable", None)
    if isinstance(screening.source, LatencyModel) and callable(reachable) and len(blocks := reachable()) <= _PREPARED:
        screening.source.prepare(blocks)


def _check_covered(screening: Screening, blocks: Iterable[BlockConfig]) -> None:
    """Raises CoverageError where the surrogate was not profiled with all that the hypermodel, or these blocks, need."""
    if not isinstance(screening.source, LatencyModel):
        return
    domains = getattr(screening.hypermodel, "domains", None)
    try:
        check_covered(screening.source, domains() if callable(domains) else domains_of(tuple(dict.fromkeys(blocks))))
    except CoverageError as error:
        raise CoverageError(
            f"{error}, or measure what is not covered: latency=Hybrid(lm, HardwareInTheLoop(device))"
        ) from None
