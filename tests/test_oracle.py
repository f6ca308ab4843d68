"""LatencyOracle: latency before training, score, limits, saved state, and what it refuses."""

from __future__ import annotations

import json
import math
import runpy
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_tuner
import pytest

import blsm
from blsm.domains import Choice
from blsm.errors import SearchError
from blsm.testing import FakeDevice

TOY = runpy.run_path(str(Path(__file__).parent / "assets/toy_search.py"))
Toy, ToyTuner, accuracy = TOY["Toy"], TOY["ToyTuner"], TOY["accuracy"]
REFERENCE_MS = 0.5

MakeTuner = Callable[..., Any]


@pytest.fixture
def make(fake_model: blsm.LatencyModel, tmp_path: Path) -> MakeTuner:
    """A tuner of the toy hypermodel; arguments are the oracle's."""

    def tuner(hypermodel: Any = None, tuner_class: Any = ToyTuner, project: str = "search", **arguments: Any) -> Any:
        arguments = {"latency": fake_model, "max_trials": 8, "reference_latency_ms": REFERENCE_MS} | arguments
        oracle = blsm.LatencyOracle(**arguments)
        return tuner_class(hypermodel or Toy(), oracle, directory=tmp_path, project_name=project)

    return tuner


def _settings(oracle: Any) -> list[dict[str, Any]]:
    return [dict(result.values) for result in oracle.results()]


def test_trials_carry_accuracy_latency_and_score(make: MakeTuner, fake_model: blsm.LatencyModel) -> None:
    tuner = make()
    tuner.search(verbose=0)
    assert len(tuner.oracle.trials) == 8
    for trial in tuner.oracle.trials.values():
        expected = fake_model.latency(Toy().blocks(trial.hyperparameters))
        reached = accuracy(trial.hyperparameters.values)
        metrics = {name: trial.metrics.get_last_value(name) for name in trial.metrics.metrics}
        assert trial.status == "COMPLETED"
        assert metrics["latency_ms"] == pytest.approx(expected.latency_ms)
        assert metrics["latency_low_ms"] == pytest.approx(expected.low_ms)
        assert metrics["latency_high_ms"] == pytest.approx(expected.high_ms)
        assert metrics["latency_coverage"] == 1
        assert metrics["val_accuracy"] == pytest.approx(reached)
        score = blsm.balanced_score(reached, expected.latency_ms, reference_latency_ms=REFERENCE_MS)
        assert trial.score == metrics["bals"] == pytest.approx(score)
    assert tuner.oracle.objective.name == "bals"
    assert tuner.oracle.objective.direction == "max"


def test_the_best_and_the_front(make: MakeTuner) -> None:
    tuner = make(max_trials=10, strategy="random")
    tuner.search(verbose=0)
    oracle = tuner.oracle
    results = oracle.results()
    best = max(results, key=lambda result: result.score)
    assert oracle.get_best_trials(1)[0].trial_id == best.trial_id
    front = [trial.trial_id for trial in oracle.pareto_front()]
    expected = blsm.pareto_front([r.accuracy for r in results], [r.latency_ms for r in results])
    assert front == [results[index].trial_id for index in expected]
    assert best.trial_id in front


@pytest.mark.parametrize("strategy", ["bayesian", "random", "evolution", "greedy"])
def test_the_same_seed_gives_the_same_search(make: MakeTuner, strategy: str, tmp_path: Path) -> None:
    searches = {}
    for name, seed in (("first", 0), ("second", 0), ("other", 1)):
        tuner = make(strategy=strategy, seed=seed, max_trials=9, max_latency_ms=0.3, project=name)
        tuner.search(verbose=0)
        searches[name] = _settings(tuner.oracle)
        assert len({json.dumps(values, sort_keys=True) for values in searches[name]}) == 9, "no setting twice"
        assert all(result.latency_ms <= 0.3 for result in tuner.oracle.results())
    assert searches["first"] == searches["second"] != searches["other"]


@pytest.mark.parametrize("limit", ["max_latency_ms", "max_params", "max_macs"])
def test_what_breaks_a_limit_is_never_trained(make: MakeTuner, fake_model: blsm.LatencyModel, limit: str) -> None:
    def cost(values: Any) -> float:
        hp = keras_tuner.HyperParameters()
        hp.values = dict(values)
        blocks = Toy().blocks(hp)
        return {
            "max_latency_ms": fake_model.latency(blocks).latency_ms,
            "max_params": sum(block.params for block in blocks),
            "max_macs": sum(block.macs for block in blocks),
        }[limit]

    free = make(strategy="random", max_trials=12)
    free.search(verbose=0)
    costs = sorted(cost(values) for values in _settings(free.oracle))
    bound = costs[5]
    held = make(strategy="random", max_trials=10, **{limit: bound}, project="held")
    held.search(verbose=0)
    assert len(held.oracle.trials) == 10, "another setting is drawn instead"
    assert max(cost(values) for values in _settings(held.oracle)) <= bound
    assert held.oracle.refused[limit] > 0


