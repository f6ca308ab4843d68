"""The ends of a block: what its neighbours in a network see of it. Numbers, or arrays for many blocks of one structure.

What joining two blocks adds or saves depends on the tensor between them, on the operators that write and read it, and
on how much else either block keeps in memory.
"""

from __future__ import annotations

import math

import numpy as np

from blsm.operators.costs import Columns, macs, total_macs, total_params
from blsm.operators.graph import Operator, OperatorGraph

_KINDS = (
    *("input", "conv", "depthwise_conv", "batch_norm", "activation", "global_pool", "pool", "dense", "multiply", "add"),
    "rescale",
)
_OPERATOR = ("kind", "elements_in", "channels_in", "elements_out", "channels_out", "kernel_size", "strides", "macs")
_PLACES = ("first", "before_last", "last")

#: Names of the columns.
ENDS = (
    *(f"{place}.{name}" for place in _PLACES for name in _OPERATOR),
    *("readers", "skips", "macs", "params", "peak", "elements_in", "elements_out", "operators"),
    *("height_in", "width_in", "channels_in"),
)


def ends(graph: OperatorGraph) -> Columns:
    """The columns `ENDS` of a block.

    Args:
        graph: an operator graph whose shapes and attributes are numbers, or arrays of shape (n,).
    """
    source = graph.operators[0]
    readers = [graph.operators[index] for index in graph.consumers[0]]
    last = _unfolded(graph, graph.operators[graph.outputs[0]])
    before_last = _unfolded(graph, graph.inputs_of(last)[0])
    height, width, channels = (1, 1, *source.shape)[-3:]
    columns: Columns = {
        "readers": len(readers),
        "skips": any(reader.kind == "add" for reader in readers),
        "macs": total_macs(graph),
        "params": total_params(graph),
        "peak": _peak(graph),
        "elements_in": math.prod(source.shape),
        "elements_out": math.prod(graph.output_shape),
        "operators": len(graph.operators),
        "height_in": height,
        "width_in": width,
        "channels_in": channels,
    }
    for place, op in zip(_PLACES, (readers[0], before_last, last), strict=True):
        columns |= {f"{place}.{name}": value for name, value in _described(graph, op).items()}
    return columns


def _unfolded(graph: OperatorGraph, op: Operator) -> Operator:
    """The operator that a batch normalisation is folded into."""
    while op.kind == "batch_norm":
        op = graph.inputs_of(op)[0]
    return op


def _described(graph: OperatorGraph, op: Operator) -> Columns:
    if op.kind == "input":  # the block is a single operator, which is its first and its last
        return dict.fromkeys(_OPERATOR, 0)
    inputs = graph.inputs_of(op)
    return {
        "kind": _KINDS.index(op.kind) if op.kind in _KINDS else -1,
        "elements_in": math.prod(inputs[0].shape),
        "channels_in": inputs[0].shape[-1],
        "elements_out": math.prod(op.shape),
        "channels_out": op.shape[-1],
        "kernel_size": op.attributes.get("kernel_size", 0),
        "strides": op.attributes.get("strides", 0),
        "macs": macs(op, inputs),
    }


def _peak(graph: OperatorGraph) -> float:
    """Most elements that an operator reads and writes: what the memory must hold at once."""
    peak = 0.0
    for op in graph.operators[1:]:
        alive = math.prod(op.shape) + sum(math.prod(source.shape) for source in graph.inputs_of(op))
        peak = np.maximum(peak, alive)
    return peak
