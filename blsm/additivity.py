"""How well the blocks of a device add up to networks, isolated or each where it follows another one.

An isolated block fetches its input from where a network never puts it, converts its layout, and fuses with nothing.
What it adds where it follows another block is known from the pair of both, less the first one alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.caches import cooled
from blsm.errors import FitError
from blsm.profiles import DISPATCH_PROBE, Chain
from blsm.shrinkage import kept_share

#: How a network is added up: from isolated blocks, or from what each block adds in its chain.
CONTEXTS = ("isolated", "chain")
#: Networks below this many say little about a standard deviation.
LEAST_NETWORKS = 6
#: What counts as a network; a shorter chain is a part of one.
LEAST_BLOCKS = 3
#: Pairs take twice the measurements: they must lower the deviation by this much to be worth it.
_WORTH = 0.015
#: Cold caches are expected; by so much worse sums tell that networks of this device don't find them.
_WORSE = 0.005
#: Of a median, over that of a mean, errors being normal.
_MEDIAN_VARIANCE = math.pi / 2


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
        cold: whether the sums count what blocks take longer as networks find cold caches (`blsm.caches.cooled`), unless
            they agree clearly less well so. None where that is not known of all blocks of enough networks.
        factor: what sums are to be multiplied with: network / sum at the median, shrunk towards 1 as far as it may be
            chance.
    """

    networks: int
    low: float
    high: float
    median: float
    deviation: float
    spearman: float
    cold: bool | None = None
    factor: float = 1.0

    @classmethod
    def of(cls, sums_ms: Array, measured_ms: Array, cold: bool | None = None) -> Self:
        """Compares sums with networks, both in milliseconds, shape (n,)."""
        from scipy.stats import spearmanr

        ratios = sums_ms / measured_ms
        median, deviation = float(np.median(ratios)), float(np.log(ratios).std(ddof=1))
        lacking = -math.log(median)
        variance = _MEDIAN_VARIANCE * deviation**2 / len(ratios)
        return cls(
            len(ratios),
            float(ratios.min()),
            float(ratios.max()),
            median,
            deviation,
            float(spearmanr(sums_ms, measured_ms).statistic),
            cold,
            math.exp(kept_share(lacking, variance) * lacking),
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The figures from JSON data, as of `dataclasses.asdict`."""
        figures: dict[str, Any] = {
            name: float(value) for name, value in data.items() if name not in ("networks", "cold")
        }
        return cls(networks=int(data["networks"]), cold=data["cold"], **figures)


@dataclass(frozen=True)
class Additivity:
    """The verdict on a device.

    Attributes:
        sums: context -> how measured parts add up in it.
    """

    sums: Mapping[str, Sums]

    @property
    def context(self) -> str:
        """The context to profile in: `isolated`, unless networks add up clearly better in chains."""
        least = min(sums.deviation for sums in self.sums.values())
        return next(name for name in CONTEXTS if name in self.sums and self.sums[name].deviation <= least + _WORTH)

    def factor(self, context: str) -> float:
        """What sums in a context are to be multiplied with.

        See `Sums.factor`; 1 in a context that is not recommended, where families stray too differently for one of all.
        """
        return self.sums[context].factor if context == self.context else 1.0

    @property
    def complete(self) -> bool:
        """Whether every context was judged."""
        return self.sums.keys() >= set(CONTEXTS)

    def to_json(self) -> dict[str, Any]:
        """The verdict as JSON data."""
        return {name: asdict(sums) for name, sums in self.sums.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        return cls({name: Sums.from_json(sums) for name, sums in data.items()})


def block_latencies(measured: Mapping[Chain, float]) -> dict[BlockConfig, float]:
    """The isolated blocks among measured chains: block -> milliseconds."""
    return {chain[0]: latency_ms for chain, latency_ms in measured.items() if len(chain) == 1}


def added_latencies(measured: Mapping[Chain, float]) -> dict[Chain, float]:
    """What blocks add where they follow another one: pair of blocks -> milliseconds more than the first one alone."""
    return {
        chain: latency_ms - measured[chain[:1]]
        for chain, latency_ms in measured.items()
        if len(chain) == 2 and chain[:1] in measured
    }


def parts(networks: Iterable[Chain], context: str) -> list[Chain]:
    """What adding networks up in a context takes: the dispatch probe, blocks, pairs of neighbours; nothing twice."""
    found = dict.fromkeys([DISPATCH_PROBE])
    for network in networks:
        found |= dict.fromkeys((config,) for config in network)
        if context == "chain":
            found |= dict.fromkeys(pairwise(network))
    return list(found)


def judge(measured: Mapping[Chain, float], excess_ms: Mapping[BlockConfig, float] | None = None) -> Additivity:
    """Judges how measured blocks and pairs of them add up to measured networks.

    Args:
        measured: chain -> milliseconds, the dispatch probe among them. A network counts in a context where all its
            `parts` were measured too.
        excess_ms: what blocks take longer with nothing in the caches, of those of which that is known.

    Raises:
        FitError: fewer than `LEAST_NETWORKS` networks were measured whole and in parts.
    """
    most, judged = 0, {}
    for context in CONTEXTS if DISPATCH_PROBE in measured else ():
        networks = [
            chain
            for chain in measured
            if len(chain) >= LEAST_BLOCKS and all(part in measured for part in parts([chain], context))
        ]
        most = max(most, len(networks))
        if len(networks) >= LEAST_NETWORKS:
            judged[context] = _judge_sums(networks, context, measured, excess_ms or {})
    if not judged:
        raise FitError(
            f"{most} networks were measured whole and in parts, at least {LEAST_NETWORKS} are needed to judge how "
            "blocks add up: run `blsm additivity`, with more --networks if some fail"
        )
    return Additivity(judged)


def _judge_sums(
    networks: Sequence[Chain], context: str, measured: Mapping[Chain, float], excess_ms: Mapping[BlockConfig, float]
) -> Sums:
    """How networks agree with the sums of their parts, with cold caches unless they agree clearly less well so.

    Args:
        networks: all measured, with all their parts in this context.
        context: how to add up.
        measured: chain -> milliseconds.
        excess_ms: block -> what it takes longer with nothing in the caches, as far as that is known.
    """
    timed = [network for network in networks if all(config in excess_ms for config in network)]
    is_known = len(timed) >= LEAST_NETWORKS
    judged = timed if is_known else networks
    measured_ms = np.array([measured[network] for network in judged])
    sums_ms = np.array([_sum(network, context, measured) for network in judged])
    if not is_known:
        return Sums.of(sums_ms, measured_ms)
    more_ms = []
    for network, sum_ms in zip(judged, sums_ms, strict=True):
        alone_ms = np.array([measured[config,] for config in network])
        more_ms.append(cooled(np.array([excess_ms[config] for config in network]), alone_ms, sum_ms).sum())
    warm, cold = Sums.of(sums_ms, measured_ms, False), Sums.of(sums_ms + np.array(more_ms), measured_ms, True)
    return cold if cold.deviation <= warm.deviation + _WORSE else warm


def _sum(network: Chain, context: str, measured: Mapping[Chain, float]) -> float:
    """The sum of a network's measured parts, milliseconds."""
    if context == "isolated":
        dispatch_ms = measured[DISPATCH_PROBE]
        return dispatch_ms + sum(max(0.0, measured[(config,)] - dispatch_ms) for config in network)
    return measured[network[:1]] + sum(measured[pair] - measured[pair[:1]] for pair in pairwise(network))
