"""Small neural networks as plain functions of lists of weights, in numpy or TensorFlow.

A weight may have a leading axis of tasks: then each task has weights of its own, and the inputs have that axis, too. So
adapting many tasks by gradient steps at once, and differentiating through the steps, needs no more than this.

`xp` is numpy, or `tensorflow.experimental.numpy`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np

from blsm._types import Array
from blsm.transfer.pool import DevicePool, Graph

Shapes = list[tuple[int, ...]]


class Encoder(Protocol):
    """Turns architectures into vectors.

    Attributes:
        size: length of a vector.
    """

    @property
    def size(self) -> int: ...

    def inputs(self, encodings: Array) -> Array:
        """What it reads of encodings of shape (n, width): float32, shape (n, features)."""

    def shapes(self) -> Shapes:
        """Shapes of its weights."""

    def run(self, xp: Any, weights: Sequence[Any], x: Any) -> Any:
        """Vectors of shape (..., n, size) of inputs of shape (..., n, features)."""


@dataclass(frozen=True)
class MlpEncoder:
    """Dense layers over columns of an encoding, standardised.

    Attributes:
        columns: which columns, int64.
        mean, scale: of these columns over the pool.
        size: units of each layer.
        layers: how many.
    """

    columns: Array
    mean: Array
    scale: Array
    size: int
    layers: int = 2

    @classmethod
    def of(cls, pool: DevicePool, columns: Array, size: int, layers: int = 2) -> MlpEncoder:
        """Standardises by the pool's encodings; 0/1 columns are left as they are."""
        values = pool.encodings[:, columns]
        binary = ((values == 0) | (values == 1)).all(axis=0)
        mean = np.where(binary, 0.0, values.mean(axis=0))
        deviation = values.std(axis=0)
        return cls(columns, mean, np.where(binary | (deviation == 0), 1.0, deviation), size, layers)

    def inputs(self, encodings: Array) -> Array:
        values: Array = ((encodings[:, self.columns] - self.mean) / self.scale).astype(np.float32)
        return values

    def shapes(self) -> Shapes:
        return dense_shapes(len(self.columns), *[self.size] * self.layers)

    def run(self, xp: Any, weights: Sequence[Any], x: Any) -> Any:
        return xp.maximum(dense(xp, weights, x), 0)


@dataclass(frozen=True)
class GcnEncoder:
    """Four graph convolutions (Kipf and Welling 2017) as in HELP's predictor of cells.

    A node's features are one-hot: its operation, or which of the nodes without operation it is. Each layer adds up the
    nodes that lead to a node, and itself; the last node, to which all others lead, is what is read out.

    Attributes:
        graph: nodes and edges.
        size: units of each layer.
    """

    graph: Graph
    size: int
    layers: int = 4

    def inputs(self, encodings: Array) -> Array:
        fixed = [index for index, node in enumerate(self.graph.nodes) if node is None]
        operations = self.features - len(fixed)
        table = np.zeros((len(encodings), len(self.graph.nodes), self.features), np.float32)
        for index, node in enumerate(self.graph.nodes):
            if node is None:
                table[:, index, operations + fixed.index(index)] = 1
            else:
                table[:, index, :operations] = encodings[:, node]
        return table.reshape(len(encodings), -1)

    @property
    def features(self) -> int:
        """Features of a node."""
        fixed = sum(node is None for node in self.graph.nodes)
        return fixed + max(int(node.stop - node.start) for node in self.graph.nodes if node is not None)

    def shapes(self) -> Shapes:
        return dense_shapes(self.features, *[self.size] * self.layers)

    def run(self, xp: Any, weights: Sequence[Any], x: Any) -> Any:
        nodes = len(self.graph.nodes)
        into = (self.graph.adjacency.T + np.eye(nodes)).astype(np.float32)
        *tasks, count, _ = x.shape
        # Nodes before architectures: then both the sum over nodes and the layer are one matrix product each.
        h = xp.moveaxis(xp.reshape(x, (*tasks, count, nodes, self.features)), -2, -3)
        for layer in range(self.layers):
            # Of the last layer, only the node that is read out is needed.
            rows = into if layer < self.layers - 1 else into[-1:]
            width = h.shape[-1]
            summed = rows @ xp.reshape(h, (*tasks, nodes, count * width))
            flat = xp.reshape(summed, (*tasks, len(rows) * count, width))
            h = xp.maximum(dense(xp, weights[2 * layer : 2 * layer + 2], flat), 0)
            h = xp.reshape(h, (*tasks, len(rows), count, self.size))
        return xp.reshape(h, (*tasks, count, self.size))


def encoder_of(pool: DevicePool, size: int) -> Encoder:
    """The encoder that fits a pool: graph convolutions where it has a graph, else dense layers over its vectors."""
    if pool.graph is not None:
        return GcnEncoder(pool.graph, size)
    columns = pool.columns("vec")
    return MlpEncoder.of(pool, columns if len(columns) else np.arange(pool.encodings.shape[1]), size)


