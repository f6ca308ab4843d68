"""The latency model of a device: block surrogates, and how their predictions add up to a network's latency."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from blsm._types import Array
from blsm.additivity import Additivity, Sums
from blsm.blocks import BlockConfig, block_family
from blsm.caches import cooled
from blsm.calibration import Calibration
from blsm.domains import Space, contains
from blsm.errors import CoverageError, DomainError
from blsm.features import output_shapes
from blsm.intervals import DEFAULT_LEVEL, conformal_quantile, normal_quantile, normal_scores
from blsm.network import Network, UnmatchedLayer, parse
from blsm.profiles import Fingerprint
from blsm.surrogates import Regressor
from blsm.surrogates.cold import ColdSurrogate, predict_excesses
from blsm.surrogates.joined import JoinedSurrogate

if TYPE_CHECKING:
    import keras

Known = TypeVar("Known")

#: Relative standard deviation of a network around the sum of its blocks, all predicted perfectly (LiteRT).
ADDITIVITY_DEVIATION = 0.025
#: The least that it is taken for, whatever `blsm additivity` found: its networks are measured within minutes of their
#: blocks. Predictions of 400 others on each of LiteRT's three devices strayed by 1.4 to 2.0 %, where it had found 0.5
#: to 0.9 % for sums.
_LEAST_DEVIATION = 0.016
#: So many scores as the deviation of networks lets expect count beside those of measured ones, where these alone would
#: make intervals narrower: a score of twenty networks is a matter of chance, and others may be of another kind. Over 15
#: draws of twenty, the share of networks inside varied by 5 to 8 % on `edge_cpu`, and does by 1 to 2 %.
_EXPECTED_SCORES = 10
#: A config outside the profiled domain is this much more uncertain, and has at least this relative deviation; so is one
#: of a family with too few scores for the level that was asked for.
_EXTRAPOLATION_FACTOR, _EXTRAPOLATION_DEVIATION = 5.0, 0.1
_CACHE_SIZE = 200_000


class BlockLatency(NamedTuple):
    """A block's part in the latency of a network.

    Attributes:
        config: the block.
        latency_ms: what it adds to the network where it stands, dispatch not counted, milliseconds.
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
        low_ms: lower end of the interval, 90 % unless another level was asked for.
        high_ms: upper end of the interval.
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
        scores: |log(measured / predicted)| of each block of the test split, ascending: the conformal scores.
        metrics: figures of the test split, see `blsm.metrics.Agreement`.
        fitted: `blsm.profiles.digest` of each config that it was fitted on, so that no other figure is made from them.
    """

    regressor: Regressor
    domain: Space
    scores: tuple[float, ...]
    metrics: Mapping[str, float]
    fitted: frozenset[str]

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of log(measured) around log(predicted), on the test split."""
        return math.sqrt(sum(score * score for score in self.scores) / len(self.scores))

    def margin(self, level: float, in_domain: bool) -> float:
        """Half the width of the interval of a block's log latency.

        Args:
            level: share of the measurements inside, 0 to 1.
            in_domain: whether the block lies in the profiled domain; outside, no guarantee holds, and the margin is
                several times as wide.
        """
        margin = conformal_quantile(self.scores, level)
        if in_domain and margin < math.inf:
            return margin
        known = min(margin, max(self.scores))
        return max(_EXTRAPOLATION_FACTOR * known, _EXTRAPOLATION_DEVIATION * normal_quantile(level))


#: A block of a network, and the block whose output it reads where that is known to matter.
_Link = tuple[BlockConfig | None, BlockConfig]


class _Cached(NamedTuple):
    """What is known of a block of a network.

    Attributes:
        block: its part in a network so short that it finds its caches warm.
        plain_ms: the same before calibration.
        excess_ms: what it takes longer with cold caches; all that it takes where that is not known.
        deviation_ms: standard deviation of `plain_ms`.
        errs_alike: whether that goes together with that of other blocks.
    """

    block: BlockLatency
    plain_ms: float
    excess_ms: float
    deviation_ms: float
    errs_alike: bool


