"""HELP: hardware-adaptive latency prediction by meta-learning (Lee et al. 2021, NeurIPS).

A device is known by its latencies of d reference architectures, scaled to [0, 1]. A network that reads an architecture
and this embedding is trained so that two gradient steps on a few samples of a new device adapt it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.errors import FitError
from blsm.transfer.base import Method, Predictor, arrays_from_bytes, arrays_to_bytes
from blsm.transfer.meta_learning import HelpNetwork, HelpSettings, MetaLearner
from blsm.transfer.networks import encoder_from_data, encoder_of, encoder_to_data, numbered, numbered_weights
from blsm.transfer.operator_latencies import OperatorLatencies
from blsm.transfer.pool import DevicePool
from blsm.transfer.scaling import Calibration, levels, span

__all__ = ["Help", "HelpPredictor", "HelpSettings"]

#: Labels are scaled to 0.05 .. 0.95 by the smallest and largest of the samples, as in HELP's own code.
_MARGIN = 0.05
#: A reference that was not measured is not taken to be faster than this part of the fastest sample.
_LEAST = 0.1
#: Architectures are predicted so many at a time: every draw of z has hidden units of its own.
_ROWS = 1024


class Help(Method):
    """HELP. Measure `references(pool, n)`: its reference architectures come first, the others are random.

    The references are random ones as in the paper, but spread evenly from the fastest to the slowest architectures.

    All n are samples. Labels are scaled by the samples alone: those of HELP's own code use the range of the new
    device's whole training pool, which no user has. Of a wide pool, logarithms are scaled. References that are missing
    among the samples are estimated from them, see `OperatorLatencies`.

    Args:
        reference_rows: rows of the pool to be references; chosen among those that every known device measured if None.
        settings: hyperparameters and switches.
        seed: of every random choice.
    """

    name: ClassVar[str] = "help"
    least_samples: ClassVar[int] = 2

    def __init__(
        self, *, seed: int = 0, settings: HelpSettings | None = None, reference_rows: Array | None = None
    ) -> None:
        super().__init__(seed=seed)
        self.settings = settings or HelpSettings()
        self._wanted = None if reference_rows is None else np.asarray(reference_rows, int)

    def _fit(self, pool: DevicePool) -> None:
        settings, self._relative = self.settings, pool.wide
        table = levels(pool.table_ms, self._relative)
        self._rows = _reference_rows(pool.table_ms, self._wanted, settings.references, self.seed)
        self._encodings = pool.encodings[self._rows]
        self._operators = OperatorLatencies.of(pool)
        self._network = HelpNetwork(encoder_of(pool, settings.units), settings)
        learner = MetaLearner(self._network, None, self.seed)
        step = learner.trainer(self._network.encoder.inputs(pool.encodings))
        random = np.random.default_rng(self.seed)
        for _ in range(settings.episodes):
            step(*_episode(table, self._rows, settings, random))
        self._weights = [variable.numpy() for variable in learner.variables]

    def _references(self, pool: DevicePool, count: int) -> Array:
        if not self.width:
            raise FitError("help must be fitted to a pool before it names references")
        others = np.setdiff1d(np.arange(len(pool)), self._rows)
        rows: Array = np.concatenate([self._rows, np.random.default_rng(self.seed).permutation(others)])[:count]
        return rows

    def _adapt(self, encodings: Array, latencies_ms: Array) -> Predictor:
        network, draws = self._network, self.settings.draws if self.settings.modulator else 1
        references = levels(self._reference_latencies(encodings, latencies_ms), self._relative)
        samples = levels(latencies_ms, self._relative)
        low, high = samples.min(), samples.max()
        if low == high:
            raise FitError(
                f"help needs samples of different latencies, all {len(encodings)} take {latencies_ms[0]:g} ms"
            )
        hardware = np.tile(_embedding(references), (draws, 1))
        x = network.encoder.inputs(encodings)
        tiled = np.broadcast_to(x, (draws, *x.shape))
        y = np.tile(_scale(samples, low, high)[:, None], (draws, 1, 1))
        weights = MetaLearner(network, self._weights, self.seed).adapt(hardware, tiled, y)
        predictor = HelpPredictor(self.settings, network, weights, hardware)
        predictor.width = self.width
        predictor.calibration = Calibration.of(predictor.scaled(encodings), latencies_ms, self._relative)
        return predictor

    def _reference_latencies(self, encodings: Array, latencies_ms: Array) -> Array:
        """Latencies of the references in milliseconds: measured, or estimated where they are not among the samples."""
        operators = self._operators.of_samples(encodings, latencies_ms)
        estimate = np.maximum(self._operators.predict(operators, self._encodings), _LEAST * latencies_ms.min())
        for number, reference in enumerate(self._encodings):
            same = (encodings == reference).all(axis=1)
            if same.any():
                estimate[number] = latencies_ms[same].min()
        return estimate

    def to_files(self) -> dict[str, bytes]:
        data = {
            "settings": asdict(self.settings),
            "seed": self.seed,
            "width": self.width,
            "relative": self._relative,
            "encoder": encoder_to_data(self._network.encoder),
        }
        arrays = {"rows": self._rows, "encodings": self._encodings, **self._operators.to_arrays()}
        return {
            "help.json": json.dumps(data).encode(),
            "arrays.npz": arrays_to_bytes({**arrays, **numbered(self._weights)}),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        data, arrays = json.loads(files["help.json"]), arrays_from_bytes(files["arrays.npz"])
        method = cls(seed=int(data["seed"]), settings=HelpSettings(**data["settings"]))
        method.width, method._relative, method._rows = int(data["width"]), bool(data["relative"]), arrays["rows"]
        method._network = HelpNetwork(encoder_from_data(data["encoder"]), method.settings)
        method._encodings, method._operators = arrays["encodings"], OperatorLatencies.from_arrays(arrays)
        method._weights = numbered_weights(arrays)
        return method


class HelpPredictor(Predictor):
    """The mean of networks adapted to one device, one for each draw of z. Predicts without TensorFlow.

    Args:
        settings: of the method.
        network: what the weights belong to.
        weights: of `draws` networks.
        hardware: the device's embedding, shape (draws, references).
    """

    name: ClassVar[str] = "help"
    calibration: Calibration

    def __init__(self, settings: HelpSettings, network: HelpNetwork, weights: list[Array], hardware: Array) -> None:
        self._settings = settings
        self._network = network
        self._weights = weights
        self._hardware = hardware.astype(np.float32)

    def scaled(self, encodings: Array) -> Array:
        """Predictions before they become milliseconds, shape (n,)."""
        parts = []
        for start in range(0, len(encodings), _ROWS):
            x = self._network.encoder.inputs(encodings[start : start + _ROWS])
            tiled = np.broadcast_to(x, (len(self._hardware), *x.shape))
            parts.append(self._network.run(np, self._weights, self._hardware, tiled).mean(axis=0)[:, 0])
        predicted: Array = np.concatenate(parts).astype(float)
        return predicted

    def _predict(self, encodings: Array) -> Array:
        return self.calibration.apply(self.scaled(encodings))

    def to_files(self) -> dict[str, bytes]:
        data = {
            "settings": asdict(self._settings),
            "encoder": encoder_to_data(self._network.encoder),
            "width": self.width,
            "calibration": asdict(self.calibration),
        }
        arrays = {"hardware": self._hardware, **numbered(self._weights)}
        return {"help.json": json.dumps(data).encode(), "arrays.npz": arrays_to_bytes(arrays)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        data, arrays = json.loads(files["help.json"]), arrays_from_bytes(files["arrays.npz"])
        settings = HelpSettings(**data["settings"])
        network = HelpNetwork(encoder_from_data(data["encoder"]), settings)
        predictor = cls(settings, network, numbered_weights(arrays), arrays["hardware"])
        predictor.width, predictor.calibration = int(data["width"]), Calibration(**data["calibration"])
        return predictor


def _reference_rows(table_ms: Array, rows: Array | None, count: int, seed: int) -> Array:
    """Rows of the reference architectures; raises FitError where some device did not measure them."""
    common = np.flatnonzero(~np.isnan(table_ms).any(axis=1))
    if rows is None:
        if len(common) <= count:
            raise FitError(
                f"help needs {count} reference architectures and more that all devices of the pool measured, got "
                f"{len(common)}: profile the same ones on every device"
            )
        random, order = np.random.default_rng(seed), np.argsort(np.log(table_ms[common]).mean(axis=1))
        spread = [random.choice(part) for part in np.array_split(common[order], count)]
        return random.permutation(spread)  # the first few are spread too
    if len(rows) != count or not np.isin(rows, common).all():
        raise FitError(f"reference_rows must be {count} rows of the pool that all its devices measured, got {rows}")
    return rows


def _embedding(references: Array) -> Array:
    """Levels of the references, shape (..., d), scaled to [0, 1] (Section 3.2 of the paper)."""
    low, high = references.min(axis=-1, keepdims=True), references.max(axis=-1, keepdims=True)
    scaled: Array = ((references - low) / span(low, high)).astype(np.float32)
    return scaled


def _scale(values: Array, low: Any, high: Any) -> Array:
    scaled: Array = ((values - low) / span(low, high) * (1 - 2 * _MARGIN) + _MARGIN).astype(np.float32)
    return scaled


def _episode(table: Array, references: Array, settings: HelpSettings, random: np.random.Generator) -> Any:
    """Tasks of a few devices: embeddings, rows and labels to adapt to, rows and labels to be judged by."""
    devices = random.permutation(table.shape[1])[: settings.devices]
    measured = [np.flatnonzero(~np.isnan(table[:, device])) for device in devices]
    least = int((~np.isnan(table)).sum(axis=0).min())  # of all devices: episodes are of one shape
    support = min(settings.support, least // 2)
    queries = min(settings.queries, least - support)
    rows = np.stack([random.choice(own, support + queries, replace=False) for own in measured])
    queried = np.take_along_axis(table[:, devices].T, rows, axis=1)
    known = table[np.ix_(references, devices)].T
    samples = np.hstack([known, queried[:, :support]])
    low, high = samples.min(axis=1, keepdims=True), samples.max(axis=1, keepdims=True)
    labels = _scale(queried, low, high)[..., None]
    rows = rows.astype(np.int32)
    return _embedding(known), rows[:, :support], labels[:, :support], rows[:, support:], labels[:, support:]
