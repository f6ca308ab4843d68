"""Operator graph to TensorFlow operators with constant weights, without Keras.

For timing only: weights are random. A converter makes the same artifact of it as of the Keras model (a test compares
them), in a sixth of the time, since there are no layers to build, no variables to freeze and nothing to trace.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from blsm.operators.graph import Operator, OperatorGraph
from blsm.operators.to_keras import OFFSET, SCALE


class Constants:
    """A source of seeded random weights, shared by the blocks of one network."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def __call__(self, *shape: int) -> Any:
        """A float32 constant of this shape."""
        import tensorflow as tf

        return tf.constant(0.1 * self._random.standard_normal(shape, dtype=np.float32), name="weight")


def run_graph(graph: OperatorGraph, x: Any, weights: Constants) -> Any:
    """Runs a graph of one input and one output on a TensorFlow tensor.

    Args:
        graph: the operators.
        x: tensor of shape (1, *graph.operators[0].shape).
        weights: makes the constants.
    """
    import tensorflow as tf

    tensors = [x]
    for number, op in enumerate(graph.operators[1:]):
        channels_in = graph.operators[op.inputs[0]].shape[-1]
        # Converters order parallel branches by name: these names leave them in the order of the operators.
        with tf.name_scope(f"operator_{number:03}"):
            tensors.append(_run(op, [tensors[index] for index in op.inputs], channels_in, weights))
    return tensors[graph.outputs[0]]


def _run(op: Operator, inputs: list[Any], channels_in: int, weights: Constants) -> Any:
    import keras
    import tensorflow as tf

    x, attributes, channels = inputs[0], op.attributes, op.shape[-1]
    if op.kind in ("conv", "depthwise_conv", "dense"):
        if op.kind == "dense":
            y = tf.matmul(x, weights(channels_in, channels))
        else:
            kernel, strides, padding = attributes["kernel_size"], attributes["strides"], attributes["padding"].upper()
            if op.kind == "conv":
                y = tf.nn.conv2d(x, weights(kernel, kernel, channels_in, channels), strides, padding)
            else:
                y = tf.nn.depthwise_conv2d(x, weights(kernel, kernel, channels, 1), [1, strides, strides, 1], padding)
        return tf.nn.bias_add(y, weights(channels)) if attributes["use_bias"] else y
    if op.kind == "batch_norm":
        return x * weights(channels) + weights(channels)  # what is left of it once its statistics are constants
    if op.kind == "activation":
        return keras.activations.get(attributes["function"])(x)
    if op.kind == "global_pool":
        return tf.reduce_mean(x, [1, 2], keepdims=len(op.shape) == 3)
    if op.kind == "multiply":
        return tf.multiply(*inputs)
    if op.kind == "add":
        return tf.add(*inputs)
    if op.kind == "rescale":
        if attributes["mode"] == "normalization":
            mean, deviation = np.full(channels, 0.5, np.float32), np.full(channels, 0.5, np.float32)
            return (x - mean) / deviation
        return x * SCALE + (OFFSET if attributes["mode"] == "scale_offset" else 0.0)
    raise ValueError(f"no TensorFlow operator for operator kind {op.kind!r}")
