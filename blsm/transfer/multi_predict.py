"""Multi-Predict: a table of learned device embeddings, and fine-tuning (Akhauri and Abdelfattah 2023, AutoML).

One network predicts all known devices, each by an embedding of its own. A new device starts from the embedding of the
known device whose latencies correlate most with its samples (Eq. 1), then samples fine-tune the network (Eq. 2).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.errors import FitError
from blsm.transfer.base import Method, Predictor, arrays_from_bytes, arrays_to_bytes
from blsm.transfer.device_table import DeviceTable, MultiPredictSettings
from blsm.transfer.networks import Adam, cosine, numbered, numbered_weights
from blsm.transfer.pool import DevicePool
from blsm.transfer.scaling import Calibration, levels

__all__ = ["MultiPredict", "MultiPredictPredictor", "MultiPredictSettings"]


class MultiPredict(Method):
    """Multi-Predict.

    Latencies of known devices, of a wide pool their logarithms, are scaled to [0, 1] by the pool; those of the new
    device so that its samples agree best with the device it starts from.

    Args:
        settings: encodings and hyperparameters. Fitted to a pool of an encoding that search spaces share, such as
            zero-cost proxies, it adapts to samples of another search space.
        seed: of every random choice.
    """

    name: ClassVar[str] = "multi_predict"
    least_samples: ClassVar[int] = 3

    def __init__(self, *, seed: int = 0, settings: MultiPredictSettings | None = None) -> None:
        super().__init__(seed=seed)
        self.settings = settings or MultiPredictSettings()

    def _fit(self, pool: DevicePool) -> None:
        import tensorflow as tf

        random = np.random.default_rng(self.seed)
        self._network = network = DeviceTable.of(pool, self.settings)
        self._relative = pool.wide
        table = levels(pool.table_ms, self._relative)
        low, high = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
        if (low == high).any():
            raise FitError(f"multi_predict needs different latencies on each device, got one on {pool.devices}")
        labels = (table - low) / (high - low)
        known = ~np.isnan(labels)
        data = [tf.constant(v, tf.float32) for v in (network.inputs(pool.encodings), np.nan_to_num(labels), known)]
        variables = [tf.Variable(weight) for weight in network.random_weights(random)]
        steps, batch = self.settings.steps, min(self.settings.batch, len(pool))
        epochs = -(-steps * batch // len(pool))
        # Every architecture once before any twice.
        order = np.concatenate([random.permutation(len(pool)) for _ in range(epochs)])[: steps * batch]
        rates = self.settings.rate * cosine(steps)
        _descend(network, variables, data, order.reshape(steps, batch), rates, self.settings.decay)
        self._weights = [variable.numpy() for variable in variables]

    def _adapt(self, encodings: Array, latencies_ms: Array) -> Predictor:
        import tensorflow as tf

        network, settings = self._network, self.settings
        samples = levels(latencies_ms, self._relative)
        if np.ptp(samples) == 0:
            raise FitError(f"multi_predict needs samples of different latencies, all take {latencies_ms[0]:g} ms")
        x = network.inputs(encodings)
        known = network.run(np, self._weights, x)
        closest = int(np.argmax(_correlations(known, samples)))  # Eq. 1
        weights = network.of_one_device(self._weights, closest)
        start = Calibration.of(known[:, closest].astype(float), latencies_ms, self._relative)
        slope, constant = start.slope, start.constant
        if slope == 0:  # no known device resembles it
            slope, constant = float(np.ptp(samples)), float(samples.min())
        labels = (samples - constant) / slope
        variables = [tf.Variable(weight) for weight in weights]
        data = [tf.constant(v, tf.float32) for v in (x, labels[:, None], np.ones((len(x), 1)))]
        rows = np.tile(np.arange(len(x)), (settings.tuning_steps, 1))
        rates = settings.tuning_rate * cosine(settings.tuning_steps)
        tuned = variables[network.encoder_weights :] if settings.frozen_encoder else variables
        _descend(network, variables, data, rows, rates, settings.decay, tuned)  # Eq. 2
        predictor = MultiPredictPredictor(network, [variable.numpy() for variable in variables])
        predictor.width = self.width
        predictor.calibration = Calibration.of(predictor.scaled(encodings), latencies_ms, self._relative)
        return predictor

    def to_files(self) -> dict[str, bytes]:
        head = {"settings": asdict(self.settings), "seed": self.seed, "width": self.width, "relative": self._relative}
        data = {**head, **self._network.to_data()}
        return {
            "multi_predict.json": json.dumps(data).encode(),
            "weights.npz": arrays_to_bytes(numbered(self._weights)),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        data = json.loads(files["multi_predict.json"])
        method = cls(seed=int(data["seed"]), settings=MultiPredictSettings.from_data(data["settings"]))
        method.width, method._relative = int(data["width"]), bool(data["relative"])
        method._network = DeviceTable.from_data(data, method.settings)
        method._weights = numbered_weights(arrays_from_bytes(files["weights.npz"]))
        return method


class MultiPredictPredictor(Predictor):
    """The network, fine-tuned to one device. Predicts without TensorFlow.

    Args:
        network: what the weights belong to.
        weights: with a table of one device.
    """

    name: ClassVar[str] = "multi_predict"
    calibration: Calibration

    def __init__(self, network: DeviceTable, weights: list[Array]) -> None:
        self._network = network
        self._weights = weights

    def scaled(self, encodings: Array) -> Array:
        """Predictions before they become milliseconds, shape (n,)."""
        scores: Array = self._network.run(np, self._weights, self._network.inputs(encodings))[:, 0].astype(float)
        return scores

    def _predict(self, encodings: Array) -> Array:
        return self.calibration.apply(self.scaled(encodings))

    def to_files(self) -> dict[str, bytes]:
        data = {
            "settings": asdict(self._network.settings),
            "width": self.width,
            "calibration": asdict(self.calibration),
            **self._network.to_data(),
        }
        return {
            "multi_predict.json": json.dumps(data).encode(),
            "weights.npz": arrays_to_bytes(numbered(self._weights)),
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        data = json.loads(files["multi_predict.json"])
        network = DeviceTable.from_data(data, MultiPredictSettings.from_data(data["settings"]))
        predictor = cls(network, numbered_weights(arrays_from_bytes(files["weights.npz"])))
        predictor.width, predictor.calibration = int(data["width"]), Calibration(**data["calibration"])
        return predictor


def _correlations(columns: Array, values: Array) -> Array:
    """Pearson's correlation of each column with values; 0 of a column that is constant."""
    columns, values = columns - columns.mean(axis=0), values - values.mean()
    lengths = np.sqrt(np.square(columns).sum(axis=0) * np.square(values).sum())
    found: Array = values @ columns / np.where(lengths > 0, lengths, np.inf)
    return found