def test_a_limit_that_nothing_keeps(make: MakeTuner) -> None:
    with pytest.raises(keras_tuner.errors.FatalError, match=r"no setting can be tried: .*max_latency_ms=1e-06"):
        make(strategy="random", max_latency_ms=1e-6).search(verbose=0)
    with pytest.raises(keras_tuner.errors.FatalError, match="no setting can be tried"):
        make(max_latency_ms=1e-6, project="bayesian").search(verbose=0)


def test_a_small_space_ends_the_search(make: MakeTuner, caplog: pytest.LogCaptureFixture) -> None:
    for strategy in ("random", "bayesian"):
        tuner = make(strategy=strategy, max_trials=100, max_latency_ms=0.1, project=strategy)
        tuner.search(verbose=0)
        settings = {json.dumps(values, sort_keys=True) for values in _settings(tuner.oracle)}
        assert 10 <= len(settings) == len(tuner.oracle.trials) < 45
        assert "the search ends early, no setting is left" in caplog.text


def test_hardware_in_the_loop(make: MakeTuner) -> None:
    hil = blsm.HardwareInTheLoop(FakeDevice())
    tuner = make(latency=hil, max_trials=12, max_latency_ms=0.3)
    tuner.search(verbose=0)
    assert len(tuner.oracle.trials) == 12
    assert all(result.latency_ms <= 0.3 for result in tuner.oracle.results())
    assert hil.measured == 12 + tuner.oracle.refused["max_latency_ms"]


def test_what_can_not_be_measured_is_refused(make: MakeTuner) -> None:
    class Picky(FakeDevice):
        def compile_blocks(self, blocks: Any, artifact: Path) -> None:
            if len(blocks) == 3:
                raise blsm.DeviceError("no three blocks")
            super().compile_blocks(blocks, artifact)

    tuner = make(latency=blsm.HardwareInTheLoop(Picky()), strategy="random")
    tuner.search(verbose=0)
    assert tuner.oracle.refused["unmeasurable"] > 0
    assert {values["depth"] for values in _settings(tuner.oracle)} == {2, 3}


def test_a_device_that_is_not_usable_ends_the_search(make: MakeTuner) -> None:
    class Absent(FakeDevice):
        def missing(self) -> str:
            return "buy one"

    with pytest.raises(keras_tuner.errors.FatalError, match="not usable here: buy one"):
        make(latency=blsm.HardwareInTheLoop(Absent())).search(verbose=0)


def test_automatic_reference(make: MakeTuner, caplog: pytest.LogCaptureFixture) -> None:
    oracle = make(reference_latency_ms="auto", max_trials=1)
    oracle.search(verbose=0)
    found = oracle.oracle.reference_latency_ms
    random = make(strategy="random", max_trials=40, project="random")
    random.search(verbose=0)
    latency_ms = sorted(result.latency_ms for result in random.oracle.results())
    assert 2 * latency_ms[10] < found < 2 * latency_ms[30]
    assert f"reference_latency_ms='auto': {found:.4g} ms, twice the median of 1000" in caplog.text


