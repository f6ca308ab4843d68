from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blsm
from blsm.accuracies import Training
from blsm.cli.profile import hypermodel_chains
from blsm.comparison import SearchPlan, compare, median_latency_ms, network_of
from blsm.errors import FingerprintError, SearchError
from blsm.feasibility import remeasure
from blsm.fitting import fit_latency_model
from blsm.hypermodels.loading import load_hypermodel
from blsm.images import Images
from blsm.latency_sources import HardwareInTheLoop
from blsm.profiles import ProfileStore
from blsm.testing import FakeDevice, fake_latency_ms, fill_store

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
    reference_ms = median_latency_ms(hypermodel, model)
    plan = _plan(hypermodel, reference_latency_ms=reference_ms)
    found, _ = compare(plan, model, HardwareInTheLoop(FakeDevice(noise=0.0)), tmp_path)
    assert all(trial.latency_ms <= reference_ms for trial in (*found.hil.trials, *found.sm.trials))


def test_the_front_is_measured_again(model: blsm.LatencyModel, tmp_path: Path) -> None:
    hypermodel = load_hypermodel(NAME)
    hil = HardwareInTheLoop(FakeDevice(noise=0.0))
    found, _ = compare(_plan(hypermodel), model, hil, tmp_path)
    again = remeasure(found, lambda trial: hil.latency(network_of(hypermodel, trial)).latency_ms)
    truth = [fake_latency_ms(network_of(hypermodel, trial)) for trial in found.sm_front]
    assert again.measured_ms == pytest.approx(truth, rel=0.01)
    assert again.hypervolume_ratio == pytest.approx(1, abs=0.05)
    assert list(again.to_json()["measured_ms"]) == [trial.name for trial in found.sm_front]


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
    assert json.loads((tmp_path / "accuracies.json").read_text())["training"]["data"] == "zeros"
