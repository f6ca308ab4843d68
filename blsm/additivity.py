"""How well the blocks of a device add up: the evidence for timing them alone or inside a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np

from blsm.errors import FitError
from blsm.profiles import DISPATCH_PROBE, Chain
from blsm.profiling.contexts import CONTEXTS, block_latencies

#: Networks below this many say little about a standard deviation.
LEAST_NETWORKS = 6
#: What counts as a network; a shorter chain is a part of one.
LEAST_BLOCKS = 3
#: Timing in chains takes twice the measurements: it must lower the deviation by this much to be worth it.
_WORTH = 0.015


@dataclass(frozen=True)
class Sums:
    """Sums of truly measured blocks over the networks that they make up: what is left is not a surrogate's fault.

    Attributes:
        networks: how many.
        low: the smallest ratio, sum / network.
        high: the largest ratio.
        median: the median ratio.
        deviation: standard deviation of log(sum / network), which a common factor does not change.
        spearman: rank correlation of sums and networks.
    """

    networks: int
    low: float
    high: float
    median: float
    deviation: float
    spearman: float

    @classmethod
    def of(cls, sums_ms: Sequence[float], measured_ms: Sequence[float]) -> Self:
        """Compares sums with networks, both in milliseconds."""
        from scipy.stats import spearmanr

        ratios = np.asarray(sums_ms) / np.asarray(measured_ms)
        return cls(
            len(ratios),
            float(ratios.min()),
            float(ratios.max()),
            float(np.median(ratios)),
            float(np.log(ratios).std(ddof=1)),
            float(spearmanr(sums_ms, measured_ms).statistic),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, float]) -> Self:
        """The figures from JSON data, as of `dataclasses.asdict`."""
        return cls(int(data["networks"]), *(float(data[f.name]) for f in fields(cls)[1:]))


@dataclass(frozen=True)
class Additivity:
    """The verdict on a device.

    Attributes:
        sums: context -> how the blocks add up when they are timed in it.
    """

    sums: Mapping[str, Sums]

    @property
    def context(self) -> str:
        """The context to profile in: `isolated`, unless chains add up clearly better."""
        least = min(sums.deviation for sums in self.sums.values())
        return next(name for name in CONTEXTS if name in self.sums and self.sums[name].deviation <= least + _WORTH)

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON data."""
        return {name: asdict(sums) for name, sums in self.sums.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        return cls({name: Sums.from_json(sums) for name, sums in data.items()})


def judge(measured: Mapping[Chain, float]) -> Additivity:
    """Judges how measured blocks add up to measured networks.

    Args:
        measured: chain -> milliseconds, the dispatch probe among them. A network counts where all its blocks were
            measured too, in every context that is judged.

    Raises:
        FitError: fewer than `LEAST_NETWORKS` networks were measured whole and in parts.
    """
    dispatch_ms = measured.get(DISPATCH_PROBE, 0.0)
    networks = [chain for chain in measured if len(chain) >= LEAST_BLOCKS]
    most, judged = 0, {}
    for context in CONTEXTS if DISPATCH_PROBE in measured else ():
        blocks_ms = block_latencies(measured, context)
        whole = [network for network in networks if all(config in blocks_ms for config in network)]
        most = max(most, len(whole))
        if len(whole) >= LEAST_NETWORKS:
            sums_ms = [dispatch_ms + sum(max(0.0, blocks_ms[b] - dispatch_ms) for b in network) for network in whole]
            judged[context] = Sums.of(sums_ms, [measured[network] for network in whole])
    if not judged:
        raise FitError(
            f"{most} networks were measured whole and in parts, at least {LEAST_NETWORKS} are needed to judge how "
            "blocks add up: run `blsm additivity`, with more --networks if some fail"
        )
    return Additivity(judged)
