"""Learning from finished searches, and searching with what was learned."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import pytest

import blsm
from blsm.accuracy_prior import AccuracyPredictor, random_networks
from blsm.errors import DomainError, FileError, FitError, SearchError, UnknownNameError
from blsm.searches import FinishedSearch, read_search

TOY = runpy.run_path(str(Path(__file__).parent / "assets/toy_search.py"))
Toy, ToyTuner, accuracy = TOY["Toy"], TOY["ToyTuner"], TOY["accuracy"]

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def run(fake_model: blsm.LatencyModel, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Searches the toy hypermodel; arguments are the oracle's."""
    folder = tmp_path_factory.mktemp("searches")

    def search(project: str, hypermodel: Any = None, **arguments: Any) -> Any:
        arguments = {"max_trials": 12, "strategy": "random", "reference_latency_ms": 0.5} | arguments
        tuner = ToyTuner(
            hypermodel or Toy(), blsm.LatencyOracle(fake_model, **arguments), directory=folder, project_name=project
        )
        tuner.search(verbose=0)
        return tuner

    return search


@pytest.fixture(scope="module")
def finished(run: Run) -> Path:
    """The folder of a random search."""
    return Path(run("finished").project_dir)


@pytest.fixture(scope="module")
def predictor(finished: Path) -> AccuracyPredictor:
    """Learned from it."""
    return AccuracyPredictor.fit([finished], Toy())


def _predicted(predictor: AccuracyPredictor) -> np.ndarray:
    networks = random_networks(Toy(), seed=3, count=40)
    return predictor.space(networks).adapt([], []).predict(networks)


def test_a_finished_search_foretells_accuracy(predictor: AccuracyPredictor) -> None:
    space, values = keras_tuner.HyperParameters(), []
    Toy().build(space)
    for filters in (16, 32, 64):
        for depth in (1, 2, 3):
            values.append({"filters": filters, "family": "res_v1", "depth": depth})
    networks = []
    for setting in values:
        space.values = setting
        networks.append(Toy().blocks(space))
    predicted = predictor.space(random_networks(Toy())).adapt([], []).predict(networks)
    assert np.corrcoef(predicted, list(map(accuracy, values)))[0, 1] > 0.8


def test_it_is_saved_and_loaded(predictor: AccuracyPredictor, tmp_path: Path) -> None:
    path = tmp_path / "toy.accuracy"
    predictor.save(path)
    again = AccuracyPredictor.load(path)
    np.testing.assert_array_equal(_predicted(again), _predicted(predictor))
    assert again.digest == predictor.digest
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileError, match="damaged or of another kind"):
        AccuracyPredictor.load(path)


def test_another_encoding_is_refused(predictor: AccuracyPredictor) -> None:
    files = predictor.to_files()
    data = json.loads(files["accuracy.json"])
    files["accuracy.json"] = json.dumps(data | {"encoding": 99}).encode()
    with pytest.raises(ValueError, match="scheme 99, not 1: fit it anew"):
        AccuracyPredictor.from_files(files)


def test_failed_trials_and_those_without_a_number_are_skipped(finished: Path, predictor: AccuracyPredictor) -> None:
    search = read_search(finished)
    diverged = replace(search.trials[0], accuracy=float("nan"))
    with_failures = replace(search, trials=(*search.trials, diverged), failed=2)
    np.testing.assert_array_equal(_predicted(AccuracyPredictor.fit([with_failures], Toy())), _predicted(predictor))


class Other(keras_tuner.HyperModel):
    """Has no blocks to list, and other hyperparameters."""

    def build(self, hp: Any) -> None:
        hp.Int("width", 1, 3)


def test_what_can_not_be_learned_from(finished: Path) -> None:
    search = read_search(finished)

    def changed(**changes: Any) -> FinishedSearch:
        return replace(search, trials=tuple(replace(trial, **changes) for trial in search.trials))

    def fit(*searches: Any, hypermodels: Any = None, **arguments: Any) -> None:
        AccuracyPredictor.fit(searches, hypermodels or Toy(), **arguments)

    with pytest.raises(FitError, match="got none"):
        fit()
    with pytest.raises(FitError, match=r"takes 10 trials with an accuracy, .* has 9 \(3 failed\)"):
        fit(replace(search, trials=search.trials[:9], failed=3))
    with pytest.raises(FitError, match="must differ and be from 0 to 1, those of .* are from 0.5 to 0.5"):
        fit(changed(accuracy=0.5))
    with pytest.raises(FitError, match="from 93 to 93"):
        fit(changed(accuracy=93.0))
    with pytest.raises(SearchError, match="setting unknown, which is none of the hypermodel's"):
        fit(changed(setting=""))
    with pytest.raises(SearchError, match="which is none of the hypermodel's, whose hyperparameters are width"):
        fit(search, hypermodels=Other())
    with pytest.raises(SearchError, match="an Other, does not list them|a Other, does not list them"):
        fit(changed(setting='{"width": 2}'), hypermodels=Other())
    with pytest.raises(DomainError, match="got 2 for 1"):
        fit(search, hypermodels=[Toy(), Toy()])
    with pytest.raises(UnknownNameError, match="synflo"):
        fit(search, proxies=["synflo"])
    with pytest.raises(FileError):
        fit(finished / "nothing")


def test_a_search_takes_it_as_its_prior_mean(run: Run, predictor: AccuracyPredictor) -> None:
    told = run("told", strategy="bayesian", accuracy_prior=predictor, max_trials=9)
    plain = run("plain", strategy="bayesian", max_trials=9)
    again = run("again", strategy="bayesian", accuracy_prior=predictor, max_trials=9)
    settings = [[dict(result.values) for result in tuner.oracle.results()] for tuner in (told, plain, again)]
    assert settings[0] == settings[2] != settings[1]


def test_a_search_is_resumed_with_the_same_prior_only(run: Run, predictor: AccuracyPredictor, tmp_path: Path) -> None:
    run("resumed", strategy="bayesian", accuracy_prior=predictor, max_trials=7)
    predictor.save(tmp_path / "toy.accuracy")
    same = AccuracyPredictor.load(tmp_path / "toy.accuracy")
    whole = run("resumed", strategy="bayesian", accuracy_prior=same, max_trials=9)
    assert len(whole.oracle.end_order) == 9
    direct = run("direct", strategy="bayesian", accuracy_prior=predictor, max_trials=9)
    assert [r.values for r in whole.oracle.results()] == [r.values for r in direct.oracle.results()]
    with pytest.raises(SearchError, match="accuracy_prior"):
        run("resumed", strategy="bayesian", max_trials=9)


def test_only_the_bayesian_strategy_takes_one(fake_model: blsm.LatencyModel, predictor: AccuracyPredictor) -> None:
    with pytest.raises(SearchError, match="for strategy='bayesian' only, got strategy 'evolution'"):
        blsm.LatencyOracle(fake_model, strategy="evolution", accuracy_prior=predictor)
    with pytest.raises(SearchError, match="must be a blsm.AccuracyPredictor.*got 'found.accuracy'"):
        blsm.LatencyOracle(fake_model, accuracy_prior="found.accuracy")
