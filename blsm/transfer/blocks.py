"""Transfer of block surrogates: a latency model of a new device from a few of its blocks and the profiles of others."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.errors import FingerprintError, FitError
from blsm.features import Features
from blsm.fitting import LEAST_PROFILES, split
from blsm.intervals import log_errors, normal_scores
from blsm.latency_model import BlockSurrogate, profiled_domain
from blsm.metrics import Agreement
from blsm.profiles import Fingerprint, ProfileStore, digest, latencies
from blsm.surrogates import DEFAULT_REGRESSOR, Regressor, register_regressor, regressor_class
from blsm.surrogates.base import to_json, under
from blsm.transfer import transfer_method
from blsm.transfer.base import Method, Predictor
from blsm.transfer.block_encoder import BlockEncoder
from blsm.transfer.pool import DevicePool

#: Parts of the samples that are predicted from the others, for the interval and the figures.
_FOLDS = 5
#: Blocks of the pool, from the best to the least known, and errors of each, that stand for the errors of all.
_BLOCKS, _ERRORS = 20, 25

#: Block -> latency in milliseconds.
Measured = Mapping[BlockConfig, float]
#: Family -> device -> block -> latency in milliseconds.
BlockPools = dict[str, dict[str, dict[BlockConfig, float]]]
#: Family -> device -> its surrogate.
KnownSurrogates = Mapping[str, Mapping[str, Regressor]]


@register_regressor
class Transferred(Regressor):
    """A regressor that `blsm transfer` made: a predictor of few-shot transfer on encoded blocks."""

    name: ClassVar[str] = "transferred"
    # Few samples weigh the same work wrongly for all blocks.
    errs_alike: ClassVar[bool] = True
    _encoder: BlockEncoder
    _predictor: Predictor
    _method: str

    @classmethod
    def of(cls, encoder: BlockEncoder, predictor: Predictor, method: str) -> Self:
        """The regressor of a predictor that the method of this name made."""
        regressor = cls()
        regressor._encoder, regressor._predictor, regressor._method = encoder, predictor, method
        return regressor

    def predict(self, configs: Sequence[BlockConfig]) -> Array:
        return self._predictor.predict(self._encoder.encode(configs).values)

    def _fit(self, features: Features, latency_ms: Array, train_count: int, seed: int) -> None:
        raise FitError(
            "transferred surrogates are made by `blsm transfer`, not by `blsm fit`: choose another regressor"
        )

    def _predict(self, features: Features) -> Array:
        raise FitError("a transferred surrogate predicts from configs, not from features: call predict")

    def to_files(self) -> dict[str, bytes]:
        predictor = {f"predictor.{name}": content for name, content in self._predictor.to_files().items()}
        made_by = {"method": self._method, "predictor": self._predictor.name}
        return {"transfer.json": to_json(made_by), **self._encoder.to_files(), **predictor}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        made_by = json.loads(files["transfer.json"])
        transfer_method(made_by["method"])  # imports its predictor
        predictor = Predictor.named(made_by["predictor"]).from_files(under(files, "predictor."))
        return cls.of(BlockEncoder.from_files(files), predictor, made_by["method"])


@dataclass(frozen=True)
class BlockTransfer:
    """A method that learned block families from a pool.

    Attributes:
        configs: family -> the blocks of the pool.
        encoder: encodes blocks.
        pool: the known devices' latencies of the blocks, family after family.
        method: fitted to the pool.
    """

    configs: Mapping[str, Sequence[BlockConfig]]
    encoder: BlockEncoder
    pool: DevicePool
    method: Method

    @classmethod
    def learn(cls, measured: BlockPools, known: KnownSurrogates, method: Method) -> Self:
        """Learns families together; see `learned_together`.

        Args:
            measured: family -> known device -> block -> milliseconds; the same devices for each family.
            known: their surrogates, see `known_surrogates`; there may be more of them.
            method: not fitted yet.

        Raises:
            FitError: fewer than two devices, or devices with different blocks.
        """
        configs = {
            family: tuple(dict.fromkeys(config for blocks in devices.values() for config in blocks))
            for family, devices in measured.items()
        }
        devices = tuple(next(iter(measured.values())))
        surrogates = {family: tuple(known[family][device] for device in devices) for family in measured}
        encoder = BlockEncoder.of(configs, surrogates)
        members = [config for family in configs.values() for config in family]
        latencies_ms = {
            device: np.array([measured[config.family][device].get(config, math.nan) for config in members])
            for device in devices
        }
        pool = DevicePool.of(encoder.encode(members), latencies_ms)
        return cls(configs, encoder, pool, method.fit(pool))

    def references(self, count: int) -> list[BlockConfig]:
        """The blocks of each family to measure on a new device, family after family; all there are if that is fewer."""
        members = [config for family in self.configs.values() for config in family]
        rows = self.method.references(self.pool, min(count, len(members)))
        chosen = [members[row] for row in rows]
        return [config for family in self.configs for config in chosen if config.family == family]

    def adapt(self, measured: Measured) -> dict[str, BlockSurrogate]:
        """The surrogates of a new device. Metrics come from predicting a fifth of the samples from the rest.

        Where the method says how far it may be off, the scores are such errors of the blocks of the pool, larger if the
        samples were further off; else they are the errors of the samples, which are larger than those of most blocks,
        because what tells most is measured.

        Args:
            measured: block -> milliseconds on the new device, of all the families.

        Raises:
            FitError: too few samples: the method needs its least number with a fifth of the samples left out.
        """
        configs, latency_ms = list(measured), np.array(list(measured.values()))
        families = np.array([config.family for config in configs])
        least = self.method.least_samples
        for family in self.configs:
            if (count := int((families == family).sum())) <= least:
                raise FitError(
                    f"{self.method.name} needs at least {least + 1} measured {family} blocks of the new device, got "
                    f"{count}: ask for more with --samples"
                )
        encodings = self.encoder.encode(configs).values
        predicted_ms, deviations = np.empty(len(configs)), np.empty(len(configs))
        for part in _parts(families, least):
            rest = np.setdiff1d(np.arange(len(configs)), part)
            predictor = self.method.adapt(encodings[rest], latency_ms[rest])
            predicted_ms[part] = predictor.predict(encodings[part])
            own = predictor.log_deviations(encodings[part])
            deviations[part] = math.nan if own is None else own
        off = float(np.sqrt(np.mean(np.square(np.log(latency_ms / predicted_ms) / deviations))))
        predictor = self.method.adapt(encodings, latency_ms)
        surrogates: dict[str, BlockSurrogate] = {}
        start = 0
        for family, members in self.configs.items():
            of_pool = self.pool.encodings[start : (start := start + len(members))]
            own = predictor.log_deviations(of_pool)
            samples = families == family
            surrogates[family] = BlockSurrogate(
                Transferred.of(self.encoder.of_family(family), predictor, self.method.name),
                profiled_domain(members),
                log_errors(predicted_ms[samples], latency_ms[samples]) if own is None else _scores(max(off, 1.0) * own),
                Agreement.of(predicted_ms[samples], latency_ms[samples]).to_json(),
                frozenset(digest((config,)) for config in configs if config.family == family),
            )
        return surrogates


def _scores(deviations: Array) -> tuple[float, ...]:
    """What scores of blocks are about, whose log latencies deviate so much."""
    usual = np.quantile(deviations, (np.arange(_BLOCKS) + 0.5) / _BLOCKS)
    return tuple(sorted(score for deviation in usual.tolist() for score in normal_scores(deviation, _ERRORS)))


def learned_together(pools: BlockPools, method: type[Method]) -> Iterator[BlockPools]:
    """Families that a method learns together: those profiled on the same devices if it can, else each for itself."""
    alike: dict[object, BlockPools] = {}
    for family, devices in pools.items():
        alike.setdefault(frozenset(devices) if method.joint else family, {})[family] = devices
    yield from alike.values()


def _parts(families: Array, least: int) -> list[Array]:
    """Indices of the samples in parts, each of which has some of every family."""
    turn = np.empty(len(families), int)
    for family in np.unique(families):
        members = np.flatnonzero(families == family)
        turn[members] = np.arange(len(members))
    order = np.argsort(turn, kind="stable")
    count = min(_FOLDS, len(order))
    # Of few samples each is left out by itself, so that the method keeps as many as it needs.
    count = len(order) if len(order) - math.ceil(len(order) / count) < least else count
    return [order[number::count] for number in range(count)]


def known_surrogates(
    pools: BlockPools, seed: int, progress: Callable[[str], object] = lambda family: None
) -> KnownSurrogates:
    """The known devices' own surrogates.

    Args:
        pools: at least `LEAST_PROFILES` blocks of each family and device.
        seed: of fitting them.
        progress: called with each family after it.
    """
    found: dict[str, dict[str, Regressor]] = {}
    for family, devices in pools.items():
        found[family] = {device: _surrogate(blocks, seed) for device, blocks in devices.items()}
        progress(family)
    return found


def _surrogate(measured: Measured, seed: int) -> Regressor:
    configs = list(measured)
    latency_ms = np.array(list(measured.values()))
    parts = split(len(configs), seed)
    train = np.concatenate([parts.train, parts.test])
    regressor = regressor_class(DEFAULT_REGRESSOR)()
    fitted, judged = ([configs[index] for index in rows] for rows in (train, parts.validation))
    regressor.fit(fitted, latency_ms[train], judged, latency_ms[parts.validation], seed)
    return regressor


def read_pool(paths: Iterable[str | Path], without: str | None = None) -> BlockPools:
    """The isolated blocks in profile stores: family -> device -> block -> milliseconds.

    A family is in it with the devices that have enough profiles of it, if these are two or more.

    Args:
        paths: of the stores; devices may be in several.
        without: a device to leave out, because it is the new one.

    Raises:
        StoreError: a store that can't be read.
        FingerprintError: two stores have a device of this name on different machines or software.
        FitError: no family was profiled on two devices.
    """
    fingerprints: dict[str, tuple[Path, Fingerprint]] = {}
    found: BlockPools = {}
    with ExitStack() as stack:
        for path in map(Path, paths):
            store = stack.enter_context(ProfileStore(path))
            for device, fingerprint in store.devices().items():
                if device == without:
                    continue
                first, same = fingerprints.setdefault(device, (path, fingerprint))
                if different := fingerprint.differences(same):
                    raise FingerprintError(
                        f"{path} and {first} hold profiles of {device} from different machines or software "
                        f"({'; '.join(different)}): leave one of them out of the pool"
                    )
                for chain, latency_ms in latencies(store.profiles(device)).items():
                    if len(chain) == 1:
                        found.setdefault(chain[0].family, {}).setdefault(device, {})[chain[0]] = latency_ms
    enough = {
        family: {device: blocks for device, blocks in devices.items() if len(blocks) >= LEAST_PROFILES}
        for family, devices in found.items()
    }
    pools = {family: devices for family, devices in enough.items() if len(devices) >= 2}
    if not pools:
        raise FitError(
            f"the pool needs {LEAST_PROFILES} profiles of a block family on at least 2 devices other than the new one, "
            f"it has {', '.join(fingerprints) or 'none'}: profile more with `blsm profile`"
        )
    return pools
