from __future__ import annotations

import pytest

import blsm
from blsm.errors import ModelFileError
from blsm.operators.from_keras import graph_from_keras


def _kinds(model: object) -> list[str]:
    return [op.kind for op in graph_from_keras(model).operators if op.kind != "input"]


def test_training_only_layers_and_linear_activations_are_free() -> None:
    from keras import Sequential, layers

    model = Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.RandomFlip(),
            layers.GaussianNoise(0.1),
            layers.Conv2D(4, 3, activation="linear"),
            layers.Dropout(0.5),
            layers.Activation("linear"),
            layers.GlobalAveragePooling2D(),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    assert _kinds(model) == ["conv", "global_pool", "dense"]


def test_spellings_of_activations() -> None:
    import keras
    from keras import layers

    x = inputs = keras.Input((8, 8, 4))
    x = layers.ReLU(max_value=6)(x)
    x = layers.Activation("silu")(x)
    x = layers.Activation(keras.activations.hard_swish)(x)
    x = keras.ops.relu(x)
    x = layers.Conv2D(4, 1, activation="swish")(x)
    functions = [
        op.attributes["function"]
        for op in graph_from_keras(keras.Model(inputs, x)).operators
        if op.kind == "activation"
    ]
    assert functions == ["relu6", "swish", "hard_swish", "relu", "swish"]


def test_arithmetic_on_tensors_is_seen() -> None:
    import keras

    inputs = keras.Input((8, 8, 4))
    y = keras.layers.Conv2D(4, 1)(inputs)
    graph = graph_from_keras(keras.Model(inputs, y * inputs + y))
    assert [op.kind for op in graph.operators] == ["input", "conv", "multiply", "add"]


def test_nested_models_are_read_through_even_when_shared() -> None:
    import keras
    from keras import layers

    inner = keras.Sequential([layers.Input((8, 8, 4)), layers.Conv2D(4, 3, padding="same"), layers.ReLU()])
    inputs = keras.Input((8, 8, 4))
    assert _kinds(keras.Model(inputs, inner(inner(inputs)))) == ["conv", "activation", "conv", "activation"]


def test_a_users_own_layer_of_a_known_name_is_not_taken_for_keras() -> None:
    import keras

    class Dropout(keras.layers.Layer):
        def call(self, x: object) -> object:
            return x

    inputs = keras.Input((8, 8, 4))
    network = blsm.parse(keras.Model(inputs, Dropout(name="mine")(inputs)))
    assert [layer.name for layer in network.unmatched] == ["mine"]


def test_settings_that_are_not_modelled_stay_unmatched() -> None:
    import keras
    from keras import layers

    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, padding="same", dilation_rate=2, use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    network = blsm.parse(keras.Model(inputs, x))
    assert network.blocks == ()
    assert network.coverage == 0


def test_models_without_a_graph_are_refused() -> None:
    import keras

    class Subclassed(keras.Model):
        def call(self, x: object) -> object:
            return x

    for model in (Subclassed(), keras.Sequential([keras.layers.Dense(2)])):
        with pytest.raises(ModelFileError, match="functional"):
            blsm.parse(model)
