"""Meta-SGD (Li et al. 2017) over devices, with HELP's modulated start: the heart of `blsm.transfer.help`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blsm._types import Array
from blsm.transfer.networks import Adam, Encoder, Shapes, dense, dense_shapes, random_weights

#: Hidden units of the z encoder.
_Z_UNITS = 10


@dataclass(frozen=True)
class HelpSettings:
    """Hyperparameters of HELP (Table B.1 of Lee et al. 2021) and the switches of its ablation (Table 2).

    Attributes:
        hardware_embedding: whether predictions depend on the latencies of the reference architectures.
        modulator: whether the header's start depends on them, by z.
        learned_rates: a learned inner learning rate for each weight (Meta-SGD), or `inner_rate` for all (MAML).
        second_order: whether training differentiates through the inner steps.
        references: architectures of the hardware embedding, d.
        units: of each layer of the encoders; the header has twice as many.
        inner_steps: gradient steps of adapting.
        inner_rate: where the inner learning rates start.
        episodes: steps of training.
        rate: of Adam.
        devices: in an episode, at most.
        support: samples to adapt to in an episode.
        queries: samples to judge the adapted network by in an episode.
        z_scale: of the modulation.
        kl_weight: of the divergence of z from a standard normal distribution.
        draws: of z when adapting; predictions are their mean.
    """

    hardware_embedding: bool = True
    modulator: bool = True
    learned_rates: bool = True
    second_order: bool = True
    references: int = 10
    units: int = 100
    inner_steps: int = 2
    inner_rate: float = 1e-3
    episodes: int = 2000
    rate: float = 1e-4
    devices: int = 8
    support: int = 10
    queries: int = 200
    z_scale: float = 0.01
    kl_weight: float = 0.1
    draws: int = 10


class HelpNetwork:
    """HELP's predictor: architecture encoder, device encoder, header; and the encoder of z.

    Its weights are one list: `encoder`, `device`, `header`.

    Args:
        encoder: of architectures.
        settings: its sizes and switches.
    """

    def __init__(self, encoder: Encoder, settings: HelpSettings) -> None:
        self.encoder = encoder
        self.settings = settings
        units, on = settings.units, settings.hardware_embedding
        wide = 2 * units if on else units
        self._parts = (
            encoder.shapes(),
            dense_shapes(settings.references, units, units) if on else [],
            dense_shapes(wide, wide, wide, 1),
        )
        #: Of z: a factor for each input of each header layer, and a shift of its bias; mean and deviation.
        self.z_shapes = dense_shapes(settings.references, _Z_UNITS, 2 * 3 * (wide + 1)) if settings.modulator else []
        self.wide = wide

    @property
    def shapes(self) -> Shapes:
        """Shapes of the weights."""
        return [shape for part in self._parts for shape in part]

    def run(self, xp: Any, weights: Sequence[Any], hardware: Any, x: Any) -> Any:
        """Scaled latencies.

        Args:
            xp: see `blsm.transfer.networks`.
            weights: as in `shapes`, for each of T tasks.
            hardware: embeddings, shape (T, references).
            x: encoder inputs, shape (T, n, features).

        Returns:
            Shape (T, n, 1).
        """
        encoder, device, _ = (len(part) for part in self._parts)
        h = self.encoder.run(xp, weights[:encoder], x)
        header = weights[encoder + device :]
        if device:
            e = xp.maximum(dense(xp, weights[encoder : encoder + device], hardware[:, None, :]), 0)
            h = xp.concatenate([h, xp.broadcast_to(e, (*h.shape[:-1], e.shape[-1]))], -1)
        return dense(xp, header, h)

    def start(self, xp: Any, weights: Sequence[Any], z: Any) -> list[Any]:
        """Weights of T tasks to adapt from; the header's are modulated by z, shape (T, 3 * (wide + 1))."""
        first = len(self.shapes) - len(self._parts[2])
        tasks = z.shape[0]
        tiled = [xp.broadcast_to(weight, (tasks, *weight.shape)) for weight in weights]
        scale, wide = self.settings.z_scale, self.wide
        for layer in range(3 if self.settings.modulator else 0):
            kernel, bias = first + 2 * layer, first + 2 * layer + 1
            factor = z[:, layer * wide : (layer + 1) * wide, None]
            tiled[kernel] = tiled[kernel] * (1 + scale * factor)
            tiled[bias] = tiled[bias] + scale * z[:, 3 * wide + layer, None, None]
        return tiled