def test_a_reference_that_hides_latency_is_warned_of(make: MakeTuner) -> None:
    with pytest.warns(UserWarning, match=r"hardly sees latency: .*reference_latency_ms=100; take [\d.]+, or 'auto'"):
        make(reference_latency_ms=100, max_trials=1).search(verbose=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tuner = make(max_trials=1, project="other")
        tuner.search(verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reference_latency_ms": 0}, "reference latency must be above 0 ms, got 0"),
        ({"reference_latency_ms": -5.0}, "above 0 ms, got -5.0"),
        ({"reference_latency_ms": "fast"}, "must be milliseconds or 'auto', got 'fast'"),
        ({"reference_accuracy": 0.0}, "reference accuracy must be above 0"),
        ({"max_latency_ms": 0.0}, "max_latency_ms must be above 0, got 0.0"),
        ({"max_params": -1}, "max_params must be above 0"),
        ({"strategy": "bayes"}, "strategy must be one of bayesian, evolution, greedy, random"),
        ({"objective": "val_loss"}, "maximises 'bals'.*got 'val_loss'"),
        ({"objective": keras_tuner.Objective("val_accuracy", "max")}, "got 'val_accuracy'"),
        ({"latency": "edge_cpu"}, "latency must be a LatencyModel"),
    ],
)
def test_bad_arguments(make: MakeTuner, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(keras_tuner.errors.FatalError, match=message) as caught:
        make(**arguments)
    assert isinstance(caught.value, SearchError)


def test_a_reference_out_of_reach(make: MakeTuner) -> None:
    with pytest.raises(keras_tuner.errors.FatalError, match=r"reference_latency_ms=0.001 is out of reach: the fastest"):
        make(reference_latency_ms=0.001).search(verbose=0)


def test_a_surrogate_that_does_not_cover_the_hypermodel(make: MakeTuner, fake_model: blsm.LatencyModel) -> None:
    surrogate = fake_model.surrogates["mbconv"]
    narrow = replace(surrogate, domain={**surrogate.domain, "filters": Choice(16, 32)})
    lm = replace(fake_model, surrogates={**fake_model.surrogates, "mbconv": narrow})
    with pytest.raises(keras_tuner.errors.FatalError, match=r"mbconv.filters = 64 .*`blsm profile --hypermodel"):
        make(latency=lm).search(verbose=0)
    hybrid = make(latency=blsm.Hybrid(lm, blsm.HardwareInTheLoop(FakeDevice())), max_trials=3, project="hybrid")
    hybrid.search(verbose=0)
    assert len(hybrid.oracle.trials) == 3


def test_a_model_that_can_not_be_parsed_ends_the_search_before_training(make: MakeTuner) -> None:
    import keras

    def build(hp: Any) -> keras.Model:
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(hp.Choice("filters", [8, 16]), 3)(inputs)
        return keras.Model(inputs, keras.layers.Permute((2, 1, 3))(x))

    tuner = make(build)
    with pytest.raises(keras_tuner.errors.FatalError, match="no block family explains .*permute"):
        tuner.search(verbose=0)
    assert not tuner.oracle.trials


def test_a_hypermodel_that_lists_no_blocks_is_built_and_parsed(make: MakeTuner, fake_model: blsm.LatencyModel) -> None:
    def build(hp: Any) -> Any:
        image = {"height": 8, "width": 8}
        filters = hp.Choice("filters", [16, 32, 64])
        stem = blsm.block_family("conv").config(**image, in_channels=8, filters=filters, kernel_size=3, strides=1)
        return blsm.build_network([stem, blsm.block_family("head").config(**image, in_channels=filters, units=10)])

    class Tuner(ToyTuner):  # type: ignore[misc,valid-type]
        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> float:
            return 0.5  # a number alone is the accuracy

    tuner = make(build, Tuner, max_trials=3)
    tuner.search(verbose=0)
    for result in tuner.oracle.results():
        hp = keras_tuner.HyperParameters()
        hp.values = dict(result.values)
        assert result.latency_ms == pytest.approx(fake_model.latency(build(hp)).latency_ms)
        assert result.accuracy == 0.5
    assert {result.values["filters"] for result in tuner.oracle.results()} == {16, 32, 64}


def test_settings_that_can_not_be_built(make: MakeTuner) -> None:
    def build(hp: Any) -> None:
        if hp.Boolean("fails"):
            raise ValueError("negative dimension")
        hp.Choice("n", list(range(100)))
        raise KeyError("a bug")

    tuner = make(lambda hp: hp.Choice("n", list(range(100))))
    tuner.oracle.bind(build)
    with pytest.raises(keras_tuner.errors.FatalError, match=r"20 settings in a row can't be built: KeyError: 'a bug'"):
        tuner.search(verbose=0)


def test_diverged_training_is_a_failed_trial(make: MakeTuner) -> None:
    class Diverging(ToyTuner):  # type: ignore[misc,valid-type]
        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
            return {"val_accuracy": math.nan if int(trial.trial_id) % 3 == 0 else 0.6}

    tuner = make(tuner_class=Diverging, max_trials=9)
    tuner.search(verbose=0)
    failed = {trial.trial_id: trial for trial in tuner.oracle.trials.values() if trial.status == "FAILED"}
    assert failed.keys() == {"0", "3", "6"}
    assert all("val_accuracy is not a number" in trial.message for trial in failed.values())
    assert len(tuner.oracle.pareto_front()) > 0


def test_too_many_failed_trials_end_the_search(make: MakeTuner) -> None:
    class Failing(ToyTuner):  # type: ignore[misc,valid-type]
        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
            raise ValueError("no memory")

    tuner = make(tuner_class=Failing)
    with pytest.raises(keras_tuner.errors.FatalError, match="consecutive failures exceeded the limit of 3"):
        tuner.search(verbose=0)
    assert len(tuner.oracle.end_order) == 3


def test_an_accuracy_that_training_does_not_report(make: MakeTuner) -> None:
    with pytest.raises(keras_tuner.errors.FatalError, match="reports no 'val_auc', but 'val_accuracy'"):
        make(accuracy="val_auc").search(verbose=0)


def test_an_oracle_without_hypermodel(fake_model: blsm.LatencyModel) -> None:
    oracle = blsm.LatencyOracle(fake_model)
    with pytest.raises(keras_tuner.errors.FatalError, match=r"call oracle.bind\(hypermodel\)"):
        oracle.create_trial("tuner0")
    with pytest.raises(keras_tuner.errors.FatalError):  # the lock was released: this would wait for ever
        oracle.create_trial("tuner1")


@pytest.mark.parametrize("strategy", ["bayesian", "greedy"])
def test_resuming_goes_on_where_it_stopped(make: MakeTuner, strategy: str) -> None:
    whole = make(max_trials=9, strategy=strategy, max_latency_ms=0.3, project="whole")
    whole.search(verbose=0)
    make(max_trials=7, strategy=strategy, max_latency_ms=0.3).search(verbose=0)
    resumed = make(max_trials=9, strategy=strategy, max_latency_ms=0.3)
    assert len(resumed.oracle.trials) == 7
    resumed.search(verbose=0)
    assert _settings(resumed.oracle) == _settings(whole.oracle)
    assert resumed.oracle.refused == whole.oracle.refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("blsm"), "was not saved by a LatencyOracle: choose another project_name"),
        (lambda state: state["blsm"].update(schema=99), "newer blsm .schema 99, this one reads 1."),
        (lambda state: state["blsm"]["settings"].update(device="tpu"), "other settings .*device: 'tpu' against 'fake'"),
        (lambda state: state["blsm"].update(reference_latency_ms=7.0), "reference_latency_ms: 7.0 against 0.5"),
        (lambda state: state.pop("hyperparameters"), "damaged|existing project"),
    ],
)
def test_an_incompatible_project_is_refused(make: MakeTuner, tmp_path: Path, change: Any, message: str) -> None:
    make(max_trials=1).search(verbose=0)
    path = tmp_path / "search/oracle.json"
    state = json.loads(path.read_text())
    change(state)
    path.write_text(json.dumps(state))
    with pytest.raises(keras_tuner.errors.FatalError, match=message):
        make(max_trials=2)


