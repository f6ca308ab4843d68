from __future__ import annotations

import numpy as np
import pytest

import blsm
from blsm.errors import UnknownRegressorError
from blsm.metrics import Agreement
from blsm.surrogates import regressor_class, regressors
from blsm.testing import fake_latency_ms

every_regressor = pytest.mark.parametrize("name", ["boosted_trees", "plain_boosted_trees", "roofline"])


def _data(count: int = 200) -> tuple[list[blsm.BlockConfig], np.ndarray]:
    configs = blsm.block_family("mbconv").sample(count, seed=0)
    return configs, np.array([fake_latency_ms([config]) for config in configs])


def _fit(name: str, seed: int = 0) -> tuple[object, list[blsm.BlockConfig], np.ndarray]:
    configs, latency_ms = _data()
    regressor = regressor_class(name)()
    regressor.fit(configs[:120], latency_ms[:120], configs[120:150], latency_ms[120:150], seed)
    return regressor, configs[150:], latency_ms[150:]


@every_regressor
def test_fits_survive_files_exactly(name: str) -> None:
    regressor, test, _ = _fit(name)
    again = regressor_class(name).from_files(regressor.to_files())  # type: ignore[attr-defined]
    np.testing.assert_array_equal(regressor.predict(test), again.predict(test))  # type: ignore[attr-defined]


@every_regressor
def test_the_same_seed_gives_the_same_fit(name: str) -> None:
    first, second = _fit(name, seed=3)[0], _fit(name, seed=3)[0]
    assert first.to_files() == second.to_files()  # type: ignore[attr-defined]


@every_regressor
def test_predictions_rank_unseen_blocks(name: str) -> None:
    regressor, test, test_ms = _fit(name)
    assert Agreement.of(regressor.predict(test), test_ms).spearman > 0.9  # type: ignore[attr-defined]


def test_a_latency_that_is_a_sum_of_costs_is_learned_by_the_base() -> None:
    regressor, test, test_ms = _fit("roofline")
    assert Agreement.of(regressor.predict(test), test_ms).mape < 3  # type: ignore[attr-defined]


def test_the_base_makes_trees_better() -> None:
    figures = {}
    for name in ("boosted_trees", "plain_boosted_trees"):
        regressor, test, test_ms = _fit(name)
        figures[name] = Agreement.of(regressor.predict(test), test_ms).mape  # type: ignore[attr-defined]
    assert figures["boosted_trees"] < 0.5 * figures["plain_boosted_trees"]


@pytest.mark.parametrize("name", ["boosted_trees", "plain_boosted_trees"])
def test_damaged_trees_are_refused(name: str) -> None:
    files = _fit(name)[0].to_files()  # type: ignore[attr-defined]
    with pytest.raises(ValueError):
        regressor_class(name).from_files({**files, "trees.txt": b"not a model"})


def test_an_unknown_regressor_names_the_closest() -> None:
    assert "boosted_trees" in regressors()
    with pytest.raises(UnknownRegressorError, match="did you mean 'boosted_trees'"):
        regressor_class("boosted_tree")