@dataclass(frozen=True)
class LatencyModel:
    """Block surrogates of one device; predicts any network made of their blocks.

    An isolated block pays for entering and leaving the runtime, which a network does once: with the dispatch cost c0,
    tau = c0 + sum(tau_b - c0). Where isolated blocks do not add up so, a block that follows another one adds what the
    joined surrogate of its family says. Where blocks were timed with cold caches, too, networks take the longer the
    longer they last (`blsm.caches`). Sums are corrected by what those of measured blocks lack, if that was studied, or
    by a calibration: what each block adds, and how much cold caches make.

    Attributes:
        device: name of the device.
        fingerprint: the machine and software of the measurements.
        surrogates: block family -> its surrogate.
        dispatch_ms: the dispatch cost c0, milliseconds.
        network_scores: `network_score` of networks that nothing in this model was fitted on, for their intervals, which
            are at least as wide as these tell; with none, an interval combines the deviations of the blocks as if they
            were normal.
        joined: block family -> surrogate of what its blocks add where they follow another; none where isolated blocks
            add up.
        cold: block family -> surrogate of what its blocks take longer with cold caches; none where they were not
            timed so.
        additivity: how measured blocks of this device add up, if `blsm additivity` has judged it.
        calibration: the correction of sums, if the model was calibrated.
    """

    device: str
    fingerprint: Fingerprint
    surrogates: Mapping[str, BlockSurrogate]
    dispatch_ms: float
    network_scores: tuple[float, ...] = ()
    joined: Mapping[str, JoinedSurrogate] = field(default_factory=dict)
    cold: Mapping[str, ColdSurrogate] = field(default_factory=dict)
    additivity: Additivity | None = None
    calibration: Calibration | None = None
    _predicted: dict[BlockConfig, tuple[float, float]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _output_shapes: dict[BlockConfig, tuple[int, ...]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _links_ms: dict[_Link, float] = field(default_factory=dict, init=False, repr=False, compare=False)
    _cache: dict[float, dict[_Link, _Cached]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def context(self) -> str:
        """How it adds networks up, one of `blsm.additivity.CONTEXTS`."""
        return "chain" if self.joined else "isolated"

    @cached_property
    def sums(self) -> Sums | None:
        """How measured blocks add up in its context, if that has been judged."""
        return self.additivity.sums.get(self.context) if self.additivity is not None else None

    @cached_property
    def sums_factor(self) -> float:
        """What sums are multiplied with as long as no calibration corrects them, see `Additivity.factor`."""
        return 1.0 if self.additivity is None else self.additivity.factor(self.context)

    @property
    def cold_share(self) -> float:
        """How much of what cold caches may make shows in networks, see `blsm.calibration.Calibration.cold`."""
        if self.calibration is not None:
            return self.calibration.cold
        shows = bool(self.cold) and (self.sums is None or self.sums.cold is not False)
        return self.sums_factor * shows

    def predict(self, configs: Sequence[BlockConfig]) -> Array:
        """Latencies of isolated blocks, the dispatch cost included.

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

    def _predict_once(self, configs: Sequence[BlockConfig]) -> tuple[Array, Array]:
        """Latencies as of `predict`, and what blocks take longer with cold caches, 0 where that is not known.

        A block that comes up again is not predicted again: a search meets few different ones.
        """
        found = _recall(self._predicted, configs, self._predict_both)
        both_ms = np.array([found[id(config)] for config in configs]).reshape(-1, 2)
        return both_ms[:, 0], both_ms[:, 1]

    def _predict_both(self, configs: Sequence[BlockConfig]) -> list[tuple[float, float]]:
        isolated_ms = self.predict(configs)
        excess_ms = np.nan_to_num(predict_excesses(self.cold, configs, isolated_ms))
        return list(zip(isolated_ms.tolist(), excess_ms.tolist(), strict=True))

    def prepare(self, configs: Sequence[BlockConfig]) -> None:
        """Predicts what `latencies` will need of blocks: all together take a tenth of the time that a few each take.

        Args:
            configs: the distinct blocks of the networks to come.

        Raises:
            CoverageError: a family has no surrogate in this model.
        """
        self._predict_once(configs)
        if self.joined:
            _recall(self._output_shapes, configs, output_shapes)
        for family, surrogate in self.joined.items():
            surrogate.prepare([config for config in configs if config.family == family], configs)

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
        configs = list(chain.from_iterable(networks))
        starts = np.cumsum([0, *map(len, networks)])[:-1]
        isolated_ms, excess_ms = self._predict_once(configs)
        if self.joined:
            # Networks of a search share most of their links: each is looked at once.
            neighbours, places, back = _distinct(configs, starts)
            added_ms = self._added_once(self._linked(neighbours), isolated_ms[places])[back]
        else:
            added_ms = self._inner(isolated_ms)
        sums_ms: Array = np.add.reduceat(self._corrected(configs, added_ms), starts)
        if self.cold_share:
            network_ms = np.repeat(np.add.reduceat(added_ms, starts), [len(network) for network in networks])
            more_ms = cooled(excess_ms if self.cold else added_ms, added_ms, network_ms)
            sums_ms = sums_ms + self.cold_share * np.add.reduceat(more_ms, starts)
        return self.dispatch_ms + sums_ms

    def latency(
        self,
        network: keras.Model | Network | Sequence[BlockConfig],
        *,
        allow_partial: bool = False,
        interval: float = DEFAULT_LEVEL,
    ) -> LatencyEstimate:
        """The latency of a network with interval and breakdown.

        Args:
            network: a Keras model, a parsed network, or block configs in order.
            allow_partial: predict also where parts of the network are not covered; these count nothing.
            interval: level of the intervals, the share of measurements inside them, between 0 and 1.

        Raises:
            CoverageError: a layer is in no block, or a family has no surrogate, and `allow_partial` is not set.
            DomainError: the network has no block, or the level is none.
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
        return self._estimate(blocks, unmatched, coverage, interval)

    def network_score(self, network: Sequence[BlockConfig], measured_ms: float) -> float:
        """The conformal score of a measured network: |log(measured / predicted)| over the deviation expected of it.

        Normalised by the deviation (Lei et al. 2018, Section 5.2), so that intervals are wider for networks of blocks
        that are hard to predict, or that lie outside the profiled domain.

        Args:
            network: its blocks.
            measured_ms: its latency, milliseconds.
        """
        return abs(math.log(measured_ms / self.latency(network).latency_ms)) / self.deviation(network)

    def contributions(self, network: Sequence[BlockConfig]) -> list[tuple[str, float, float]]:
        """What each block of a network adds, not corrected.

        Returns:
            Family, milliseconds in a network that is too short for cold caches, and milliseconds more in this one, if
            all of it shows, of each block.
        """
        links = self._links(network)
        known = self._blocks(links, DEFAULT_LEVEL)
        parts = [known[link] for link in links]
        more_ms = _cooled(parts).tolist()
        return [(p.block.config.family, p.plain_ms, more) for p, more in zip(parts, more_ms, strict=True)]

    def deviation(self, network: Sequence[BlockConfig]) -> float:
        """Relative standard deviation that is expected of a network of these blocks around its prediction."""
        links = self._links(network)
        known = self._blocks(links, DEFAULT_LEVEL)
        return self._deviation([known[link] for link in links])

    def _estimate(
        self, blocks: Sequence[BlockConfig], unmatched: tuple[UnmatchedLayer, ...], coverage: float, level: float
    ) -> LatencyEstimate:
        links = self._links(blocks)
        known = self._blocks(links, level)
        parts = [known[link] for link in links]
        spread = math.exp(self._network_quantile(level) * self._deviation(parts))
        added = self._slowed(parts)
        total = self.dispatch_ms + sum(block.latency_ms for block in added)
        low_ms = max(self.dispatch_ms, total / spread)
        return LatencyEstimate(total, low_ms, total * spread, coverage, added, self.dispatch_ms, unmatched)

    def _slowed(self, parts: Sequence[_Cached]) -> tuple[BlockLatency, ...]:
        """The blocks of one network, each as slow as the caches are that it finds in such a long network."""
        blocks = tuple([part.block for part in parts])
        if not self.cold_share:
            return blocks
        more_ms = (self.cold_share * _cooled(parts)).tolist()
        # Not by `_replace`, which takes three times as long.
        return tuple(
            [
                BlockLatency(config, latency_ms + more, low_ms + more, high_ms + more, in_domain)
                for (config, latency_ms, low_ms, high_ms, in_domain), more in zip(blocks, more_ms, strict=True)
            ]
        )

    def _deviation(self, parts: Sequence[_Cached]) -> float:
        strays = ADDITIVITY_DEVIATION if self.sums is None else max(self.sums.deviation, _LEAST_DEVIATION)
        total = variance = together_ms = 0.0
        for block, _, _, deviation_ms, errs_alike in parts:
            total += block.latency_ms
            if errs_alike:
                together_ms += deviation_ms
            else:
                variance += deviation_ms * deviation_ms
        variance += together_ms * together_ms
        # Errors of different blocks are independent, unless their regressor says otherwise; how far the network strays
        # from the sum of its blocks is not.
        return math.sqrt(variance + (strays * total) ** 2) / (self.dispatch_ms + total)

    def _network_quantile(self, level: float) -> float:
        """Half the width of a network's interval, in deviations."""
        quantile = conformal_quantile(self.network_scores, level)
        if quantile == math.inf:
            return max((normal_quantile(level), *self.network_scores))
        expected = conformal_quantile([*self.network_scores, *normal_scores(1.0, _EXPECTED_SCORES)], level)
        return max(quantile, expected)

    def _links(self, network: Sequence[BlockConfig]) -> list[_Link]:
        """Each block of a network with the one that it is joined to."""
        return self._linked(list(zip((None, *network), network, strict=False)))

    def _linked(self, neighbours: Sequence[_Link]) -> list[_Link]:
        """Blocks with the one before them: with it where they are joined to it, without it where they are not."""
        if not self.joined:
            return [(None, config) for _, config in neighbours]
        joined = self.joined.keys()
        befores = [before for before, config in neighbours if before is not None and config.family in joined]
        shapes = _recall(self._output_shapes, befores, output_shapes)
        return [
            (before if config.family in joined and shapes.get(id(before)) == config.input_shape else None, config)
            for before, config in neighbours
        ]

    def _inner(self, isolated_ms: Array) -> Array:
        """What blocks of these isolated latencies add to a network that joins none; milliseconds."""
        inner_ms: Array = np.maximum(isolated_ms - self.dispatch_ms, 0.0)
        return inner_ms

    def _added(self, links: Sequence[_Link], isolated_ms: Array) -> Array:
        """What blocks of these isolated latencies add to a network, not corrected; milliseconds."""
        added_ms = self._inner(isolated_ms)
        for family, surrogate in self.joined.items():
            pairs = {
                place: (before, config)
                for place, (before, config) in enumerate(links)
                if before is not None and config.family == family
            }
            if pairs:
                added_ms[list(pairs)] = surrogate.predict(list(pairs.values()), isolated_ms[list(pairs)])
        return added_ms

    def _added_once(self, links: Sequence[_Link], isolated_ms: Array) -> Array:
        """As `_added`, but a link that comes up again is not predicted again."""
        known = self._links_ms
        if len(known) > _CACHE_SIZE:
            known.clear()
        places = {link: place for place, link in enumerate(links) if link not in known}
        new = list(places)
        known.update(zip(new, self._added(new, isolated_ms[list(places.values())]).tolist(), strict=True))
        return np.array([known[link] for link in links])

    def _corrected(self, configs: Sequence[BlockConfig], added_ms: Array) -> Array:
        """What blocks add, corrected, to a network that is too short for cold caches, milliseconds."""
        if self.calibration is None:
            return self.sums_factor * added_ms
        return self.calibration.apply(configs, added_ms)

    def _blocks(self, links: Iterable[_Link], level: float) -> Mapping[_Link, _Cached]:
        """What each of the blocks adds, with its interval; predicts those that are not in the cache yet."""
        cache = self._cache.setdefault(level, {})
        new = [link for link in dict.fromkeys(links) if link not in cache]
        if not new:
            return cache
        if len(cache) + len(new) > _CACHE_SIZE:
            cache.clear()
            new = list(dict.fromkeys(links))
        configs = [config for _, config in new]
        isolated_ms, excess_ms = self._predict_once(configs)
        added_ms = self._added(new, isolated_ms)
        excesses_ms = (excess_ms if self.cold else added_ms).tolist()
        spreads: dict[tuple[str, bool, bool], tuple[float, float]] = {}
        in_domain, deviations, factors, sizes_ms = [], [], [], []
        for (before, config), block_ms, size_ms in zip(new, isolated_ms.tolist(), added_ms.tolist(), strict=True):
            inside = contains(self._surrogate(config.family).domain, config.to_dict())
            kind = config.family, before is not None, inside
            if kind not in spreads:
                spreads[kind] = self._spread(*kind, level)
            deviation, factor = spreads[kind]
            in_domain.append(inside)
            deviations.append(deviation)
            factors.append(factor)
            # An isolated block is as uncertain as all of its latency, the dispatch cost included.
            sizes_ms.append(block_ms if before is None else size_ms)
        size_ms, spread = np.array(sizes_ms), np.array(factors)
        bounds_ms = (added_ms, added_ms - size_ms * (1 - 1 / spread), added_ms + size_ms * (spread - 1))
        added = zip(*(self._corrected(configs, np.maximum(b, 0.0)).tolist() for b in bounds_ms), strict=True)
        deviations_ms = (np.array(deviations) * size_ms).tolist()
        for link, (latency_ms, low_ms, high_ms), plain_ms, excess_ms, inside, deviation_ms in zip(
            new, added, added_ms.tolist(), excesses_ms, in_domain, deviations_ms, strict=True
        ):
            block = BlockLatency(link[1], latency_ms, low_ms, high_ms, inside)
            errs_alike = self._surrogate(link[1].family).regressor.errs_alike
            cache[link] = _Cached(block, plain_ms, excess_ms, deviation_ms, errs_alike)
        return cache

    def _spread(self, family: str, is_joined: bool, inside: bool, level: float) -> tuple[float, float]:
        """Relative deviation of blocks, and the factor between their latency and the ends of its interval."""
        surrogate = self._surrogate(family)
        deviation, margin = surrogate.deviation, surrogate.margin(level, inside)
        if is_joined:
            deviation, margin = self.joined[family].deviation, max(margin, self.joined[family].margin(level))
        if not inside:
            deviation = max(_EXTRAPOLATION_FACTOR * deviation, _EXTRAPOLATION_DEVIATION)
        return deviation, math.exp(margin)

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


def _cooled(parts: Sequence[_Cached]) -> Array:
    """What the blocks of one network take longer in it, if all of that shows; milliseconds, shape (len(parts),)."""
    plain_ms = np.array([part.plain_ms for part in parts])
    return cooled(np.array([part.excess_ms for part in parts]), plain_ms, plain_ms.sum())


def _distinct(configs: Sequence[BlockConfig], starts: Array) -> tuple[list[_Link], Array, Array]:
    """The blocks of networks, each with the one before it in its network, but no such pair of objects twice.

    Args:
        configs: the blocks, one network after the other.
        starts: where networks begin.

    Returns:
        The pairs, a place of each among the configs, and for each of the configs the number of its pair.
    """
    numbers: dict[int, int] = {}
    after = np.array([numbers.setdefault(id(config), len(numbers) + 1) for config in configs])
    before = np.roll(after, 1)
    before[starts] = 0
    _, places, back = np.unique(before * (len(numbers) + 1) + after, return_index=True, return_inverse=True)
    pairs = [(configs[place - 1] if before[place] else None, configs[place]) for place in places.tolist()]
    return pairs, places, back


def _recall(
    known: dict[BlockConfig, Known],
    configs: Sequence[BlockConfig],
    compute: Callable[[Sequence[BlockConfig]], Sequence[Known]],
) -> dict[int, Known]:
    """What is known of blocks, by their identity; what is not is computed, and known from then on."""
    # Equal blocks are mostly one object, and an identity is found ten times faster than a block.
    objects = {id(config): config for config in configs}
    if new := [config for config in dict.fromkeys(objects.values()) if config not in known]:
        if len(known) + len(new) > _CACHE_SIZE:
            known.clear()
            new = list(dict.fromkeys(objects.values()))
        known.update(zip(new, compute(new), strict=True))
    return {identity: known[config] for identity, config in objects.items()}


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
