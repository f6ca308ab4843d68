"""Networks with random weights, run on their operator graphs: what zero-cost proxies look at.

A chain of block configs needs no Keras model. Batch normalisation uses the batch's own statistics, biases are 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from blsm.operators import Operator, OperatorGraph

#: Operators that run here.
RUNNABLE = frozenset(
    {
        *("input", "conv", "depthwise_conv", "dense", "batch_norm", "activation"),
        *("global_pool", "pool", "pad", "multiply", "add", "rescale"),
    }
)
_KERNELS = ("conv", "depthwise_conv", "dense")
#: Activations that split their inputs at 0, as ReLU does: of these nwot reads the codes.
_RECTIFIERS = frozenset({"relu", "relu6", "hard_swish", "swish", "gelu", "elu", "selu", "leaky_relu"})
_EPSILON = 1e-3  # of Keras' BatchNormalization


@dataclass
class Trace:
    """What a run leaves behind.

    Attributes:
        rectified: inputs of the activations that split them at 0.
        kernel_outputs: outputs of convolutions and dense layers.
        variances: of the batch, at each batch normalisation, shape (channels,).
        features: what is pooled globally; the output where nothing is.
    """

    rectified: list[Any] = field(default_factory=list)
    kernel_outputs: list[Any] = field(default_factory=list)
    variances: list[Any] = field(default_factory=list)
    features: Any = None


class RandomNetwork:
    """A network with seeded random weights, in TensorFlow.

    Args:
        graphs: run one after the other.
        random: draws the weights.
        gain: deviation of a kernel's weights; None for He's (2 / inputs)^0.5.
        dtype: of all arithmetic.
    """

    def __init__(
        self,
        graphs: Sequence[OperatorGraph],
        random: np.random.Generator,
        gain: float | None = None,
        dtype: str = "float32",
    ) -> None:
        import tensorflow as tf

        self._graphs = graphs
        self.dtype = dtype
        self.weights: list[Any] = []
        for graph in graphs:
            for op in graph.operators:
                if op.kind in _KERNELS:
                    shape = _kernel_shape(op, graph.inputs_of(op)[0])
                    inputs = np.prod(shape[:2] if op.kind == "depthwise_conv" else shape[:-1])
                    deviation = np.sqrt(2 / inputs) if gain is None else gain
                    self.weights.append(tf.constant(deviation * random.standard_normal(shape), dtype))

    def run(self, x: Any, *, normalise: bool = True, weights: Sequence[Any] | None = None) -> tuple[Any, Trace]:
        """Logits of shape (n, classes) of images (n, height, width, channels), and the trace."""
        import tensorflow as tf

        trace, left = Trace(), iter(self.weights if weights is None else weights)
        x = tf.cast(x, self.dtype)
        for graph in self._graphs:
            tensors = [x]
            for op in graph.operators[1:]:
                inputs = [tensors[index] for index in op.inputs]
                kernel = next(left) if op.kind in _KERNELS else None
                tensors.append(_run(op, inputs, kernel, normalise, trace))
            x = tensors[graph.outputs[0]]
        if trace.features is None:
            trace.features = x
        return (x if len(x.shape) == 2 else tf.reduce_mean(x, axis=(1, 2))), trace


def _kernel_shape(op: Operator, source: Operator) -> tuple[int, ...]:
    channels_in, channels = source.shape[-1], op.shape[-1]
    if op.kind == "dense":
        return channels_in, channels
    size = op.attributes["kernel_size"]
    height, width = (size, size) if isinstance(size, int) else size
    if op.kind == "depthwise_conv":
        return height, width, channels_in, channels // channels_in
    return height, width, channels_in // op.attributes.get("groups", 1), channels


def _run(op: Operator, inputs: list[Any], kernel: Any, normalise: bool, trace: Trace) -> Any:
    import keras
    import tensorflow as tf

    x, attributes = inputs[0], op.attributes
    if op.kind in _KERNELS:
        y = _apply_kernel(op, x, kernel)
        trace.kernel_outputs.append(y)
        return y
    if op.kind == "batch_norm":
        if not normalise:
            return x
        mean, variance = tf.nn.moments(x, axes=list(range(len(x.shape) - 1)))
        trace.variances.append(variance)
        return (x - mean) / tf.sqrt(variance + _EPSILON)
    if op.kind == "activation":
        function = attributes["function"]
        if function in _RECTIFIERS:
            trace.rectified.append(x)
        # What turns logits into probabilities is part of the loss.
        return x if function == "softmax" else keras.activations.get(function)(x)
    if op.kind == "global_pool":
        trace.features = x if trace.features is None and len(op.shape) == 1 else trace.features
        pool = tf.reduce_max if attributes["function"] == "max" else tf.reduce_mean
        return pool(x, axis=(1, 2), keepdims=len(op.shape) == 3)
    if op.kind == "pool":
        mode, padding = ("AVG" if attributes["function"] == "average" else "MAX"), attributes["padding"].upper()
        return tf.nn.pool(x, attributes["pool_size"], mode, attributes["strides"], padding)
    if op.kind == "pad":
        return tf.pad(x, [(0, 0), *attributes["padding"], (0, 0)])
    if op.kind == "multiply":
        return tf.multiply(*inputs)
    if op.kind == "add":
        return tf.add(*inputs)
    assert op.kind == "rescale", op.kind
    return x  # the images drawn here have mean 0 and deviation 1 already


def _apply_kernel(op: Operator, x: Any, kernel: Any) -> Any:
    import tensorflow as tf

    if op.kind == "dense":
        return tf.tensordot(x, kernel, 1)
    strides, padding = op.attributes["strides"], op.attributes["padding"].upper()
    dilation = op.attributes.get("dilation_rate", 1)
    if op.kind == "conv":
        return tf.nn.conv2d(x, kernel, strides, padding, dilations=dilation)
    rates = [dilation] * 2 if isinstance(dilation, int) else list(dilation)
    return tf.nn.depthwise_conv2d(x, kernel, [1, strides, strides, 1], padding, dilations=rates)
