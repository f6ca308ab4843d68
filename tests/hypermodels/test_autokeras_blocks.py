from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import autokeras
import keras
import keras_tuner
import pytest

import blsm
from blsm.domains import Choice
from blsm.hypermodels import BlockStack, MBConvStack, ResV1Stack, ResV2Stack, Stage, list_blocks

TWO_STAGES = (Stage(Choice(8, 16), strides=1, depth=Choice(1, 2)), Stage(Choice(16), depth=Choice(1)))


def graph_of(*blocks: Any, classes: int = 10) -> Any:
    """An AutoKeras graph of these blocks in a row, which knows the shapes of its data."""
    node = inputs = autokeras.ImageInput()
    for block in blocks:
        node = block(node)
    graph = autokeras.graph.Graph(inputs=inputs, outputs=node)
    # As AutoKeras does once it has seen the data.
    graph.inputs[0].shape, graph.blocks[-1].shape = (32, 32, 3), (classes,)
    return graph


def random_setting(graph: Any, seed: int) -> Any:
    """Random values of all hyperparameters that a build finds, until it finds no more."""
    hp = keras_tuner.HyperParameters()
    hp.Fixed("optimizer", "adam")
    known = 0
    while len(hp.space) > known:
        for number, hyperparameter in enumerate(hp.space[known:], start=known):
            if hp.is_active(hyperparameter):
                hp.values[hyperparameter.name] = hyperparameter.random_sample(100 * seed + number)
        known = len(hp.space)
        graph.build(hp)
    return hp


@pytest.mark.parametrize("make", [MBConvStack, ResV1Stack, ResV2Stack, BlockStack])
def test_the_listed_blocks_are_those_of_the_built_model(make: Any) -> None:
    graph = graph_of(
        autokeras.Normalization(),
        autokeras.ImageAugmentation(),
        make(stages=TWO_STAGES),
        autokeras.ClassificationHead(num_classes=10),
    )
    hp = random_setting(graph, seed=3)
    network = blsm.parse(graph.build(hp))
    assert network.coverage == 1
    assert list_blocks(graph, hp) == network.blocks
    assert [config.family for config in network.blocks[:2] + network.blocks[-2:]] == [
        "rescale",
        "conv",
        "head",
        "output",
    ]
    assert {config.family for config in network.blocks[2:-2]} <= set(graph.blocks[2].stack.families)


def test_stacks_follow_each_other_and_other_ends_are_known() -> None:
    first = MBConvStack(stages=TWO_STAGES, pool=False)
    second = ResV1Stack(stages=TWO_STAGES[1:], stem=None, pool=False)
    reduction = autokeras.SpatialReduction(reduction_type="global_avg")
    head = autokeras.ClassificationHead(num_classes=2, dropout=0.5)
    graph = graph_of(first, second, reduction, head, classes=1)
    hp = random_setting(graph, seed=1)
    network = blsm.parse(graph.build(hp))
    assert list_blocks(graph, hp) == network.blocks
    assert network.blocks[-1].to_dict() == {"in_channels": 1, "activation": "sigmoid"}
    graph = graph_of(MBConvStack(stages=TWO_STAGES), autokeras.RegressionHead(), classes=1)
    hp = random_setting(graph, seed=1)
    assert list_blocks(graph, hp) == blsm.parse(graph.build(hp)).blocks


def test_where_a_node_is_not_known_nothing_is_listed() -> None:
    hp = keras_tuner.HyperParameters()
    unpooled = MBConvStack(pool=False)
    # The head then chooses how to reduce by itself.
    assert list_blocks(graph_of(unpooled, autokeras.ClassificationHead()), hp) is None
    assert list_blocks(graph_of(autokeras.ImageBlock(), autokeras.ClassificationHead()), hp) is None
    inputs = autokeras.ImageInput()
    outputs = autokeras.ClassificationHead()(MBConvStack()(inputs))
    assert list_blocks(autokeras.graph.Graph(inputs=inputs, outputs=outputs), hp) is None


def test_a_block_is_equal_after_it_was_serialised() -> None:
    for block in (
        BlockStack(("res_v1", "mbconv"), TWO_STAGES, stem=None, parameters={"kernel_size": Choice(3)}, pool=False),
        MBConvStack(name="mine", activation="relu"),
    ):
        again = autokeras.blocks.deserialize(autokeras.blocks.serialize(block))
        assert type(again) is type(block)
        assert (again.name, again.stack, again.pool) == (block.name, block.stack, block.pool)
        assert again.get_config() == block.get_config()


def test_images_of_an_open_size_are_refused() -> None:
    with pytest.raises(blsm.DomainError, match="a fixed size"):
        MBConvStack().build(keras_tuner.HyperParameters(), keras.Input((None, None, 3)))


def test_a_file_of_autokeras_is_read_where_autokeras_was_not_imported(tmp_path: Path) -> None:
    graph = graph_of(MBConvStack(stages=TWO_STAGES), autokeras.ClassificationHead(num_classes=10))
    model = graph.build(keras_tuner.HyperParameters())
    model.save(tmp_path / "model.keras")
    code = (
        "import sys, blsm; from blsm.network import load_keras_model; model = load_keras_model(sys.argv[1]); "
        "assert blsm.parse(model).coverage == 1"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "model.keras")], check=True, timeout=300)
