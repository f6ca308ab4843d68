from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blsm
from blsm.cli.main import main
from blsm.cli.profile import hypermodel_chains
from blsm.fitting import fit_latency_model
from blsm.network import load_keras_model
from blsm.profiles import ProfileStore
from blsm.testing import fill_store

HYPERMODEL = """
from blsm.domains import Choice
from blsm.hypermodels import SequentialBlocks, Stack, Stage

def small():
    stages = (Stage(Choice(8, 16, 24), strides=2, depth=Choice(1)),)
    return SequentialBlocks(Stack(("mbconv", "res_v1"), stages, stem=Choice(8, 16)), (8, 8, 1), classes=3)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hypermodel, a latency model that covers it, and data."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "mine.py").write_text(HYPERMODEL)
    with ProfileStore(folder / "profiles.db", create=True) as store:
        fill_store(store, hypermodel_chains(f"{folder / 'mine.py'}:small", 100, 0))
        blsm.save(fit_latency_model(store, "fake", regressor="roofline"), folder / "fake.blsm")
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = rng.integers(0, 60, (90, 8, 8)) + 90 * labels[:, None, None]
    np.savez(folder / "data.npz", x_train=images.astype("uint8"), y_train=labels)
    return folder


def _arguments(folder: Path, output: Path, *more: object) -> list[str]:
    return [
        "search", "--hypermodel", f"{folder / 'mine.py'}:small", "--data", str(folder / "data.npz"), "--epochs", "1",
        "--latency-model", str(folder / "fake.blsm"), "-o", str(output), *map(str, more),
    ]  # fmt: skip


def test_a_search_is_reported_saved_and_continued(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "found"
    assert main(_arguments(folder, found, "--max-trials", 2, "--strategy", "random")) == 0
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("trial ")]
    assert len(lines) == 2
    assert lines[1].startswith("trial 1 (2 of 2): accuracy 0.")
    assert "best so far" in lines[1]
    assert "2 of 2 trials on fake" in said.out
    assert "no artifact: unknown device 'fake'" in said.out
    assert (found / "pareto.png").read_bytes().startswith(b"\x89PNG")
    trials = [json.loads(path.read_text()) for path in sorted(found.rglob("trial.json"))]
    assert [trial["status"] for trial in trials] == ["COMPLETED"] * 2

    assert main(_arguments(folder, found, "--max-trials", 3, "--strategy", "random")) == 0
    said = capsys.readouterr()
    assert [line[:18] for line in said.err.splitlines() if line.startswith("trial ")] == ["trial 2 (3 of 3): "]
    best = blsm.parse(load_keras_model(found / "best.keras"))
    assert best.coverage == 1
    scores = [float(line.split()[-2 if "yes" in line else -1]) for line in said.out.splitlines()[2:5]]
    assert scores == sorted(scores, reverse=True)

    assert main(_arguments(folder, found, "--max-trials", 3, "--strategy", "greedy")) == 2
    assert "--strategy 'random', now 'greedy'" in capsys.readouterr().err


def test_limits_reject_before_training(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ("--max-params", 1500, "--max-trials", 1, "--strategy", "random", "--images", 30)
    assert main(_arguments(folder, tmp_path / "found", *limits)) == 0
    said = capsys.readouterr()
    model = load_keras_model(tmp_path / "found" / "best.keras")
    assert model.count_params() <= 1500
    assert "max_params" in said.out


def test_the_artifact_of_a_device_that_is_here(tmp_path: Path) -> None:
    from blsm.cli.search import save_artifact

    head = blsm.block_family("head").config(height=4, width=4, in_channels=8, units=2)
    assert save_artifact(blsm.build_network([head]), "edge_cpu", tmp_path) == str(tmp_path / "best.tflite")
    assert (tmp_path / "best.tflite").read_bytes()[4:8] == b"TFL3"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--reference-latency-ms", 0], "the reference latency must be above 0 ms, got 0.0"),
        (["--reference-latency-ms", "soon"], "must be milliseconds or 'auto', got 'soon'"),
        (["--reference-latency-ms", 1e-9], "is out of reach: the fastest of"),
        (["--max-latency-ms", -1], "max_latency_ms must be above 0"),
        (["--max-latency-ms", 1e-9], "no setting can be tried"),
        (["--strategy", "bayes"], "strategy must be one of bayesian, evolution"),
        (["--hil", "edge_cpu"], "the latency model is of fake, the hardware is edge_cpu"),
        (["--hil", "edge-cpu"], "did you mean 'edge_cpu'"),
        (["--data", "digits"], r"takes images of (8, 8, 1) in 3 classes, the data has (32, 32, 3) in 10"),
        (["--data", "mnist"], "must be cifar10, digits, or the path"),
        (["--hypermodel", "nowhere:Model"], "cannot import nowhere"),
        (["--latency-model", "missing.blsm"], "missing.blsm"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[Any], said: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(_arguments(folder, tmp_path / "found", "--max-trials", 1, *arguments)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.splitlines()[-1].startswith("blsm: error: ")
    assert "Traceback" not in error


def test_what_is_not_covered_is_named_with_the_remedy(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ("--hypermodel", "blsm.hypermodels:Cifar10", "--data", "digits")
    assert main(_arguments(folder, tmp_path / "found", *more)) == 2
    error = capsys.readouterr().err
    assert "no surrogate for res_v2" in error
    assert "run `blsm profile --hypermodel blsm.hypermodels:Cifar10 --device fake` and fit again" in error
    assert "add --hil DEVICE" in error


def test_ctrl_c_says_how_to_continue(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("blsm.tuner.LatencyTuner.search", interrupted)
    assert main(_arguments(folder, tmp_path / "found")) == 2
    assert capsys.readouterr().err == "blsm: error: interrupted; run the same command again to continue\n"


def test_latency_must_come_from_somewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "-o", str(tmp_path / "found")]) == 2
    assert "--latency-model FILE.blsm, --hil DEVICE, or both" in capsys.readouterr().err


def test_a_search_that_came_to_no_trial_starts_anew(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for reference_ms, said in ((1e-9, "out of reach"), (1e-8, "out of reach")):
        assert main(_arguments(folder, tmp_path, "--reference-latency-ms", reference_ms)) == 2
        assert said in capsys.readouterr().err


def test_a_folder_that_holds_another_search(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "search" / "trial_0").mkdir(parents=True)
    assert main(_arguments(folder, tmp_path)) == 2
    assert "its options.json is missing or damaged" in capsys.readouterr().err
    options = {"hypermodel": "blsm.hypermodels:Cifar10"}
    (tmp_path / "options.json").write_text(json.dumps(options))
    assert main(_arguments(folder, tmp_path)) == 2
    assert "--hypermodel 'blsm.hypermodels:Cifar10', now" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main(_arguments(folder, tmp_path / "file")) == 2
    assert "cannot make the folder" in capsys.readouterr().err


def test_finished_searches_guide_another_one(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from blsm.cli.search import accuracy_prior
    from blsm.hypermodels.loading import load_hypermodel

    class Formula(blsm.LatencyTuner):  # type: ignore[misc, name-defined]  # loaded lazily
        def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> float:
            return float(0.5 + 0.01 * trial.hyperparameters.get("stage1_filters"))

    first, name = tmp_path / "first", f"{folder / 'mine.py'}:small"
    source = blsm.load(folder / "fake.blsm")
    oracle = blsm.LatencyOracle(source, 10, strategy="random", reference_latency_ms="auto")
    Formula(load_hypermodel(name), oracle, directory=first, project_name="search").search(verbose=0)
    capsys.readouterr()
    arguments = _arguments(folder, tmp_path / "second", "--max-trials", 1, "--accuracy-prior", first)
    assert main(arguments) == 2
    assert "first is no folder of `blsm search`, its options.json can't be read" in capsys.readouterr().err

    (first / "options.json").write_text(json.dumps({"hypermodel": name}))
    assert main(arguments) == 0
    assert "1 of 1 trials" in capsys.readouterr().out
    assert main(arguments[:-2]) == 2
    assert "--accuracy-prior" in capsys.readouterr().err

    saved = tmp_path / "first.accuracy"
    blsm.AccuracyPredictor.fit([first], load_hypermodel(name)).save(saved)
    read, learned = accuracy_prior([saved]), accuracy_prior([first])
    assert read is not None
    assert learned is not None
    assert read.digest == learned.digest
