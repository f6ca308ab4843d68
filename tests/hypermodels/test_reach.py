from __future__ import annotations

from typing import Any

import keras
import keras_tuner
import pytest
from keras_tuner.src.engine.hypermodel import get_hypermodel

import blsm
from blsm.domains import Choice, Integers, SameAs
from blsm.errors import CoverageError, SearchError
from blsm.hypermodels import Cifar10
from blsm.hypermodels.reach import check_covered, random_settings, reachable_blocks, reachable_pairs, spread


class Other(keras_tuner.HyperModel):
    """Knows nothing of blsm, and has a hyperparameter that comes up only where another one has its second value."""

    def build(self, hp: Any) -> keras.Model:
        filters = hp.Choice("filters", [8, 16])
        kernel_size = hp.Choice("kernel_size", [3, 5]) if filters == 16 else 3
        return blsm.build_network(
            [
                blsm.block_family("conv").config(
                    height=8, width=8, in_channels=3, filters=filters, kernel_size=kernel_size, strides=1
                ),
                blsm.block_family("head").config(height=8, width=8, in_channels=filters, units=2),
            ]
        )


class Listing(Other):
    """The same, with its blocks listed."""

    def blocks(self, hp: Any) -> Any:
        return blsm.parse(Other().build(hp)).blocks


@pytest.mark.parametrize("make", [Other, Listing])
def test_blocks_of_other_hypermodels_are_found_by_trying(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blsm.hypermodels.reach._LISTED_PATIENCE", 12)
    monkeypatch.setattr("blsm.hypermodels.reach._BUILT_PATIENCE", 12)
    found = [config.to_dict() for config in reachable_blocks(make())]
    assert {(c["filters"], c["kernel_size"]) for c in found if "filters" in c} == {(8, 3), (16, 3), (16, 5)}
    assert {c["in_channels"] for c in found if "units" in c} == {8, 16}


def test_pairs_of_neighbours_are_found_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blsm.hypermodels.reach._LISTED_PATIENCE", 12)
    found = reachable_pairs(Listing(), 50)
    assert {(stem.filters, stem.kernel_size, head.in_channels) for stem, head in found} == {
        *((8, 3, 8), (16, 3, 16), (16, 5, 16))
    }
    pairs = reachable_pairs(Cifar10(), 20, seed=1)
    assert len(set(pairs)) == 20
    assert pairs == reachable_pairs(Cifar10(), 30, seed=1)[:20]
    assert all(before.output_shape == after.input_shape for before, after in pairs)


def test_random_settings_repeat_with_their_seed() -> None:
    def first(seed: int) -> list[Any]:
        settings = random_settings(Cifar10(), seed)
        return [next(settings).values for _ in range(4)]

    assert first(0) == first(0)
    assert first(0)[0] == first(1)[0]
    assert first(0)[1:] != first(1)[1:]


def test_a_layer_that_no_family_explains_is_named() -> None:
    def build(hp: Any) -> keras.Model:
        return keras.Sequential([keras.Input((8, 8, 3)), keras.layers.MaxPooling2D(name="shrink")])

    with pytest.raises(SearchError, match="no block family explains shrink"):
        reachable_blocks(get_hypermodel(build))
    with pytest.raises(SearchError, match="builds a int, not a Keras model"):
        reachable_blocks(get_hypermodel(lambda hp: 3))


def test_a_small_sample_holds_every_value() -> None:
    blocks = [config for config in Cifar10().reachable() if config.family == "mbconv"]
    sample = spread(blocks, 40, seed=1)
    assert len(set(sample)) == 40
    assert sample == spread(blocks, 40, seed=1)
    for name in blocks[0].to_dict():
        assert {getattr(c, name) for c in sample} == {getattr(c, name) for c in blocks}


def test_what_a_latency_model_does_not_cover_is_named(fake_model: blsm.LatencyModel) -> None:
    height = {"height": Choice(8), "width": SameAs("height")}
    conv = {**height, "in_channels": Choice(3), "filters": Choice(16, 24), "kernel_size": Choice(3)}
    check_covered(fake_model, {"conv": conv})
    with pytest.raises(CoverageError, match="no surrogate for rescale, output; run `blsm profile --hypermodel PACKAGE"):
        check_covered(fake_model, {"conv": conv, "rescale": height, "output": {}})
    with pytest.raises(
        CoverageError, match="conv.filters = 512, 1024 .profiled: .*--hypermodel my:model --device fake"
    ):
        check_covered(fake_model, {"conv": {**conv, "filters": Choice(16, 512, 1024)}}, "my:model")
    with pytest.raises(CoverageError, match="conv.width = 8 .profiled: same as height"):
        check_covered(fake_model, {"conv": {**conv, "width": Integers(8, 8)}})
