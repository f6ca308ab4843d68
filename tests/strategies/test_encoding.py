"""Settings to points of the unit cube and back."""

from __future__ import annotations

import keras_tuner
import numpy as np
import pytest

from blsm.strategies import Encoding


@pytest.fixture
def space() -> keras_tuner.HyperParameters:
    """Every kind of hyperparameter; some are active under conditions, one name under two of them."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["wide", "deep", "both"])
    hp.Choice("filters", [8, 16, 32, 64])
    hp.Int("depth", 1, 9, step=2, parent_name="kind", parent_values=["deep", "both"])
    hp.Int("width", 16, 256, sampling="log", parent_name="kind", parent_values=["wide"])
    hp.Float("rate", 1e-4, 1e-1, sampling="log")
    hp.Float("dropout", 0, 0.5, step=0.25)
    hp.Boolean("norm")
    hp.Fixed("batch", 64)
    hp.Choice("extra", [1, 2], parent_name="kind", parent_values=["deep"])
    hp.Choice("extra", [7, 8], parent_name="kind", parent_values=["both"])
    return hp


def test_settings_hold_what_is_active_and_survive_the_way_there_and_back(space: keras_tuner.HyperParameters) -> None:
    encoding = Encoding(space.space)
    settings = encoding.values(encoding.sample(300, np.random.default_rng(0)))
    again = encoding.values(encoding.units(settings))
    for setting, same in zip(settings, again, strict=True):
        hp = keras_tuner.HyperParameters()
        hp.merge(space.space)
        hp.values = dict(setting)
        assert setting.keys() == {spec.name for spec in space.space if hp.is_active(spec)}
        assert setting["batch"] == 64
        rate, same_rate = setting.pop("rate"), same.pop("rate")
        assert rate == pytest.approx(same_rate)
        assert setting == same
        if "extra" in setting:
            assert setting["extra"] in ([1, 2] if setting["kind"] == "deep" else [7, 8])
    seen = {(setting["kind"], setting.get("depth"), setting["filters"]) for setting in settings}
    assert {depth for _, depth, _ in seen} == {None, 1, 3, 5, 7, 9}
    assert {filters for *_, filters in seen} == {8, 16, 32, 64}


def test_values_are_those_of_keras_tuner(space: keras_tuner.HyperParameters) -> None:
    encoding = Encoding(space.space)
    for setting in encoding.values(encoding.sample(50, np.random.default_rng(1))):
        for spec in space.space:
            if spec.name in ("depth", "filters", "norm") and spec.name in setting:
                assert spec.prob_to_value(spec.value_to_prob(setting[spec.name])) == setting[spec.name]
                assert type(setting[spec.name]) is type(spec.default)


def test_alike_settings_are_near(space: keras_tuner.HyperParameters) -> None:
    encoding = Encoding(space.space)
    base = {"kind": "wide", "filters": 16, "width": 64, "rate": 0.01, "dropout": 0.25, "norm": True}
    others = [base | {"filters": 32}, base | {"filters": 64}, base | {"kind": "both"}, base | {"depth": 5}]
    features = encoding.features(encoding.units([base, *others]))
    near, far, other, inactive = np.linalg.norm(features[1:] - features[0], axis=1)
    assert 0 < near < far < 1
    assert other >= 1
    assert inactive == 0, "a value of an inactive hyperparameter means nothing"


def test_neighbours_differ_in_one_to_three_hyperparameters(space: keras_tuner.HyperParameters) -> None:
    encoding = Encoding(space.space)
    units = encoding.sample(500, np.random.default_rng(0))
    changed = np.sum(encoding.perturb(units, np.random.default_rng(1)) != units, axis=1)
    assert set(changed) == {1, 2, 3}
    assert np.mean(changed == 1) > 0.4


def test_a_space_without_choice() -> None:
    hp = keras_tuner.HyperParameters()
    hp.Fixed("only", 3)
    encoding = Encoding(hp.space)
    assert encoding.values(encoding.sample(2, np.random.default_rng(0))) == [{"only": 3}, {"only": 3}]
    assert encoding.features(encoding.sample(2, np.random.default_rng(0))).shape == (2, 0)
