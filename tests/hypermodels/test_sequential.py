from __future__ import annotations

from pathlib import Path

import keras_tuner
import numpy as np
import pytest

import blsm
from blsm.domains import Choice, contains
from blsm.errors import DomainError
from blsm.hypermodels import Cifar10, SequentialBlocks, Stack, Stage, list_blocks

SMALL = Stack(("mbconv", "res_v1"), (Stage(Choice(8), strides=2, depth=Choice(1, 2)),), stem=Choice(8))


def random_setting(hypermodel: keras_tuner.HyperModel, seed: int) -> keras_tuner.HyperParameters:
    """Random values of the active hyperparameters, as KerasTuner's random search draws them."""
    space = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(space)
    hp = keras_tuner.HyperParameters()
    for number, hyperparameter in enumerate(space.space):
        hp.merge([hyperparameter])
        if hp.is_active(hyperparameter):
            hp.values[hyperparameter.name] = hyperparameter.random_sample(100 * seed + number)
    return hp


@pytest.mark.parametrize("seed", range(4))
def test_the_listed_blocks_are_those_of_the_built_model(seed: int) -> None:
    hypermodel = Cifar10()
    hp = random_setting(hypermodel, seed)
    blocks = list_blocks(hypermodel, hp)
    network = blsm.parse(hypermodel.build(hp))
    assert (network.blocks, network.coverage) == (blocks, 1)
    assert [config.family for config in blocks[:2] + blocks[-2:]] == ["rescale", "conv", "head", "output"]


def test_what_it_lists_lies_in_its_domains_and_these_in_the_default_spaces() -> None:
    hypermodel = Cifar10()
    domains = hypermodel.domains()
    reachable = set(hypermodel.reachable())
    for seed in range(100):
        for config in hypermodel.blocks(random_setting(hypermodel, seed)):
            assert config in reachable
            assert contains(domains[config.family], config.to_dict())
    assert all(contains(blsm.block_family(c.family).space(), c.to_dict()) for c in reachable)


def test_kerastuner_knows_the_whole_space_and_opens_no_scope_twice() -> None:
    hypermodel = Cifar10()
    hp = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    assert len(hp.space) == 22
    assert hp.values["stage1_family"] == "mbconv"
    assert "stage1_bottleneck" not in hp.values
    again = keras_tuner.HyperParameters.from_config(hp.get_config())
    hypermodel.declare_hyperparameters(again)
    assert again.get_config() == hp.get_config()
    assert again.inactive_scopes == []


def test_families_can_be_restricted() -> None:
    hypermodel = Cifar10(families=("res_v2",), classes=7)
    assert set(hypermodel.domains()) == {"rescale", "conv", "res_v2", "head", "output"}
    assert hypermodel.reachable()[-1].input_shape == (7,)


def test_training_has_the_defaults_of_the_paper_and_what_is_given_goes_first() -> None:
    hypermodel = SequentialBlocks(SMALL, input_shape=(8, 8, 1), classes=3)
    hp = keras_tuner.HyperParameters()
    model = hypermodel.build(hp)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    images, labels = np.zeros((130, 8, 8, 1)), np.arange(130) % 3
    history = hypermodel.fit(hp, model, images, labels, epochs=1, verbose=0)
    assert history.params["steps"] == 3
    assert hypermodel.fit(hp, model, x=images, y=labels, batch_size=130, verbose=0).params == {
        "verbose": 0, "epochs": 20, "steps": 1,
    }  # fmt: skip


def test_a_model_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    hypermodel = SequentialBlocks(SMALL)
    hp = keras_tuner.HyperParameters()
    hypermodel.build(hp).save(tmp_path / "model.keras")
    loaded = blsm.network.load_keras_model(tmp_path / "model.keras")
    assert blsm.parse(loaded).blocks == hypermodel.blocks(hp)


def test_images_that_no_block_takes_are_refused_at_once() -> None:
    with pytest.raises(DomainError, match="height"):
        SequentialBlocks(SMALL, input_shape=(1024, 1024, 3))
    with pytest.raises(DomainError, match="in_channels"):
        Cifar10(classes=0)


def test_only_the_model_can_tell_for_other_hypermodels() -> None:
    assert list_blocks(keras_tuner.HyperModel(), keras_tuner.HyperParameters()) is None
