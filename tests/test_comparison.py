from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blsm
from blsm.accuracies import Training
from blsm.cli.profile import hypermodel_chains
from blsm.comparison import SearchPlan, compare, network_of, reference_latency_ms
from blsm.errors import FileError, FingerprintError, SearchError
from blsm.fitting import fit_latency_model
from blsm.hypermodels.loading import load_hypermodel
from blsm.images import Images
from blsm.latency_sources import HardwareInTheLoop
from blsm.profiles import ProfileStore
from blsm.testing import FakeDevice, fill_store

NAME = f"{Path(__file__).parent / 'assets/quick_hypermodel.py'}:Quick"
IMAGES = Images(*(np.zeros(shape, np.uint8) for shape in ((6, 8, 8, 1), (6,), (3, 8, 8, 1), (3,))))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> blsm.LatencyModel:
    """A surrogate of all that the hypermodel reaches."""
    with ProfileStore(tmp_path_factory.mktemp("quick") / "profiles.db", create=True) as store:
        fill_store(store, hypermodel_chains(NAME, 100, 0))
        return fit_latency_model(store, "fake", regressor="roofline")


def _plan(hypermodel: Any, trials: int = 6, **changed: Any) -> SearchPlan:
    options = {"reference_latency_ms": 0.02, "strategy": "random"} | changed
    return SearchPlan(hypermodel, IMAGES, Training("zeros", epochs=3), trials, **options)


def test_both_searches_share_trainings_and_the_verdict_is_sound(model: blsm.LatencyModel, tmp_path: Path) -> None:
    hypermodel = load_hypermodel(NAME)
    ended: list[None] = []
    found, times = compare(
        _plan(hypermodel), model, HardwareInTheLoop(FakeDevice()), tmp_path, lambda: ended.append(None)
    )
    assert len(ended) == 12
    # The same seed gives a random search the same settings, whatever tells it latency.
    assert [trial.setting for trial in found.hil.trials] == [trial.setting for trial in found.sm.trials]
    assert hypermodel.trained == 6
    assert (hypermodel.options["epochs"], hypermodel.options["batch_size"]) == (3, 64)
    assert hypermodel.options["callbacks"][0].patience == 5
    assert found.hil.measured
    assert not found.sm.measured
    # The best epoch counts, not the last.
    assert all(trial.accuracy >= 0.53 for trial in found.sm.trials)
    assert all(part.deciding_s > 0 for part in times.values())
    assert 0 < times["sm"].deciding_share <= 1


def test_an_interrupted_comparison_goes_on(model: blsm.LatencyModel, tmp_path: Path) -> None:
    hypermodel = load_hypermodel(NAME)

    def interrupt() -> None:
        if hypermodel.trained == 3:
            raise KeyboardInterrupt

    hil = HardwareInTheLoop(FakeDevice())
    with pytest.raises(KeyboardInterrupt):
        compare(_plan(hypermodel), model, hil, tmp_path, interrupt)
    found, _ = compare(_plan(hypermodel), model, hil, tmp_path)
    assert hypermodel.trained == 6
    whole, _ = compare(_plan(load_hypermodel(NAME)), model, hil, tmp_path / "whole")
    assert [trial.setting for trial in found.sm.trials] == [trial.setting for trial in whole.sm.trials]


def test_slower_settings_than_the_reference_are_refused(model: blsm.LatencyModel, tmp_path: Path) -> None:
    hypermodel = load_hypermodel(NAME)
    reference_ms = reference_latency_ms(hypermodel, model) / 2  # the median
    plan = _plan(hypermodel, reference_latency_ms=reference_ms)
    found, _ = compare(plan, model, HardwareInTheLoop(FakeDevice(noise=0.0)), tmp_path)
    assert all(trial.latency_ms <= reference_ms for trial in (*found.hil.trials, *found.sm.trials))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (lambda: FakeDevice(cpu="another"), r"another machine or software .*cpu: 'formula' against 'another'"),
        (lambda: blsm.profiling.device("edge_cpu"), "the latency model is of fake, the device in the loop is edge_cpu"),
    ],
)
def test_a_surrogate_of_another_machine_is_refused(
    model: blsm.LatencyModel, tmp_path: Path, device: Callable[[], Any], message: str
) -> None:
    with pytest.raises(FingerprintError, match=message):
        compare(_plan(load_hypermodel(NAME)), model, HardwareInTheLoop(device()), tmp_path)


def test_a_folder_of_another_comparison_is_refused(model: blsm.LatencyModel, tmp_path: Path) -> None:
    hypermodel, hil = load_hypermodel(NAME), HardwareInTheLoop(FakeDevice())
    compare(_plan(hypermodel, 5), model, hil, tmp_path)
    with pytest.raises(SearchError, match=r"with other settings .*strategy: 'random' against 'evolution'"):
        compare(_plan(hypermodel, 5, strategy="evolution"), model, hil, tmp_path)
    longer = dataclasses.replace(_plan(hypermodel, 5), training=Training("zeros", epochs=4))
    with pytest.raises(SearchError, match=r"come from another training .*'epochs': 3.* against .*'epochs': 4"):
        compare(longer, model, hil, tmp_path)


def test_the_reference_is_that_of_a_search(model: blsm.LatencyModel, tmp_path: Path) -> None:
    hypermodel = load_hypermodel(NAME)
    hypermodel.fit = lambda *_, **__: 0.5
    oracle = blsm.LatencyOracle(model, 5, reference_latency_ms="auto", strategy="random")
    tuner = blsm.LatencyTuner(hypermodel, oracle=oracle, directory=tmp_path)
    tuner.search(IMAGES.x_train, IMAGES.y_train, verbose=0)
    assert reference_latency_ms(hypermodel, model) == oracle.reference_latency_ms


def test_a_search_leaves_what_its_networks_were_predicted_to_take(model: blsm.LatencyModel, tmp_path: Path) -> None:
    hypermodel = load_hypermodel(NAME)
    found, _ = compare(_plan(hypermodel), model, HardwareInTheLoop(FakeDevice()), tmp_path)
    for trial in found.sm.trials:
        assert found.sm.estimate(trial) == model.latency(network_of(hypermodel, trial))
    assert found.hil.estimate(found.hil.best) is None
    (tmp_path / "sm" / f"trial_{found.sm.best.name}" / "blocks.json").write_text("{}")
    with pytest.raises(FileError, match=r"blocks.json is damaged: KeyError"):
        found.sm.estimate(found.sm.best)