def test_a_project_of_another_hypermodel_is_refused(make: MakeTuner) -> None:
    class Wider(Toy):
        def blocks(self, hp: Any) -> Any:
            hp.Choice("width", [1, 2])
            return super().blocks(hp)

    make(max_trials=1).search(verbose=0)
    with pytest.raises(keras_tuner.errors.FatalError, match="searched another hypermodel: .* hyperparameters width: "):
        make(Wider(), max_trials=2)
    assert len(make(max_trials=2).oracle.trials) == 1


def test_a_damaged_project_is_refused(make: MakeTuner, tmp_path: Path) -> None:
    make(max_trials=1).search(verbose=0)
    (tmp_path / "search/oracle.json").write_text('{"ongoing')
    with pytest.raises(keras_tuner.errors.FatalError, match="damaged .*overwrite=True"):
        make(max_trials=2)


def test_any_oracle_can_be_wrapped(make: MakeTuner) -> None:
    from keras_tuner.oracles import BayesianOptimizationOracle, GridSearchOracle, RandomSearchOracle

    makers = RandomSearchOracle, BayesianOptimizationOracle, GridSearchOracle
    for number, oracle in enumerate(make_oracle(seed=1) for make_oracle in makers):
        tuner = make(strategy=oracle, max_trials=9, max_latency_ms=0.3, project=str(number))
        tuner.search(verbose=0)
        results = tuner.oracle.results()
        assert len({json.dumps(dict(result.values), sort_keys=True) for result in results}) == 9
        assert all(result.latency_ms <= 0.3 for result in results)
        # It knows what its suggestions scored; the last one is told of when it is asked again.
        told = [trial.score for trial in oracle.trials.values() if trial.status == "COMPLETED"]
        assert told == pytest.approx([result.score for result in results[:-1]])


def test_a_wrapped_oracle_must_not_have_another_objective(make: MakeTuner) -> None:
    from keras_tuner.oracles import RandomSearchOracle

    with pytest.raises(keras_tuner.errors.FatalError, match=r"RandomSearch.* has the objective 'val_loss'"):
        make(strategy=RandomSearchOracle(objective="val_loss"))
