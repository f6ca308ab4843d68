"""From profiles to a latency model: split, fit one surrogate per block family, judge it on the test split."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from blsm._types import Array
from blsm.additivity import LEAST_BLOCKS, Additivity, added_latencies, block_latencies, judge
from blsm.blocks import BlockConfig
from blsm.caches import excesses
from blsm.errors import FitError
from blsm.intervals import log_errors
from blsm.latency_model import BlockSurrogate, LatencyModel, profiled_domain
from blsm.metrics import Agreement
from blsm.profiles import DISPATCH_PROBE, Chain, Profile, ProfileStore, cold_latencies, digest, latencies
from blsm.surrogates import DEFAULT_REGRESSOR, Regressor, regressor_class
from blsm.surrogates.cold import ColdSurrogate, predict_excesses
from blsm.surrogates.joined import LEAST_SHARE, JoinedSurrogate, Pair

#: Fewer profiles of a family, or pairs of blocks, say nothing: a sixth of them is for testing.
LEAST_PROFILES = 30
#: The context that the verdict on additivity recommends.
AUTO = "auto"
_TEST_SHARE = _VALIDATION_SHARE = 0.15
_FOLDS = 3


@dataclass(frozen=True)
class Split:
    """Indices of the training, validation and test set."""

    train: Array
    validation: Array
    test: Array


def split(count: int, seed: int) -> Split:
    """A random split, 70 : 15 : 15; the same seed gives the same split."""
    order = np.random.default_rng(seed).permutation(count)
    test, validation = round(_TEST_SHARE * count), round(_VALIDATION_SHARE * count)
    return Split(order[test + validation :], order[test : test + validation], order[:test])


def fit_latency_model(
    store: ProfileStore,
    device: str,
    *,
    regressor: str = DEFAULT_REGRESSOR,
    features: str | None = None,
    context: str = AUTO,
    seed: int = 0,
    families: Sequence[str] | None = None,
    progress: Callable[[str], None] = lambda family: None,
) -> LatencyModel:
    """Fits one surrogate per block family on the profiles of a device, and in chains one of its blocks after others.

    Hyperparameters are chosen on the validation split and the figures come from the test split, which the fitted
    regressor has not seen.

    Args:
        store: the profiles.
        device: name of the device.
        regressor: name of the regressor.
        features: what it sees, `vector` or `costs`; its default if None.
        context: how networks are to be added up: from `isolated` blocks, from what blocks add in a `chain`, or as the
            verdict on additivity in the store says, `auto`; without a verdict, in chains if there are pairs.
        seed: of the split and the regressor.
        families: the families to fit; all that were profiled if None.
        progress: called with each family before it is fitted.

    Raises:
        FitError: a family has too few profiles, a chain too few pairs of blocks, the dispatch cost was not measured, or
            the regressor lacks a package or such features.
        StoreError: the store has no profiles of the device.
        UnknownRegressorError: no regressor of this name.
    """
    make = regressor_class(regressor)
    fingerprint = store.fingerprint(device)
    profiles = store.profiles(device)
    measured = latencies(profiles)
    dispatch_ms = measured.get(DISPATCH_PROBE)
    if dispatch_ms is None:
        raise FitError(
            f"{store.path} lacks the dispatch cost of {device}; run `blsm profile` on it again, it measures that first"
        )
    cold = fit_cold(profiles)
    additivity = verdict(measured, cold)
    pairs = _pairs(measured)
    if context == AUTO and additivity is not None:
        context = additivity.context
    elif context == AUTO:
        context = "chain" if pairs else "isolated"
    blocks: dict[str, dict[BlockConfig, float]] = {}
    for config, latency_ms in block_latencies(measured).items():
        blocks.setdefault(config.family, {})[config] = latency_ms
    # The dispatch probe alone makes no family of its own.
    if blocks.get(DISPATCH_PROBE[0].family, {}).keys() == {DISPATCH_PROBE[0]}:
        del blocks[DISPATCH_PROBE[0].family]
    # Nor does a family of which only parts of networks were measured.
    studied = {config for chain in measured if len(chain) > 1 for config in chain}
    wanted = [name for name, found in blocks.items() if found.keys() - studied] if families is None else list(families)
    if not wanted:
        raise FitError(f"{store.path} has no blocks of {device}; profile some with `blsm profile --device {device}`")
    for family in wanted:
        count = len(blocks.get(family, {}))
        if count < LEAST_PROFILES:
            command = f"blsm profile --block {family} --device {device} --context {context} --store {store.path}"
            raise FitError(
                f"{count} profiles of {family} on {device} are too few to fit, {LEAST_PROFILES} are the least; run "
                f"`{command} --samples {10 * LEAST_PROFILES}`"
            )
    if context == "chain" and not pairs.keys() & set(wanted):
        raise FitError(
            f"no family has {LEAST_PROFILES} pairs of blocks on {device} that were measured joined and one by one; run "
            f"`blsm profile --block {','.join(wanted)} --device {device} --context chain --store {store.path}`, or fit "
            "with --context isolated"
        )
    surrogates, joined = {}, {}
    for family in wanted:
        progress(family)
        new = make if features is None else partial(make, features)
        surrogates[family] = _fit_family(new(), blocks[family], seed)
        if context == "chain" and family in pairs:
            alone_ms = _predicted_unseen(new, blocks[family], seed)
            joined[family] = JoinedSurrogate.fit(
                list(pairs[family]),
                np.array(list(pairs[family].values())),
                np.array([alone_ms[after] for _, after in pairs[family]]),
                seed,
            )
    return LatencyModel(
        device,
        fingerprint,
        surrogates,
        dispatch_ms,
        joined=joined,
        cold={family: cold[family] for family in wanted if family in cold},
        additivity=additivity,
    )


def fit_cold(profiles: Collection[Profile]) -> dict[str, ColdSurrogate]:
    """Family -> what its blocks take longer with nothing in the caches; families of which enough were timed so."""
    measured = latencies(profiles)
    blocks: dict[str, dict[BlockConfig, float]] = {}
    for config, excess_ms in excesses(measured, cold_latencies(profiles)).items():
        blocks.setdefault(config.family, {})[config] = excess_ms
    fitted = {}
    for family, found in blocks.items():
        if len(found) >= LEAST_PROFILES:
            latency_ms = np.array([measured[config,] for config in found])
            fitted[family] = ColdSurrogate.fit(list(found), latency_ms, np.array(list(found.values())))
    return fitted


def _pairs(measured: Mapping[Chain, float]) -> dict[str, dict[Pair, float]]:
    """Family -> pairs whose second block is of it -> what that adds, milliseconds; families with enough of them."""
    found: dict[str, dict[Pair, float]] = {}
    for (before, after), added_ms in added_latencies(measured).items():
        if (after,) in measured and added_ms > LEAST_SHARE * measured[before, after]:
            found.setdefault(after.family, {})[before, after] = added_ms
    return {family: pairs for family, pairs in found.items() if len(pairs) >= LEAST_PROFILES}


def _predicted_unseen(
    new: Callable[[], Regressor], measured: Mapping[BlockConfig, float], seed: int
) -> dict[BlockConfig, float]:
    """The latency of each block, milliseconds, predicted by a regressor that was fitted without it."""
    order = np.random.default_rng(seed).permutation(len(measured))
    found: dict[BlockConfig, float] = {}
    for fold in range(_FOLDS):
        unseen = order[fold::_FOLDS]
        rest = order[~np.isin(order, unseen)]
        regressor, count = new(), round((1 - _VALIDATION_SHARE) * len(rest))
        regressor.fit(*part(measured, rest[:count]), *part(measured, rest[count:]), seed)
        chosen, _ = part(measured, unseen)
        found.update(zip(chosen, regressor.predict(chosen).tolist(), strict=True))
    return found


def verdict(measured: Mapping[Chain, float], cold: Mapping[str, ColdSurrogate]) -> Additivity | None:
    """As `judge_sums`; None where too few networks were measured whole and in parts."""
    try:
        return judge_sums(measured, cold)
    except FitError:
        return None


def judge_sums(measured: Mapping[Chain, float], cold: Mapping[str, ColdSurrogate]) -> Additivity:
    """How blocks add up by measurements, with what `fit_cold` says of cold caches; see `blsm.additivity.judge`."""
    networks = dict.fromkeys(config for chain in measured if len(chain) >= LEAST_BLOCKS for config in chain)
    configs = [config for config in networks if config.family in cold and (config,) in measured]
    excess_ms = predict_excesses(cold, configs, np.array([measured[config,] for config in configs]))
    return judge(measured, dict(zip(configs, excess_ms.tolist(), strict=True)))


def part(measured: Mapping[BlockConfig, float], indices: Array) -> tuple[list[BlockConfig], Array]:
    """Some of the blocks by their places, and their latencies."""
    configs, latency_ms = list(measured), np.array(list(measured.values()))
    return [configs[index] for index in indices], latency_ms[indices]


def _fit_family(regressor: Regressor, measured: dict[BlockConfig, float], seed: int) -> BlockSurrogate:
    configs = list(measured)
    parts = split(len(configs), seed)
    regressor.fit(*part(measured, parts.train), *part(measured, parts.validation), seed)
    test, test_ms = part(measured, parts.test)
    predicted_ms = regressor.predict(test)
    return BlockSurrogate(
        regressor,
        profiled_domain(configs),
        log_errors(predicted_ms, test_ms),
        Agreement.of(predicted_ms, test_ms).to_json(),
        frozenset(digest((configs[index],)) for index in (*parts.train, *parts.validation)),
    )