def _descend(
    network: DeviceTable,
    variables: Sequence[Any],
    data: Sequence[Any],
    rows: Array,
    rates: Array,
    decay: float,
    tuned: Sequence[Any] | None = None,
) -> None:
    """Minimises the absolute error over batches.

    Args:
        network: predicts.
        variables: its weights.
        data: inputs (n, features), labels (n, devices), and 1 where there is a label, else 0.
        rows: of each batch, shape (steps, batch).
        rates: learning rate of each step.
        decay: of the weights.
        tuned: the variables that change; all if None.
    """
    import tensorflow as tf
    import tensorflow.experimental.numpy as tnp

    tuned = list(variables if tuned is None else tuned)
    optimizer = Adam(tuned, decay)
    x, labels, known = data

    def descend(rows: Any, rates: Any) -> None:
        for step in tf.range(tf.shape(rates)[0]):
            batch = rows[step]
            with tf.GradientTape() as tape:
                error = tf.abs(network.run(tnp, variables, tf.gather(x, batch)) - tf.gather(labels, batch))
                loss = tf.reduce_sum(error * tf.gather(known, batch))
            optimizer.apply(tape.gradient(loss, tuned), rates[step])

    tf.function(descend)(tf.constant(rows, tf.int32), tf.constant(rates, tf.float32))