def encoder_to_data(encoder: Encoder) -> dict[str, Any]:
    """An encoder as JSON data."""
    if isinstance(encoder, GcnEncoder):
        nodes = [None if node is None else [node.start, node.stop] for node in encoder.graph.nodes]
        return {"adjacency": encoder.graph.adjacency.tolist(), "nodes": nodes, "size": encoder.size}
    assert isinstance(encoder, MlpEncoder)
    arrays = {name: getattr(encoder, name).tolist() for name in ("columns", "mean", "scale")}
    return {**arrays, "size": encoder.size, "layers": encoder.layers}


def encoder_from_data(data: Mapping[str, Any]) -> Encoder:
    """Inverse of `encoder_to_data`; raises KeyError, ValueError or TypeError for anything else."""
    size = int(data["size"])
    if "adjacency" in data:
        nodes = tuple(None if ends is None else slice(*map(int, ends)) for ends in data["nodes"])
        return GcnEncoder(Graph(np.array(data["adjacency"], float), nodes), size)
    columns, mean, scale = (
        np.array(data[name], kind) for name, kind in (("columns", int), ("mean", float), ("scale", float))
    )
    return MlpEncoder(columns, mean, scale, size, int(data["layers"]))


def dense_shapes(*sizes: int) -> Shapes:
    """Shapes of the kernels and biases of dense layers between these sizes."""
    return [shape for before, after in pairwise(sizes) for shape in ((before, after), (1, after))]


def dense(xp: Any, weights: Sequence[Any], x: Any) -> Any:
    """Dense layers, rectified but for the last; weights are kernel, bias, kernel, bias, ..."""
    for index in range(0, len(weights), 2):
        x = x @ weights[index] + weights[index + 1]
        if index + 2 < len(weights):
            x = xp.maximum(x, 0)
    return x


def join_pairs(xp: Any, weights: Sequence[Any], devices: Any, architectures: Any) -> Any:
    """Dense layers over every pair of a device and an architecture.

    The first layer is linear in the two: each is multiplied once, not once a pair.

    Args:
        xp: see the module's description.
        weights: of the layers; the first reads a device's vector, then an architecture's; the last has one output.
        devices: shape (devices, d).
        architectures: shape (n, a).

    Returns:
        Shape (n, devices).
    """
    kernel, bias = weights[:2]
    width, count = devices.shape[-1], devices.shape[0]
    pairs = (architectures @ kernel[width:])[:, None, :] + (devices @ kernel[:width] + bias)[None, :, :]
    h = xp.maximum(xp.reshape(pairs, (-1, pairs.shape[-1])), 0)
    return xp.reshape(dense(xp, weights[2:], h), (-1, count))


def cosine(steps: int) -> Array:
    """Learning rates relative to the first, falling to 0 along a cosine."""
    rates: Array = 0.5 * (1 + np.cos(np.pi * np.arange(steps) / steps))
    return rates


def random_weights(shapes: Shapes, random: np.random.Generator) -> list[Array]:
    """Kernels and biases, uniform within 1 / sqrt(inputs of the layer), float32."""
    weights = []
    for index, shape in enumerate(shapes):
        bound = 1 / np.sqrt(shapes[index - index % 2][0])
        weights.append(random.uniform(-bound, bound, shape).astype(np.float32))
    return weights


def numbered(weights: Sequence[Array]) -> dict[str, Array]:
    """Weights by name, for a file."""
    return {f"w{number}": weight for number, weight in enumerate(weights)}


def numbered_weights(arrays: Mapping[str, Array]) -> list[Array]:
    """The weights among named arrays, in order."""
    return [arrays[f"w{number}"] for number in range(sum(name[1:].isdecimal() for name in arrays))]


class Adam:
    """Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019), on TensorFlow variables.

    Args:
        variables: what it optimises.
        decay: weight decay per step, times the learning rate.
    """

    def __init__(self, variables: Sequence[Any], decay: float = 0.0) -> None:
        import tensorflow as tf

        self._variables = variables
        self._decay = decay
        self._means = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]
        self._squares = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]
        self._step = tf.Variable(0.0, trainable=False)

    def apply(self, gradients: Sequence[Any], rate: Any) -> None:
        """One step."""
        import tensorflow as tf

        step = self._step.assign_add(1.0)
        bias = tf.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        for v, gradient, mean, square in zip(self._variables, gradients, self._means, self._squares, strict=True):
            mean.assign(0.9 * mean + 0.1 * gradient)
            square.assign(0.999 * square + 0.001 * gradient * gradient)
            v.assign(v * (1 - rate * self._decay) - rate * bias * mean / (tf.sqrt(square) + 1e-8))
