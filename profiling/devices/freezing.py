"""Keras models and chains of blocks as frozen TensorFlow graphs: where the converters on this machine start from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from blsm.errors import DeviceError
from blsm.network import check_chain
from blsm.operators.to_tensorflow import Constants, run_graph
from blsm.profiles import Chain


class Frozen(NamedTuple):
    """A TensorFlow graph of constants only.

    Attributes:
        graph: a `tf.Graph`.
        inputs: its placeholders, in order.
        outputs: the tensors that it computes.
    """

    graph: Any
    inputs: list[Any]
    outputs: list[Any]


def freeze(source: Any) -> Frozen:
    """A TensorFlow graph of batch size 1 whose variables are constants.

    Freezing first takes a third of the time of `TFLiteConverter.from_keras_model` and gives the same artifact; without
    freezing, variables stay operators and the artifact runs many times slower. A chain of blocks goes without Keras and
    without tracing, which takes a sixth of the time again.

    Args:
        source: a Keras model, or a chain of blocks (with random weights then).

    Raises:
        DeviceError: the model can't be traced, or has variables that can't be frozen.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with refusals("TensorFlow"):
        return _freeze_blocks(source) if isinstance(source, tuple) else _freeze_model(source)


def _freeze_blocks(blocks: Chain) -> Frozen:
    import tensorflow as tf

    check_chain(blocks)
    weights = Constants()
    with tf.Graph().as_default() as graph:
        given = x = tf.compat.v1.placeholder(tf.float32, (1, *blocks[0].input_shape), "input")
        for number, config in enumerate(blocks):
            with tf.name_scope(f"block_{number:03}"):
                x = run_graph(config.graph(), x, weights)
        return Frozen(graph, [given], [tf.identity(x)])  # an output that is also the input has no operator


def _freeze_model(model: Any) -> Frozen:
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs]
    function = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0], training=False))
    frozen = convert_variables_to_constants_v2(function.get_concrete_function(*signature))
    left = [op.name for op in frozen.graph.get_operations() if op.type in ("ReadVariableOp", "VarHandleOp")]
    if left:
        raise DeviceError(f"variables could not be frozen: {', '.join(left[:3])}")
    return Frozen(frozen.graph, frozen.inputs, frozen.outputs)


@contextmanager
def refusals(converter: str) -> Iterator[None]:
    """Turns whatever a converter raises, which is of many kinds and pages long, into a DeviceError of one line."""
    try:
        yield
    except DeviceError:
        raise
    except Exception as error:
        lines = (line.strip() for line in str(error).splitlines())
        reason = next(filter(None, lines), type(error).__name__)
        raise DeviceError(f"{converter} refused the model: {reason}") from error
