from __future__ import annotations

from pathlib import Path

import pytest

import blsm
from blsm.errors import DomainError, ModelFileError
from blsm.hypermodels import sample_networks
from blsm.network import load_keras_model


def test_every_config_of_a_random_network_is_recovered(tmp_path: Path) -> None:
    import keras

    for number, network in enumerate(sample_networks(12, seed=3)):
        model = blsm.build_network(network)
        assert blsm.parse(model).blocks == network
        if number < 2:
            model.save(tmp_path / "network.keras")
            assert blsm.parse(keras.saving.load_model(tmp_path / "network.keras")).blocks == network


def _by_hand() -> object:
    """MobileNetV3's and ResNet's blocks as people write them: other names, biases, fused activations, pre-processing."""
    import keras
    from keras import layers

    inputs = keras.Input((32, 32, 3), name="photo")
    x = layers.Rescaling(1 / 255, name="to_unit")(inputs)
    x = layers.RandomFlip(name="augment")(x)
    x = layers.Conv2D(16, 3, strides=2, padding="same", name="stem")(x)  # a bias before a norm is free
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.Activation("hard_swish", name="stem_act")(x)
    shortcut = x
    y = layers.Conv2D(64, 1, use_bias=False, name="widen")(x)
    y = layers.BatchNormalization()(y)
    y = layers.ReLU()(y)
    y = layers.DepthwiseConv2D(5, padding="same", use_bias=False, name="spatial")(y)
    y = layers.BatchNormalization()(y)
    y = layers.ReLU()(y)
    gate = layers.GlobalAveragePooling2D()(y)
    gate = layers.Reshape((1, 1, 64))(gate)
    gate = layers.Dense(16, activation="relu")(gate)
    gate = layers.Dense(64, activation="hard_sigmoid")(gate)
    y = gate * y
    y = layers.Conv2D(16, 1, padding="valid", use_bias=False)(y)
    y = layers.BatchNormalization()(y)
    x = layers.Add(name="residual")([y, shortcut])
    x = layers.Dropout(0.2)(x)
    narrow = layers.Conv2D(32, 1, strides=2, name="projection")(x)
    narrow = layers.BatchNormalization()(narrow)
    z = layers.Conv2D(32, 3, strides=2, padding="same")(x)
    z = layers.ReLU()(layers.BatchNormalization()(z))
    z = layers.BatchNormalization()(layers.Conv2D(32, 3, padding="same")(z))
    x = layers.ReLU()(narrow + z)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(10, activation="softmax", name="classes")(x)
    return keras.Model(inputs, x)


def test_a_network_written_by_hand_is_recovered() -> None:
    network = blsm.parse(_by_hand())
    assert network.unmatched == ()
    assert network.coverage == 1
    assert [config.to_dict() for config in network.blocks] == [
        {"height": 32, "width": 32, "in_channels": 3, "mode": "scale"},
        {"height": 32, "width": 32, "in_channels": 3, "filters": 16, "kernel_size": 3, "strides": 2, "activation": "hard_swish"},
        {
            "height": 16, "width": 16, "in_channels": 16, "filters": 16, "kernel_size": 5, "strides": 1,
            "expand_ratio": 4, "se_ratio": 0.25, "activation": "relu",
        },
        {"height": 16, "width": 16, "in_channels": 16, "filters": 32, "kernel_size": 3, "strides": 2, "bottleneck": False},
        {"height": 8, "width": 8, "in_channels": 32, "units": 10},
        {"in_channels": 10, "activation": "softmax"},
    ]  # fmt: skip


def test_what_no_family_explains_lowers_coverage_and_is_named() -> None:
    import keras
    from keras import layers

    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = layers.ReLU(name="act")(layers.BatchNormalization(name="bn")(x))
    x = layers.MaxPooling2D(name="shrink")(x)
    x = layers.Lambda(lambda t: t * 2, name="odd")(x)
    x = layers.Dense(10, name="classes")(layers.GlobalAveragePooling2D(name="gap")(x))
    network = blsm.parse(keras.Model(inputs, x))
    assert [config.family for config in network.blocks] == ["conv", "head"]
    assert [(layer.name, layer.kind) for layer in network.unmatched] == [("shrink", "pool"), ("odd", "Lambda")]
    assert network.coverage == pytest.approx(5 / 7)


def test_parallel_branches_are_explained_one_by_one() -> None:
    import keras
    from keras import layers

    inputs = keras.Input((16, 16, 8))
    branches = []
    for kernel in (3, 5):
        branch = layers.BatchNormalization()(layers.Conv2D(8, kernel, padding="same")(inputs))
        branches.append(layers.ReLU()(branch))
    network = blsm.parse(keras.Model(inputs, layers.Concatenate(name="join")(branches)))
    assert sorted(config.to_dict()["kernel_size"] for config in network.blocks) == [3, 5]
    assert [layer.name for layer in network.unmatched] == ["join"]


def test_blocks_that_do_not_fit_together_are_refused(network: list[blsm.BlockConfig]) -> None:
    with pytest.raises(
        DomainError, match=r"block 1 \(conv\) gives \(16, 16, 8\), but block 2 \(head\) takes \(8, 8, 16\)"
    ):
        blsm.build_network([network[0], network[-1]])
    with pytest.raises(DomainError, match="at least one block"):
        blsm.build_network([])


def test_bad_model_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no model file"):
        load_keras_model(tmp_path / "missing.keras")
    for name, content in (("text.keras", b"hello"), ("empty.keras", b""), ("zip.keras", b"PK\x05\x06" + bytes(18))):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="no readable Keras model"):
            load_keras_model(path)
