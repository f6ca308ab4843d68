"""Transfer of block surrogates: a latency model of a new device from a few of its blocks and the profiles of others."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
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
from blsm.intervals import log_errors
from blsm.latency_model import BlockSurrogate, profiled_domain
from blsm.metrics import Agreement
from blsm.profiles import Fingerprint, ProfileStore, digest, latencies
from blsm.surrogates import DEFAULT_REGRESSOR, Regressor, register_regressor, regressor_class
from blsm.surrogates.base import to_json
from blsm.transfer import transfer_method
from blsm.transfer.base import Method, Predictor, arrays_from_bytes, arrays_to_bytes
from blsm.transfer.encodings import Encodings, join
from blsm.transfer.pool import DevicePool
from blsm.transfer.ridge import Standard

#: Parts of the samples that are predicted from the others, for the interval and the figures.
_FOLDS = 5
_ENCODER, _STANDARD = "encoder.json", "standard.npz"

#: Block -> latency in milliseconds.
Measured = Mapping[BlockConfig, float]


@dataclass(frozen=True)
class BlockEncoder:
    """Encodes blocks of one family: config vector, costs, and what the known devices' own surrogates predict.

    Attributes:
        term_names: the cost terms, see `blsm.features.Features`.
        standard: of the config vector and the logarithms of the totals, so that networks can learn from them.
        known: the known devices' surrogates.
    """

    term_names: tuple[str, ...]
    standard: Standard
    known: tuple[Regressor, ...]

    @classmethod
    def of(cls, configs: Sequence[BlockConfig], known: tuple[Regressor, ...]) -> Self:
        """The encoder of the family that these configs are of."""
        features = Features.of(configs)
        return cls(features.term_names, Standard.of(_vectors(features)), known)

    def encode(self, configs: Sequence[BlockConfig]) -> Encodings:
        """Encodings of configs, with the groups `vec`, `physical` and `known` (milliseconds)."""
        features = Features.of(configs, self.term_names, ())
        known_ms = np.column_stack([regressor.predict(configs) for regressor in self.known])
        return Encodings(*join(vec=self.standard(_vectors(features)), physical=features.terms, known=known_ms))

    def to_files(self) -> dict[str, bytes]:
        """As named files of plain data."""
        files = {
            _ENCODER: to_json({"terms": self.term_names, "known": [regressor.name for regressor in self.known]}),
            _STANDARD: arrays_to_bytes({"mean": self.standard.mean, "scale": self.standard.scale}),
        }
        for number, regressor in enumerate(self.known):
            files |= {f"known_{number}.{name}": content for name, content in regressor.to_files().items()}
        return files

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Inverse of `to_files`; raises KeyError, ValueError or TypeError for anything else."""
        data = json.loads(files[_ENCODER])
        known = [
            regressor_class(name).from_files(_under(files, f"known_{number}."))
            for number, name in enumerate(data["known"])
        ]
        standard = arrays_from_bytes(files[_STANDARD])
        return cls(tuple(data["terms"]), Standard(standard["mean"], standard["scale"]), tuple(known))


def _vectors(features: Features) -> Array:
    return np.hstack([features.vectors, np.log1p(features.totals)])


@register_regressor
class Transferred(Regressor):
    """A regressor that `blsm transfer` made: a predictor of few-shot transfer on encoded blocks."""

    name: ClassVar[str] = "transferred"
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
        predictor = Predictor.named(made_by["predictor"]).from_files(_under(files, "predictor."))
        return cls.of(BlockEncoder.from_files(files), predictor, made_by["method"])


def _under(files: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    return {name.removeprefix(prefix): content for name, content in files.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class FamilyTransfer:
    """A method that learned one block family from a pool.

    Attributes:
        configs: the blocks of the pool.
        encoder: encodes blocks.
        pool: the known devices' latencies of them.
        method: fitted to the pool.
    """

    configs: tuple[BlockConfig, ...]
    encoder: BlockEncoder
    pool: DevicePool
    method: Method

    @classmethod
    def learn(cls, measured: Mapping[str, Measured], method: Method, seed: int = 0) -> Self:
        """Learns one family.

        Args:
            measured: known device -> block -> milliseconds, all blocks of one family, at least `LEAST_PROFILES` each.
            method: not fitted yet.
            seed: of the known devices' surrogates.

        Raises:
            FitError: fewer than two devices, or devices with different blocks.
        """
        configs = tuple(dict.fromkeys(config for blocks in measured.values() for config in blocks))
        known = tuple(_surrogate(blocks, seed) for blocks in measured.values())
        encoder = BlockEncoder.of(configs, known)
        latencies_ms = {
            device: np.array([blocks.get(config, math.nan) for config in configs])
            for device, blocks in measured.items()
        }
        pool = DevicePool.of(encoder.encode(configs), latencies_ms)
        return cls(configs, encoder, pool, method.fit(pool))

    def references(self, count: int) -> list[BlockConfig]:
        """The blocks to measure on a new device; all there are if that is fewer."""
        rows = self.method.references(self.pool, min(count, len(self.configs)))
        return [self.configs[row] for row in rows]

    def adapt(self, measured: Measured) -> BlockSurrogate:
        """The surrogate of a new device; scores and metrics come from predicting a fifth of the samples from the rest.

        Args:
            measured: block -> milliseconds on the new device.

        Raises:
            FitError: too few samples: the method needs its least number with a fifth of the samples left out.
        """
        configs = list(measured)
        latency_ms = np.array(list(measured.values()))
        if len(configs) <= self.method.least_samples:
            raise FitError(
                f"{self.method.name} needs at least {self.method.least_samples + 1} measured {self.configs[0].family} "
                f"blocks of the new device, got {len(configs)}: ask for more with --samples"
            )
        encodings = self.encoder.encode(configs).values
        predicted_ms = np.empty(len(configs))
        # Of few samples each is left out by itself, so that the method keeps as many as it needs.
        few = len(configs) - -(-len(configs) // _FOLDS) < self.method.least_samples
        for part in np.array_split(np.arange(len(configs)), len(configs) if few else min(_FOLDS, len(configs))):
            rest = np.setdiff1d(np.arange(len(configs)), part)
            predicted_ms[part] = self.method.adapt(encodings[rest], latency_ms[rest]).predict(encodings[part])
        return BlockSurrogate(
            Transferred.of(self.encoder, self.method.adapt(encodings, latency_ms), self.method.name),
            profiled_domain(self.configs),
            log_errors(predicted_ms, latency_ms),
            Agreement.of(predicted_ms, latency_ms).to_json(),
            frozenset(digest((config,)) for config in configs),
        )


def _surrogate(measured: Measured, seed: int) -> Regressor:
    configs = list(measured)
    latency_ms = np.array(list(measured.values()))
    parts = split(len(configs), seed)
    train = np.concatenate([parts.train, parts.test])
    regressor = regressor_class(DEFAULT_REGRESSOR)()
    fitted, judged = ([configs[index] for index in rows] for rows in (train, parts.validation))
    regressor.fit(fitted, latency_ms[train], judged, latency_ms[parts.validation], seed)
    return regressor


#: Family -> device -> block -> latency in milliseconds.
BlockPools = dict[str, dict[str, dict[BlockConfig, float]]]


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
