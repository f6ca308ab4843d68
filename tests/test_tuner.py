"""LatencyTuner: killed searches, distributed ones, real training, and AutoKeras."""

from __future__ import annotations

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
import pytest

import blsm

SCRIPT = Path(__file__).parent / "assets/toy_search.py"
TOY = runpy.run_path(str(SCRIPT))
TRIALS = 8


@contextmanager
def _process(folder: Path, bundle: Path, seconds: float, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A search as a process; it is killed at the end, if it still runs."""
    command = [sys.executable, str(SCRIPT), str(folder), str(bundle), str(TRIALS), str(seconds)]
    variables = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | environment
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _wait(condition: Callable[[], object], folder: Path, limit_s: float = 120) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, (folder / "output.txt").read_text()[-3000:]
        time.sleep(0.05)


def _runs(folder: Path) -> list[tuple[str, str]]:
    """Every run of a trial so far: (trial, process)."""
    path = folder / "runs.txt"
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []  # type: ignore[misc]


def _trials(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.parent.name.removeprefix("trial_"): json.loads(path.read_text())
        for path in sorted((folder / "search").glob("trial_*/trial.json"))
    }


def test_a_killed_search_loses_and_repeats_nothing(fake_bundle: Path, tmp_path: Path) -> None:
    # Killed three times while it runs a trial: the trial that was cut short is run again, and no other.
    cut = []
    for kill in (1, 3, 6):
        with _process(tmp_path, fake_bundle, 0.3) as process:
            _wait(lambda kill=kill: len(_runs(tmp_path)) >= kill, tmp_path)
            process.send_signal(signal.SIGKILL)
            process.wait()
        cut.append(_runs(tmp_path)[-1][0])
    with _process(tmp_path, fake_bundle, 0.0) as process:
        assert process.wait(timeout=120) == 0, (tmp_path / "output.txt").read_text()[-3000:]
    trials = _trials(tmp_path)
    assert sorted(trials) == [str(number) for number in range(TRIALS)]
    assert all(trial["status"] == "COMPLETED" for trial in trials.values())
    runs = Counter(trial for trial, _ in _runs(tmp_path))
    done_twice = {trial for trial, count in runs.items() if count > 1}
    assert runs.keys() == trials.keys()
    assert done_twice <= set(cut)
    for trial in trials.values():
        values = [observation["value"] for observation in trial["metrics"]["metrics"]["val_accuracy"]["observations"]]
        assert values == [[pytest.approx(TOY["accuracy"](trial["hyperparameters"]["values"]))]]
    # It is the search that it would have been.
    oracle = blsm.LatencyOracle(blsm.load(fake_bundle), max_trials=TRIALS, reference_latency_ms=0.5)
    whole = TOY["ToyTuner"](TOY["Toy"](), oracle, directory=tmp_path, project_name="whole")
    whole.search(verbose=0)
    assert [trials[name]["hyperparameters"]["values"] for name in sorted(trials)] == [
        dict(result.values) for result in oracle.results()
    ]


@pytest.mark.parametrize("moment", ["trial saved", "reported", "ended"])
def test_a_kill_between_two_writes(fake_model: blsm.LatencyModel, tmp_path: Path, moment: str) -> None:
    """KerasTuner writes the trial, then the oracle: what a kill in between leaves is put right."""

    class Killed(BaseException):
        pass

    def tuner(trials: int = 4) -> Any:
        oracle = blsm.LatencyOracle(fake_model, max_trials=trials, reference_latency_ms=0.5, strategy="random")
        made = TOY["ToyTuner"](TOY["Toy"](), oracle, directory=tmp_path, project_name="search")
        made.log = tmp_path / "runs.txt"
        return made

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    killed = tuner()
    oracle = killed.oracle
    save, update = oracle.save, oracle.update_trial

    def killing_save() -> None:
        ended = len(oracle.end_order) == 3
        if (moment == "trial saved" and len(oracle.trials) == 3) or (moment == "ended" and ended):
            kill()
        save()

    def killing_update(trial_id: str, metrics: Any, step: int = 0) -> Any:
        result = update(trial_id, metrics, step)
        if moment == "reported" and trial_id == "2":
            kill()
        return result

    oracle.save, oracle.update_trial = killing_save, killing_update
    with pytest.raises(Killed):
        killed.search(verbose=0)
    resumed = tuner()
    resumed.search(verbose=0)
    assert [result.status for result in resumed.oracle.results()] == ["COMPLETED"] * 4
    assert resumed.oracle.end_order == ["0", "1", "2", "3"]
    assert Counter(trial for trial, _ in _runs(tmp_path)) == {"0": 1, "1": 1, "2": 1, "3": 1}
    uninterrupted = blsm.LatencyOracle(fake_model, max_trials=4, reference_latency_ms=0.5, strategy="random")
    TOY["ToyTuner"](TOY["Toy"](), uninterrupted, directory=tmp_path, project_name="whole").search(verbose=0)
    assert [r.values for r in resumed.oracle.results()] == [r.values for r in uninterrupted.results()]


def test_a_distributed_search_survives_a_worker(fake_bundle: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def start(name: str, seconds: float) -> Any:
        chief = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": port}
        return _process(tmp_path, fake_bundle, seconds, KERASTUNER_TUNER_ID=name, **chief)

    with start("chief", 0.0) as chief, start("worker0", 0.2) as alive, start("worker1", 3600) as doomed:
        _wait(lambda: {process for _, process in _runs(tmp_path)} >= {str(alive.pid), str(doomed.pid)}, tmp_path)
        lost = next(trial for trial, process in _runs(tmp_path) if process == str(doomed.pid))
        doomed.send_signal(signal.SIGKILL)
        assert alive.wait(timeout=120) == 0, (tmp_path / "output.txt").read_text()[-3000:]
        assert chief.wait(timeout=120) == 0, (tmp_path / "output.txt").read_text()[-3000:]
    trials = _trials(tmp_path)
    assert sorted(trials) == [str(number) for number in range(TRIALS)]
    assert all(trial["status"] == "COMPLETED" for trial in trials.values())
    runs = Counter(trial for trial, _ in _runs(tmp_path))
    assert runs == {name: 2 if name == lost else 1 for name in trials}
    assert (lost, str(alive.pid)) in _runs(tmp_path)
    state = json.loads((tmp_path / "search/oracle.json").read_text())
    assert sorted(state["end_order"]) == sorted(trials)


def test_real_training(fake_model: blsm.LatencyModel, tmp_path: Path) -> None:
    import keras

    class Small(keras_tuner.HyperModel):  # type: ignore[misc]  # untyped base
        def build(self, hp: Any) -> keras.Model:
            image = {"height": 8, "width": 8}
            filters = hp.Choice("filters", [8, 16])
            stem = blsm.block_family("conv").config(**image, in_channels=8, filters=filters, kernel_size=3, strides=1)
            head = blsm.block_family("head").config(**image, in_channels=filters, units=10)
            inputs = x = keras.Input((8, 8, 8))
            for config in (stem, head):
                x = blsm.block_family(config.family).apply(config, x)
            model = keras.Model(inputs, x)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile("sgd", loss, metrics=["accuracy"])
            return model

    random = np.random.default_rng(0)
    data = random.normal(size=(32, 8, 8, 8)).astype("float32"), random.integers(0, 10, 32)
    oracle = blsm.LatencyOracle(fake_model, max_trials=2, reference_latency_ms=0.05)
    tuner = blsm.LatencyTuner(Small(), oracle=oracle, directory=tmp_path, project_name="search")
    tuner.search(*data, validation_data=data, epochs=3, verbose=0)
    for trial in oracle.trials.values():
        result = oracle.result(trial)
        assert result.score == pytest.approx(float(oracle.score(result.accuracy, result.latency_ms)))
    best = oracle.get_best_trials(1)[0]
    model = tuner.get_best_models()[0]
    # The weights of the epoch with the best score, which is the one with the best accuracy.
    reached = model.evaluate(*data, verbose=0, return_dict=True)["accuracy"]
    assert reached == pytest.approx(oracle.result(best).accuracy, abs=1e-6)
    with pytest.raises(keras_tuner.errors.FatalError, match="reports no 'val_accuracy', but 'accuracy', 'loss'"):
        other = blsm.LatencyOracle(fake_model, max_trials=2, reference_latency_ms=0.05)
        blsm.LatencyTuner(Small(), oracle=other, directory=tmp_path, project_name="other").search(
            *data, epochs=1, verbose=0
        )


def test_what_is_not_for_this_tuner(fake_model: blsm.LatencyModel, tmp_path: Path) -> None:
    with pytest.raises(keras_tuner.errors.FatalError, match=r"must be a blsm.LatencyOracle, got a RandomSearchOracle"):
        blsm.LatencyTuner(TOY["Toy"](), oracle=keras_tuner.oracles.RandomSearchOracle(), directory=tmp_path)
    with pytest.raises(keras_tuner.errors.FatalError, match="maximises 'bals'.*got 'val_loss'"):
        blsm.LatencyTuner(TOY["Toy"](), oracle=blsm.LatencyOracle(fake_model), objective="val_loss")


@pytest.fixture
def auto_model(tmp_path: Path) -> Callable[..., Any]:
    """An AutoKeras model for 8x8 images of a convolution and a dense layer; arguments are AutoModel's."""
    autokeras = pytest.importorskip("autokeras")

    def make(oracle: Any, **arguments: Any) -> Any:
        inputs = autokeras.ImageInput()
        x = autokeras.Normalization()(inputs)
        x = autokeras.ConvBlock(kernel_size=3, num_blocks=1, num_layers=1, max_pooling=False, separable=False)(x)
        outputs = autokeras.ClassificationHead(dropout=0.0)(autokeras.SpatialReduction("global_avg")(x))
        return autokeras.AutoModel(inputs, outputs, tuner=oracle, directory=tmp_path, **arguments)

    return make


class _Constant:
    """A latency source that knows models by their parameters."""

    device = "abacus"

    def latency(self, network: Any) -> blsm.LatencyEstimate:
        latency_ms = network.count_params() / 1000
        return blsm.LatencyEstimate(latency_ms, 0.9 * latency_ms, 1.1 * latency_ms, 1.0, ())


def test_an_auto_model_takes_an_oracle(auto_model: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    random = np.random.default_rng(0)
    images, labels = random.normal(size=(40, 8, 8, 3)).astype("float32"), random.integers(0, 3, 40)
    oracle = blsm.LatencyOracle(_Constant(), max_trials=3, strategy="random", accuracy="val_accuracy")
    model = auto_model(oracle, max_trials=7, max_model_size=20_000)
    assert "max_trials=7 of AutoModel is not used: the oracle's 3 holds" in caplog.text
    assert (model.max_trials, model.objective.name) == (3, "bals")
    model.fit(images, labels, epochs=1, verbose=0)
    results = oracle.results()
    assert [result.status for result in results] == ["COMPLETED"] * 3
    assert all(0 < result.latency_ms <= 20 for result in results), "larger models are not trained"
    assert all(result.score is not None for result in results)
    exported = model.export_model()
    best = max(results, key=lambda result: result.score or 0.0)
    assert exported.count_params() / 1000 == pytest.approx(best.latency_ms)
    assert len(model.predict(images, verbose=0)) == 40


def test_an_auto_model_with_another_objective(auto_model: Callable[..., Any]) -> None:
    with pytest.raises(keras_tuner.errors.FatalError, match="maximises 'bals'.*got 'val_accuracy'"):
        auto_model(blsm.LatencyOracle(_Constant()), objective="val_accuracy")
