"""Networks as functions of weights: numpy and TensorFlow agree, and tasks do not mix."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from blsm._types import Array
from blsm.transfer import DevicePool
from blsm.transfer.encodings import nasbench201
from blsm.transfer.networks import (
    Adam,
    Encoder,
    GcnEncoder,
    MlpEncoder,
    dense,
    dense_shapes,
    encoder_from_data,
    encoder_of,
    encoder_to_data,
    join_pairs,
    random_weights,
)

CELLS = nasbench201(
    [
        "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|nor_conv_1x1~2|",
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
    ]
)


def _cells() -> DevicePool:
    return DevicePool.of(CELLS, {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([2.0, 3.0, 5.0])})


def _encoders(made_up: Any) -> list[tuple[Encoder, Array]]:
    return [
        (encoder_of(_cells(), 16), CELLS.values),
        (encoder_of(made_up.pool, 16), made_up.pool.encodings[:5]),
    ]


def test_a_pool_with_a_graph_gets_graph_convolutions(made_up: Any) -> None:
    kinds = [type(encoder) for encoder, _ in _encoders(made_up)]
    assert kinds == [GcnEncoder, MlpEncoder]


def test_numpy_and_tensorflow_agree_and_tasks_do_not_mix(made_up: Any) -> None:
    import tensorflow as tf
    import tensorflow.experimental.numpy as tnp

    random = np.random.default_rng(0)
    for encoder, encodings in _encoders(made_up):
        x = encoder.inputs(encodings)
        tasks = [random_weights(encoder.shapes(), random) for _ in range(2)]
        together = [np.stack(pair) for pair in zip(*tasks, strict=True)]
        both = encoder.run(np, together, np.stack([x, x]))
        assert both.shape == (2, len(x), 16)
        for number, weights in enumerate(tasks):
            np.testing.assert_allclose(encoder.run(np, weights, x), both[number], rtol=1e-4, atol=1e-6)
        tensors = [tf.constant(weight) for weight in together]
        np.testing.assert_allclose(encoder.run(tnp, tensors, tf.constant(np.stack([x, x]))), both, rtol=1e-4, atol=1e-6)


def test_graph_convolutions_see_every_operation() -> None:
    encoder = encoder_of(_cells(), 16)
    weights = random_weights(encoder.shapes(), np.random.default_rng(0))
    base = CELLS.values[:1]
    seen = []
    for edge in range(6):
        changed = base.copy()
        changed[0, 5 * edge : 5 * edge + 5] = np.roll(changed[0, 5 * edge : 5 * edge + 5], 1)
        seen.append(encoder.run(np, weights, encoder.inputs(changed)))
    outputs = np.vstack([encoder.run(np, weights, encoder.inputs(base)), *seen])
    assert len(np.unique(outputs.round(5), axis=0)) == 7


def test_encoders_are_data(made_up: Any) -> None:
    for encoder, encodings in _encoders(made_up):
        same = encoder_from_data(json.loads(json.dumps(encoder_to_data(encoder))))
        assert same.shapes() == encoder.shapes()
        np.testing.assert_array_equal(same.inputs(encodings), encoder.inputs(encodings))


def test_pairs_are_joined_as_if_each_were_concatenated() -> None:
    random = np.random.default_rng(1)
    weights = random_weights(dense_shapes(5, 8, 8, 1), random)
    devices, architectures = random.normal(size=(3, 2)), random.normal(size=(4, 3))
    joined = join_pairs(np, weights, devices, architectures)
    assert joined.shape == (4, 3)
    pair = np.concatenate([devices[2], architectures[1]])[None]
    assert joined[1, 2] == pytest.approx(dense(np, weights, pair)[0, 0], rel=1e-5)


def test_adam_finds_a_minimum() -> None:
    import tensorflow as tf

    variable = tf.Variable([3.0, -2.0])
    optimizer = Adam([variable])
    for _ in range(300):
        optimizer.apply([2 * (variable - [1.0, 1.0])], 0.05)
    np.testing.assert_allclose(variable.numpy(), [1, 1], atol=1e-2)


def test_adam_decays_weights_without_gradients() -> None:
    import tensorflow as tf

    variable = tf.Variable([1.0])
    Adam([variable], decay=0.1).apply([tf.zeros(1)], 0.5)
    assert variable.numpy()[0] == pytest.approx(0.95)
