"""MAPLE: a regressor that reads an architecture and a descriptor of the hardware (Abbasi et al. 2022).

The descriptor is what primitive operations take on a device, in time and in counters. The few samples of a new device
are mixed into the training set; each of the two sets is weighted by 1 / sqrt(its size), so that neither drowns.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.errors import DomainError, FitError
from blsm.transfer.base import Method, Predictor, arrays_from_bytes, arrays_to_bytes
from blsm.transfer.dual_stream import DualStream
from blsm.transfer.networks import (
    Adam,
    cosine,
    encoder_from_data,
    encoder_of,
    encoder_to_data,
    numbered,
    numbered_weights,
)
from blsm.transfer.operator_latencies import OperatorLatencies
from blsm.transfer.pool import DevicePool

__all__ = ["Maple", "MaplePredictor", "MapleSettings"]

#: Near-zero latencies of a device count as this part of its median: their logarithms would rule the fit.
_LEAST_PART = 0.01


@dataclass(frozen=True)
class MapleSettings:
    """Hyperparameters.

    Attributes:
        units: of each layer.
        steps: of training on the known devices.
        batch: architectures in a step, on all devices.
        rate: of Adam at the first step; it falls to 0 along a cosine.
        mixed_steps, mixed_rate: of training that goes on with the new device's samples mixed in.
    """

    units: int = 128
    steps: int = 3000
    batch: int = 64
    rate: float = 1e-3
    mixed_steps: int = 300
    mixed_rate: float = 1e-3


class Maple(Method):
    """MAPLE.

    With `descriptors` of all known devices, adapt by `of_device(descriptor).adapt(...)`. Without them, a descriptor is
    made of operator latencies alone, which are estimated from the measured architectures; see `OperatorLatencies`.

    Args:
        descriptors: device -> descriptor, shape (k,); NaN where a device has no such counter, and then the counter is
            left out. See `blsm.transfer.descriptor.Descriptor.vector`.
        settings: hyperparameters.
        seed: of every random choice.
    """

    name: ClassVar[str] = "maple"
    least_samples: ClassVar[int] = 1

    def __init__(
        self,
        *,
        seed: int = 0,
        settings: MapleSettings | None = None,
        descriptors: Mapping[str, Array] | None = None,
    ) -> None:
        super().__init__(seed=seed)
        self.settings = settings or MapleSettings()
        self._descriptors = descriptors
        self._operators: OperatorLatencies | None = None
        self._new: Array | None = None

    def of_device(self, descriptor: Array) -> Self:
        """This method with the descriptor of the new device that it adapts to next.

        Raises:
            DomainError: a descriptor of another length, or one that lacks a counter that the known devices have.
            FitError: the method was fitted without descriptors.
        """
        if not self.width or self._operators is not None:
            raise FitError("maple must be fitted with the descriptors of the known devices before it reads another")
        values = np.asarray(descriptor, float)
        if values.shape != self._present.shape:
            raise DomainError(f"a descriptor must have {len(self._present)} numbers, got shape {values.shape}")
        if not np.isfinite(values[self._present]).all():
            raise DomainError("the new device's descriptor lacks a counter that all known devices have; leave it out")
        method = copy.copy(self)
        method._new = values[self._present]
        return method

    def _fit(self, pool: DevicePool) -> None:
        if self._descriptors is None:
            self._operators = OperatorLatencies.of(pool)
            table, self._present = self._operators.known, np.ones(self._operators.known.shape[1], bool)
        else:
            table, self._present = _descriptor_table(pool, self._descriptors)
        encoder = encoder_of(pool, self.settings.units)
        self._network = DualStream.of(encoder, table, self.settings.units)
        self._hardware = self._network.hardware_inputs(table)
        self._inputs = encoder.inputs(pool.encodings)
        table_ms = pool.table_ms
        self._labels = np.log(np.maximum(table_ms, _LEAST_PART * np.nanmedian(table_ms, axis=0)))
        #: Of log milliseconds: the network learns standardised labels.
        self._center, self._spread = float(np.nanmean(self._labels)), float(np.nanstd(self._labels)) or 1.0
        start = self._network.random_weights(np.random.default_rng(self.seed))
        self._weights = self._train(start, self.settings.steps, self.settings.rate)

    def _adapt(self, encodings: Array, latencies_ms: Array) -> Predictor:
        if self._operators is not None:
            new = self._operators.of_samples(encodings, latencies_ms)
        elif self._new is not None:
            new = self._new
        else:
            raise FitError("maple was fitted with descriptors: name the new device's by of_device(descriptor) first")
        hardware = self._network.hardware_inputs(new[None])
        labels = np.log(np.maximum(latencies_ms, _LEAST_PART * np.median(latencies_ms)))
        samples = self._network.encoder.inputs(encodings), labels, hardware
        weights = self._train(self._weights, self.settings.mixed_steps, self.settings.mixed_rate, samples)
        predictor = MaplePredictor(self._network, weights, hardware, self._center, self._spread)
        predictor.width = self.width
        return predictor

    def _train(
        self, weights: list[Array], steps: int, rate: float, samples: tuple[Array, Array, Array] | None = None
    ) -> list[Array]:
        """Minimises the weighted absolute error; `samples` are inputs, log milliseconds and the new device's row."""
        import tensorflow as tf
        import tensorflow.experimental.numpy as tnp

        random = np.random.default_rng([self.seed, steps])
        rows = random.integers(0, len(self._inputs), (steps, min(self.settings.batch, len(self._inputs))))
        labels = (self._labels - self._center) / self._spread
        known = ~np.isnan(labels)
        x, y, mask, hardware = (
            tf.constant(v, tf.float32) for v in (self._inputs, np.nan_to_num(labels), known, self._hardware)
        )
        variables = [tf.Variable(weight) for weight in weights]
        optimizer = Adam(variables)
        # A set of size n, each sample weighted by 1 / sqrt(n), adds sqrt(n) times its mean error.
        pool_weight = float(np.sqrt(known.sum()))
        new_weight = 0.0
        if samples is not None:
            new_x, new_y, new_hardware = (tf.constant(value, tf.float32) for value in samples)
            new_y = (new_y - self._center) / self._spread
            new_weight = float(np.sqrt(len(samples[1])))
        total = pool_weight + new_weight

        def train(rows: Any, rates: Any) -> None:
            for step in tf.range(tf.shape(rates)[0]):
                batch = rows[step]
                with tf.GradientTape() as tape:
                    there = tf.gather(mask, batch)
                    predicted = self._network.run(tnp, variables, tf.gather(x, batch), hardware)
                    error = tf.reduce_sum(there * tf.abs(predicted - tf.gather(y, batch)))
                    loss = pool_weight / total * tf.math.divide_no_nan(error, tf.reduce_sum(there))
                    if samples is not None:
                        own = self._network.run(tnp, variables, new_x, new_hardware)[:, 0]
                        loss += new_weight / total * tf.reduce_mean(tf.abs(own - new_y))
                optimizer.apply(tape.gradient(loss, variables), rates[step])

        tf.function(train)(tf.constant(rows, tf.int32), tf.constant(rate * cosine(steps), tf.float32))
        return [variable.numpy() for variable in variables]

    def to_files(self) -> dict[str, bytes]:
        data = {
            "settings": asdict(self.settings),
            "seed": self.seed,
            "width": self.width,
            "encoder": encoder_to_data(self._network.encoder),
            "center": self._center,
            "spread": self._spread,
            "estimated": self._operators is not None,
        }
        arrays = {"inputs": self._inputs, "labels": self._labels, "hardware": self._hardware, "present": self._present}
        arrays |= {"new": self._new} if self._new is not None else {}
        arrays |= self._operators.to_arrays() if self._operators is not None else {}
        arrays |= {**self._network.scales(), **numbered(self._weights)}
        return {"maple.json": json.dumps(data).encode(), "arrays.npz": arrays_to_bytes(arrays)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        data, arrays = json.loads(files["maple.json"]), arrays_from_bytes(files["arrays.npz"])
        method = cls(seed=int(data["seed"]), settings=MapleSettings(**data["settings"]))
        method.width, method._center, method._spread = int(data["width"]), float(data["center"]), float(data["spread"])
        method._network = DualStream.from_data(encoder_from_data(data["encoder"]), arrays, method.settings.units)
        method._inputs, method._labels = arrays["inputs"], arrays["labels"]
        method._hardware, method._present = arrays["hardware"], arrays["present"]
        method._new = arrays.get("new")
        method._operators = OperatorLatencies.from_arrays(arrays) if data["estimated"] else None
        method._weights = numbered_weights(arrays)
        return method


class MaplePredictor(Predictor):
    """The regressor with one device's descriptor. Predicts without TensorFlow.

    Args:
        network: what the weights belong to.
        weights: of the network.
        hardware: network input of the descriptor, shape (1, k).
        center, spread: of log milliseconds.
    """

    name: ClassVar[str] = "maple"

    def __init__(
        self, network: DualStream, weights: list[Array], hardware: Array, center: float, spread: float
    ) -> None:
        self._network = network
        self._weights = weights
        self._hardware = hardware
        self._center = center
        self._spread = spread

    def _predict(self, encodings: Array) -> Array:
        x = self._network.encoder.inputs(encodings)
        scaled = self._network.run(np, self._weights, x, self._hardware)[:, 0].astype(float)
        latencies_ms: Array = np.exp(scaled * self._spread + self._center)
        return latencies_ms

    def to_files(self) -> dict[str, bytes]:
        data = {
            "encoder": encoder_to_data(self._network.encoder),
            "units": self._network.units,
            "width": self.width,
            "center": self._center,
            "spread": self._spread,
        }
        arrays = {"hardware": self._hardware, **self._network.scales(), **numbered(self._weights)}
        return {"maple.json": json.dumps(data).encode(), "arrays.npz": arrays_to_bytes(arrays)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        data, arrays = json.loads(files["maple.json"]), arrays_from_bytes(files["arrays.npz"])
        network = DualStream.from_data(encoder_from_data(data["encoder"]), arrays, int(data["units"]))
        scaling = float(data["center"]), float(data["spread"])
        predictor = cls(network, numbered_weights(arrays), arrays["hardware"], *scaling)
        predictor.width = int(data["width"])
        return predictor


def _descriptor_table(pool: DevicePool, descriptors: Mapping[str, Array]) -> tuple[Array, Array]:
    """Descriptors of the known devices, shape (devices, k'), and which of k numbers they all have."""
    lacking = [device for device in pool.devices if device not in descriptors]
    if lacking:
        raise FitError(f"maple needs a descriptor of {', '.join(lacking)}: run `blsm descriptor --device {lacking[0]}`")
    rows = [np.asarray(descriptors[device], float) for device in pool.devices]
    if len({row.shape for row in rows}) > 1:
        raise DomainError(f"descriptors must have the same length, got {sorted({row.shape for row in rows})}")
    table = np.stack(rows)
    present = np.isfinite(table).all(axis=0)
    if not present.any():
        raise FitError("the descriptors have no number in common")
    return table[:, present], present
