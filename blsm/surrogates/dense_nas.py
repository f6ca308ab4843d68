"""A fully connected network whose depth, width and learning rate KerasTuner finds: the paper's Dense NAS."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.features import Features
from blsm.surrogates.base import Regressor, to_json
from blsm.surrogates.scaling import Scaling

if TYPE_CHECKING:
    import keras

_BATCH = 64
_FILE = "dense.json"
_PARTS = ("kernel", "bias")


class DenseNas(Regressor):
    """A fully connected network with relu that learns the logarithm of latency.

    KerasTuner's Bayesian optimisation chooses 1 to 4 hidden layers, 32 to 256 units in each, and the learning rate of
    Adam, by the validation loss; the network of its choice is trained on both sets. It predicts with NumPy.

    Attributes:
        layers: kernel, shape (inputs, units), and bias, shape (units,), of each dense layer, float32.

    Args:
        features: as in `Regressor`.
        trials: networks to try.
        epochs: of each.
    """

    name: ClassVar[str] = "dense_nas"
    chatty: ClassVar[bool] = True

    _scaling: Scaling

    def __init__(self, features: str | None = None, *, trials: int = 8, epochs: int = 100) -> None:
        super().__init__(features)
        self.trials = trials
        self.epochs = epochs
        self.layers: list[tuple[Array, Array]] = []
        self._target = (0.0, 1.0)

    def _fit(self, features: Features, latency_ms: Array, train_count: int, seed: int) -> None:
        import keras
        import keras_tuner
        import tensorflow as tf

        inputs, target = self._inputs(features), np.log(latency_ms)
        self._scaling = Scaling.of(inputs, features.vectors.shape[1])
        self._target = float(target.mean()), float(target.std()) or 1.0
        scaled = self._scaling(inputs).astype(np.float32)
        labels = ((target - self._target[0]) / self._target[1]).astype(np.float32)[:, None]

        def rows(chosen: slice) -> Any:
            table = tf.data.Dataset.from_tensor_slices((scaled[chosen], labels[chosen]))
            return table.shuffle(len(scaled), seed=seed).batch(_BATCH)

        def build(hp: Any, count: int = train_count) -> keras.Model:
            return _network(hp, scaled.shape[1], self.epochs, -(-count // _BATCH), seed)

        with tempfile.TemporaryDirectory() as folder:
            # KerasTuner takes a seed of 0 for none.
            tuner = keras_tuner.BayesianOptimization(
                build, objective="val_loss", max_trials=self.trials, seed=seed + 1, directory=folder
            )
            train, validation = slice(train_count), slice(train_count, None)
            tuner.search(rows(train), validation_data=rows(validation), epochs=self.epochs, verbose=0)
            chosen = tuner.get_best_hyperparameters()[0]
        network = build(chosen, len(scaled))
        network.fit(rows(slice(None)), epochs=self.epochs, verbose=0)
        dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
        self.layers = [tuple(layer.get_weights()) for layer in dense]

    def _predict(self, features: Features) -> Array:
        x = self._scaling(self._inputs(features)).astype(np.float32)
        for kernel, bias in self.layers[:-1]:
            x = np.maximum(x @ kernel + bias, 0)
        kernel, bias = self.layers[-1]
        mean, deviation = self._target
        latency_ms: Array = np.exp(mean + deviation * (x @ kernel + bias)[:, 0].astype(float))
        return latency_ms

    def to_files(self) -> dict[str, bytes]:
        state = {"layers": len(self.layers), "target": self._target, "scaling": self._scaling.to_json()}
        arrays = {
            f"{part}_{i}.npy": a for i, layer in enumerate(self.layers) for part, a in zip(_PARTS, layer, strict=True)
        }
        return {
            **self._inputs_to_files(),
            _FILE: to_json(state),
            **{name: _to_npy(array) for name, array in arrays.items()},
        }

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        regressor, state = cls._of_inputs(files), json.loads(files[_FILE])
        mean, deviation = state["target"]
        regressor._target = float(mean), float(deviation)
        regressor._scaling = Scaling.from_json(state["scaling"])
        for index in range(state["layers"]):
            kernel, bias = (np.load(io.BytesIO(files[f"{part}_{index}.npy"]), allow_pickle=False) for part in _PARTS)
            regressor.layers.append((kernel, bias))
        return regressor


def _network(hp: Any, inputs: int, epochs: int, updates: int, seed: int) -> keras.Model:
    """The network of a setting, for so many epochs of so many updates; its learning rate falls to 0 along a cosine."""
    import keras

    depth, width = hp.Int("depth", 1, 4), hp.Int("width", 32, 256, step=32)
    rate = hp.Float("learning_rate", 1e-3, 3e-2, sampling="log")

    def dense(units: int, number: int, activation: str | None = None) -> keras.layers.Layer:
        initial = keras.initializers.GlorotUniform(seed=seed + number)
        return keras.layers.Dense(units, activation=activation, kernel_initializer=initial)

    hidden = [dense(width, number, "relu") for number in range(depth)]
    network = keras.Sequential([keras.Input((inputs,)), *hidden, dense(1, depth)])
    decay = keras.optimizers.schedules.CosineDecay(rate, epochs * updates)
    # One call of TensorFlow an epoch: the networks are small.
    network.compile(keras.optimizers.Adam(decay), loss="mse", steps_per_execution=updates)
    return network


def _to_npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
