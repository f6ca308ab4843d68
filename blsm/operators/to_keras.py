"""Operator graph to Keras functional graph."""

from __future__ import annotations

from typing import Any

from blsm.operators.graph import Operator, OperatorGraph

#: The values of input scaling do not change its latency; these are the usual ones of images in 0..255.
SCALE, OFFSET = 1 / 127.5, -1.0


def apply_graph(graph: OperatorGraph, x: Any) -> Any:
    """Appends a graph of one input and one output to a Keras tensor.

    Args:
        graph: the operators to append.
        x: Keras tensor of shape (batch, *graph.operators[0].shape).

    Returns:
        The Keras tensor of the graph's output.
    """
    tensors = [x]
    for op in graph.operators[1:]:
        inputs = [tensors[index] for index in op.inputs]
        tensors.append(_layer(op)(inputs if len(inputs) > 1 else inputs[0]))
    return tensors[graph.outputs[0]]


def _layer(op: Operator) -> Any:
    from keras import layers

    attributes = op.attributes
    if op.kind == "conv":
        return layers.Conv2D(filters=op.shape[-1], **attributes)
    if op.kind == "depthwise_conv":
        return layers.DepthwiseConv2D(**attributes)
    if op.kind == "batch_norm":
        return layers.BatchNormalization()
    if op.kind == "activation":
        return layers.Activation(attributes["function"])
    if op.kind == "global_pool":
        return layers.GlobalAveragePooling2D(keepdims=len(op.shape) == 3)
    if op.kind == "dense":
        return layers.Dense(op.shape[-1], use_bias=attributes["use_bias"])
    if op.kind == "multiply":
        return layers.Multiply()
    if op.kind == "add":
        return layers.Add()
    if op.kind == "rescale":
        if attributes["mode"] == "normalization":
            channels = op.shape[-1]
            return layers.Normalization(mean=[0.5] * channels, variance=[0.25] * channels)
        return layers.Rescaling(SCALE, OFFSET if attributes["mode"] == "scale_offset" else 0.0)
    raise ValueError(f"no Keras layer for operator kind {op.kind!r}")
