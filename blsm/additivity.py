"""How well the blocks of a device add up: the evidence for timing them alone or inside a chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from blsm.errors import FitError
from blsm.profiles import DISPATCH_PROBE, Chain
from blsm.profiling.contexts import CONTEXTS, block_latencies

#: Networks below this many say little about a standard deviation.
LEAST_NETWORKS = 6
#: Timing in chains takes twice the measurements: it must lower the deviation by this much to be worth it.
_WORTH = 0.005


@dataclass(frozen=True)
class Sums:
    """Sums of truly measured blocks over the networks that they make up: what is left is not a surrogate's fault.

    Attributes:
        low: the smallest ratio, sum / network.
        high: the largest ratio.
        median: the median ratio.
        deviation: standard deviation of log(sum / network), which a common factor does not change.
        spearman: rank correlation of sums and networks.
    """

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
            float(ratios.min()),
            float(ratios.max()),
            float(np.median(ratios)),
            float(np.log(ratios).std(ddof=1)),
            float(spearmanr(sums_ms, measured_ms).statistic),
        )


@dataclass(frozen=True)
class Additivity:
    """The verdict on a device.

    Attributes:
        networks: how many networks were measured whole and in parts.
        sums: context -> how the blocks add up when they are timed in it.
    """

    networks: int
    sums: Mapping[str, Sums]

    @property
    def context(self) -> str:
        """The context to profile in: `isolated`, unless chains add up clearly better."""
        least = min(sums.deviation for sums in self.sums.values())
        return next(name for name in CONTEXTS if name in self.sums and self.sums[name].deviation <= least + _WORTH)

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON data."""
        return {"networks": self.networks, "sums": {name: asdict(sums) for name, sums in self.sums.items()}}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        sums = {name: Sums(**{key: float(value) for key, value in d.items()}) for name, d in data["sums"].items()}
        return cls(int(data["networks"]), sums)


def judge(measured: Mapping[Chain, float], networks: Sequence[Chain]) -> Additivity:
    """Judges how measured blocks add up to measured networks.

    Args:
        measured: chain -> milliseconds: the networks, and their blocks in one context or several; see
            `blsm.profiling.contexts.study_chains`.
        networks: the networks to judge by; those that were not measured whole are left out.

    Raises:
        FitError: fewer than `LEAST_NETWORKS` networks were measured whole and in parts.
    """
    dispatch_ms = measured.get(DISPATCH_PROBE)
    found: dict[str, list[Chain]] = {}
    if dispatch_ms is not None:
        latencies_ms = {context: block_latencies(measured, context) for context in CONTEXTS}
        whole = [network for network in networks if network in measured]
        for context, blocks_ms in latencies_ms.items():
            found[context] = [network for network in whole if all(config in blocks_ms for config in network)]
    judged = {context: chains for context, chains in found.items() if len(chains) >= LEAST_NETWORKS}
    if dispatch_ms is None or not judged:
        most = max(map(len, found.values()), default=0)
        raise FitError(
            f"{most} of {len(networks)} networks were measured whole and in parts, at least {LEAST_NETWORKS} are "
            "needed to judge how blocks add up: run `blsm additivity` again, with more --networks if some fail"
        )
    sums = {}
    for context, chains in judged.items():
        blocks_ms = latencies_ms[context]
        sums_ms = [dispatch_ms + sum(max(0.0, blocks_ms[b] - dispatch_ms) for b in chain) for chain in chains]
        sums[context] = Sums.of(sums_ms, [measured[chain] for chain in chains])
    return Additivity(min(map(len, judged.values())), sums)
