"""The latency model of a device: block surrogates, and how their predictions add up to a network's latency."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig, block_family
from blsm.domains import Space, contains
from blsm.errors import CoverageError, DomainError
from blsm.network import Network, UnmatchedLayer, parse
from blsm.profiles import Fingerprint
from blsm.surrogates import Regressor

if TYPE_CHECKING:
    import keras

#: Intervals hold this share of what is measured.
INTERVAL = 0.9
#: Relative standard deviation of a network around the sum of its blocks, all predicted perfectly (LiteRT).
ADDITIVITY_DEVIATION = 0.025
#: A config outside the profiled domain is this much more uncertain, and has at least this relative deviation.
_EXTRAPOLATION_FACTOR, _EXTRAPOLATION_DEVIATION = 5.0, 0.1
_CACHE_SIZE = 200_000


class BlockLatency(NamedTuple):
    """A block's part in the latency of a network.

    Attributes:
        config: the block.
        latency_ms: what it adds to the network, dispatch not counted, milliseconds.
        low_ms: lower end of its interval.
        high_ms: upper end of its interval.
        in_domain: whether configs like it were profiled; if not, the prediction is an extrapolation.
    """

    config: BlockConfig
    latency_ms: float
    low_ms: float
    high_ms: float
    in_domain: bool


@dataclass(frozen=True)
class LatencyEstimate:
    """The latency of a network.

    Attributes:
        latency_ms: the estimate, milliseconds.
        low_ms: lower end of the 90 % interval.
        high_ms: upper end of the 90 % interval.
        coverage: share of the network's operators that were predicted, 0 to 1.
        blocks: what each block adds; with `dispatch_ms` they sum up to `latency_ms`.
        dispatch_ms: entering and leaving the runtime once.
        unmatched: layers without a prediction, which count nothing.
    """

    latency_ms: float
    low_ms: float
    high_ms: float
    coverage: float
    blocks: tuple[BlockLatency, ...]
    dispatch_ms: float = 0.0
    unmatched: tuple[UnmatchedLayer, ...] = ()

    @property
    def extrapolated(self) -> tuple[BlockLatency, ...]:
        """The blocks that lie outside the profiled domain."""
        return tuple(block for block in self.blocks if not block.in_domain)


@dataclass(frozen=True)
class BlockSurrogate:
    """Predicts the latency of isolated blocks of one family on one device.

    Attributes:
        regressor: the fitted regressor.
        domain: the values that were profiled.
        deviation: relative standard deviation of measured around predicted, on the test split.
        metrics: figures of the test split, see `blsm.metrics.Agreement`.
        fitted: `blsm.profiles.digest` of each config that it was fitted on, so that no other figure is made from them.
    """

    regressor: Regressor
    domain: Space
    deviation: float
    metrics: Mapping[str, float]
    fitted: frozenset[str]


class _Cached(NamedTuple):
    latency_ms: float
    deviation_ms: float
    in_domain: bool


@dataclass(frozen=True)
class LatencyModel:
    """Block surrogates of one device; predicts any network made of their blocks.

    An isolated block pays for entering and leaving the runtime, which a network does once: with the dispatch cost c0,
    tau = c0 + sum(tau_b - c0).

    Attributes:
        device: name of the device.
        fingerprint: the machine and software of the measurements.
        surrogates: block family -> its surrogate.
        dispatch_ms: the dispatch cost c0, milliseconds.
    """

    device: str
    fingerprint: Fingerprint
    surrogates: Mapping[str, BlockSurrogate]
    dispatch_ms: float
    _cache: dict[BlockConfig, _Cached] = field(default_factory=dict, init=False, repr=False, compare=False)

    def predict(self, configs: Sequence[BlockConfig]) -> Array:
        """Latencies of isolated blocks.

        Args:
            configs: block configs, of any families.

        Returns:
            Milliseconds, float64, shape (len(configs),).

        Raises:
            CoverageError: a family has no surrogate in this model.
        """
        latency_ms = np.empty(len(configs))
        families = np.array([config.family for config in configs])
        for name in dict.fromkeys(families.tolist()):
            members = np.flatnonzero(families == name)
            regressor = self._surrogate(name).regressor
            latency_ms[members] = regressor.predict([configs[index] for index in members])
        return latency_ms

    def latencies(self, networks: Sequence[Sequence[BlockConfig]]) -> Array:
        """Latencies of many networks at once, without intervals and breakdown.

        Args:
            networks: each a sequence of one or more block configs.

        Returns:
            Milliseconds, float64, shape (len(networks),).

        Raises:
            CoverageError: a family has no surrogate in this model.
            DomainError: a network has no block.
        """
        if not all(networks):
            raise DomainError("a network needs at least one block")
        if not networks:
            return np.empty(0)
        added_ms = np.maximum(self.predict(list(chain.from_iterable(networks))) - self.dispatch_ms, 0.0)
        starts = np.cumsum([0, *map(len, networks)])[:-1]
        return self.dispatch_ms + np.add.reduceat(added_ms, starts)

    def latency(
        self, network: keras.Model | Network | Sequence[BlockConfig], *, allow_partial: bool = False
    ) -> LatencyEstimate:
        """The latency of a network with interval and breakdown.

        Args:
            network: a Keras model, a parsed network, or block configs in order.
            allow_partial: predict also where parts of the network are not covered; these count nothing.

        Raises:
            CoverageError: a layer is in no block, or a family has no surrogate, and `allow_partial` is not set.
            DomainError: the network has no block.
        """
        parsed = _as_network(network)
        blocks, unmatched, coverage = parsed.blocks, parsed.unmatched, parsed.coverage
        lacking = [config for config in blocks if config.family not in self.surrogates]
        if (unmatched or lacking) and not allow_partial:
            raise CoverageError(self._not_covered(lacking, unmatched, coverage))
        if lacking:
            blocks = tuple(config for config in blocks if config.family in self.surrogates)
            operators = sum(len(config.graph().operators) - 1 for config in parsed.blocks)
            coverage *= 1 - sum(len(config.graph().operators) - 1 for config in lacking) / operators
        if not blocks and not allow_partial:
            raise DomainError("a network needs at least one block")
        return self._estimate(blocks, unmatched, coverage)

    def _estimate(
        self, blocks: Sequence[BlockConfig], unmatched: tuple[UnmatchedLayer, ...], coverage: float
    ) -> LatencyEstimate:
        self._remember(blocks)
        cache, z = self._cache, _Z
        parts = []
        total = variance = 0.0
        for config in blocks:
            latency_ms, deviation_ms, in_domain = cache[config]
            total += latency_ms
            variance += deviation_ms * deviation_ms
            margin = z * deviation_ms
            parts.append(
                BlockLatency(config, latency_ms, max(0.0, latency_ms - margin), latency_ms + margin, in_domain)
            )
        # Errors of different blocks are independent; how far the network strays from the sum of its blocks is not.
        margin = z * math.sqrt(variance + (ADDITIVITY_DEVIATION * total) ** 2)
        total += self.dispatch_ms
        low_ms = max(self.dispatch_ms, total - margin)
        return LatencyEstimate(total, low_ms, total + margin, coverage, tuple(parts), self.dispatch_ms, unmatched)

    def _remember(self, blocks: Iterable[BlockConfig]) -> None:
        """Predicts the blocks that are not in the cache yet."""
        new = [config for config in dict.fromkeys(blocks) if config not in self._cache]
        if not new:
            return
        if len(self._cache) + len(new) > _CACHE_SIZE:
            self._cache.clear()
            new = list(dict.fromkeys(blocks))
        for config, latency_ms in zip(new, self.predict(new).tolist(), strict=True):
            surrogate = self._surrogate(config.family)
            in_domain = contains(surrogate.domain, config.to_dict())
            deviation = surrogate.deviation
            if not in_domain:
                deviation = max(_EXTRAPOLATION_FACTOR * deviation, _EXTRAPOLATION_DEVIATION)
            added_ms = max(0.0, latency_ms - self.dispatch_ms)
            self._cache[config] = _Cached(added_ms, deviation * latency_ms, in_domain)

    def _surrogate(self, family: str) -> BlockSurrogate:
        if family not in self.surrogates:
            raise CoverageError(self._not_covered([], (), 1.0, family))
        return self.surrogates[family]

    def _not_covered(
        self, blocks: Iterable[BlockConfig], layers: Sequence[Any], coverage: float, *families: str
    ) -> str:
        said = []
        if layers:
            named = ", ".join(map(str, layers[:5])) + (f" and {len(layers) - 5} more" if len(layers) > 5 else "")
            said.append(f"no block family explains {named} (coverage {coverage:.0%})")
        if lacking := dict.fromkeys([*families, *(config.family for config in blocks)]):
            names = ",".join(lacking)
            said.append(
                f"this latency model of {self.device} has no surrogate for {names}; profile them with "
                f"`blsm profile --block {names} --device {self.device}` and fit again"
            )
        return "; ".join(said)


#: Half the width of the interval in standard deviations of a normal distribution.
_Z = 1.6448536269514722


def _as_network(network: keras.Model | Network | Sequence[BlockConfig]) -> Network:
    if isinstance(network, Network):
        return network
    if isinstance(network, Sequence):
        for config in network:
            if not isinstance(config, BlockConfig):
                raise DomainError(f"a network is a sequence of block configs, got a {type(config).__name__} in it")
        return Network(tuple(network))
    return parse(network)


def profiled_domain(configs: Sequence[BlockConfig]) -> Space:
    """The domain that configs of one family cover: ranges of integers, sets of all else, and what is always equal."""
    from blsm.domains import Choice, Integers, SameAs

    parameters = block_family(configs[0].family).parameters
    columns = {name: [getattr(config, name) for config in configs] for name in parameters}
    space: dict[str, Any] = {}
    for name, domain in parameters.items():
        values = columns[name]
        # Height and width are the one pair of parameters where equality is a matter of the space, not of chance.
        if name == "width" and values == columns.get("height"):
            space[name] = SameAs("height")
        elif isinstance(domain, Integers):
            space[name] = Integers(min(values), max(values))
        else:
            space[name] = Choice(*(value for value in domain.values if value in values))
    return space