class MetaLearner:
    """Trains a `HelpNetwork` over episodes and adapts it, in TensorFlow.

    Args:
        network: what to train.
        weights: its weights, those of the z encoder, and the inner learning rates, one after the other; random if None.
        seed: of random weights and of z.
    """

    def __init__(self, network: HelpNetwork, weights: Sequence[Array] | None, seed: int) -> None:
        import tensorflow as tf
        import tensorflow.experimental.numpy as tnp

        self._network = network
        self._tf, self._tnp = tf, tnp
        settings = network.settings
        random = np.random.default_rng(seed)
        if weights is None:
            start = random_weights(network.shapes, random)
            rates = [np.full_like(w, settings.inner_rate) for w in start] if settings.learned_rates else []
            weights = [*start, *random_weights(network.z_shapes, random), *rates]
        self.variables = [tf.Variable(value, dtype=tf.float32) for value in weights]
        self._random = tf.random.Generator.from_seed(seed)

    def _split(self) -> tuple[list[Any], list[Any], list[Any]]:
        count, z_count = len(self._network.shapes), len(self._network.z_shapes)
        return self.variables[:count], self.variables[count : count + z_count], self.variables[count + z_count :]

    def _adapted(self, hardware: Any, x: Any, y: Any) -> tuple[list[Any], Any]:
        """Weights of T tasks after the inner steps, and the divergence of z."""
        tf, settings, network = self._tf, self._network.settings, self._network
        weights, z_weights, rates = self._split()
        z, divergence = tf.zeros((hardware.shape[0], 0)), tf.constant(0.0)
        if z_weights:
            mean, raw = tf.split(dense(self._tnp, z_weights, hardware), 2, axis=-1)
            deviation = tf.nn.softplus(raw)
            z = mean + deviation * self._random.normal(mean.shape)
            kl = 0.5 * (tf.square(mean) + tf.square(deviation) - 1) - tf.math.log(deviation + 1e-12)
            divergence = tf.reduce_mean(tf.reduce_sum(kl, axis=-1))
        adapted = network.start(self._tnp, weights, z)
        for _ in range(settings.inner_steps):
            with tf.GradientTape() as tape:
                tape.watch(adapted)
                # A sum over tasks: the gradient of a task's own weights is then that of its own error.
                error = network.run(self._tnp, adapted, hardware, x) - y
                loss = tf.reduce_sum(tf.reduce_mean(tf.square(error), axis=(1, 2)))
            gradients = tape.gradient(loss, adapted)
            if not settings.second_order:
                gradients = [tf.stop_gradient(gradient) for gradient in gradients]
            steps = rates or [settings.inner_rate] * len(adapted)
            adapted = [w - rate * gradient for w, rate, gradient in zip(adapted, steps, gradients, strict=True)]
        return adapted, divergence

    def trainer(self, inputs: Array) -> Any:
        """A function (hardware, support rows, support labels, query rows, query labels) -> loss that takes one step.

        Args:
            inputs: encoder inputs of the pool, shape (n, features), that rows point into.
        """
        tf, settings = self._tf, self._network.settings
        table = tf.constant(inputs)
        optimizer = Adam(self.variables)

        def step(hardware: Any, s_rows: Any, s_y: Any, q_rows: Any, q_y: Any) -> Any:
            with tf.GradientTape() as tape:
                adapted, divergence = self._adapted(hardware, tf.gather(table, s_rows), s_y)
                predicted = self._network.run(self._tnp, adapted, hardware, tf.gather(table, q_rows))
                error = tf.reduce_mean(tf.square(predicted - q_y))
                loss = error + settings.kl_weight * divergence
            gradients = tape.gradient(loss, self.variables, unconnected_gradients="zero")
            optimizer.apply(gradients, settings.rate)
            return error

        return tf.function(step)

    def adapt(self, hardware: Array, x: Array, y: Array) -> list[Array]:
        """Weights adapted to T tasks.

        Args:
            hardware: embeddings, shape (T, references).
            x: encoder inputs of the samples, shape (T, samples, features).
            y: their scaled latencies, shape (T, samples, 1).
        """
        tf = self._tf
        adapted, _ = self._adapted(*(tf.constant(value, tf.float32) for value in (hardware, x, y)))
        return [value.numpy() for value in adapted]
