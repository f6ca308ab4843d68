from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from blsm.errors import FileError
from blsm.searches import FinishedSearch, SearchTrial, as_search, read_search


def _trial(name: str, status: str = "COMPLETED", **metrics: float) -> dict[str, Any]:
    """What KerasTuner saves of a trial."""
    return {
        "trial_id": name,
        "hyperparameters": {"space": [], "values": {"width": 8, "depth": 2}},
        "metrics": {
            "metrics": {
                key: {"direction": "max", "observations": [{"value": [value], "step": 3}]}
                for key, value in metrics.items()
            }
        },
        "score": metrics.get("bals"),
        "best_step": 3,
        "status": status,
        "message": None,
    }


def _save(folder: Path, trials: list[dict[str, Any]], **changed: Any) -> Path:
    """A project folder as a LatencyOracle leaves it."""
    settings = {
        "device": "edge_cpu",
        "source": "HardwareInTheLoop",
        "accuracy": "val_accuracy",
        "reference_accuracy": 1.0,
        "strategy": "random",
    }
    state = {
        "end_order": [trial["trial_id"] for trial in reversed(trials)],
        "hyperparameters": {"space": [{"class_name": "Int", "config": {"name": "depth", "max_value": 4}}]},
        "blsm": {"schema": 1, "settings": settings, "reference_latency_ms": 2.0},
    } | changed
    for trial in trials:
        path = folder / f"trial_{trial['trial_id']}" / "trial.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(trial))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "oracle.json").write_text(json.dumps(state))
    return folder


GOOD = {"val_accuracy": 0.5, "latency_ms": 1.5, "latency_low_ms": 1.4, "latency_high_ms": 1.6, "bals": 0.25}


def test_a_project_is_read_with_its_failures_told_apart(tmp_path: Path) -> None:
    diverged = GOOD | {"bals": float("nan")}
    trials = [_trial("0", **GOOD), _trial("1", "FAILED", latency_ms=1.0), _trial("2", **diverged), _trial("3", **GOOD)]
    found = read_search(_save(tmp_path / "project", trials))
    setting = '{"depth": 2, "width": 8}'
    assert found.trials == tuple(SearchTrial(0.5, 1.5, 0.25, setting, name, 1.4, 1.6) for name in ("3", "0"))
    assert (found.failed, found.measured, found.device) == (2, True, "edge_cpu")
    assert (found.reference_accuracy, found.reference_latency_ms) == (1.0, 2.0)
    assert found.space == {"depth": {"name": "depth", "max_value": 4}}


def test_a_trial_that_still_runs_is_neither_completed_nor_failed(tmp_path: Path) -> None:
    folder = _save(tmp_path, [_trial("0", **GOOD), _trial("1", "RUNNING", latency_ms=1.0)], end_order=["0"])
    found = read_search(folder)
    assert (len(found.trials), found.failed) == (1, 0)


def test_the_folder_around_a_project_will_do(tmp_path: Path) -> None:
    _save(tmp_path / "search", [_trial("0", **GOOD)])
    assert read_search(tmp_path).trials == read_search(tmp_path / "search").trials


def test_keras_tuners_own_trials_will_do() -> None:
    class Trial:
        def get_state(self) -> dict[str, Any]:
            return _trial("7", **GOOD)

    found = as_search([Trial(), Trial()], "SM")
    assert [trial.name for trial in found.trials] == ["7", "7"]
    assert as_search(found, "other") is found


def test_the_best_trial_has_the_highest_score() -> None:
    trials = (SearchTrial(0.9, 1.0, 0.5), SearchTrial(0.8, 0.1, 0.7))
    assert FinishedSearch("SM", trials).best is trials[1]


def test_what_is_no_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"not the folder of a search \(no oracle.json in it\)"):
        read_search(tmp_path)
    with pytest.raises(FileError, match="not the folder of a search"):
        read_search(tmp_path / "nothing")
    _save(tmp_path / "a", [])
    _save(tmp_path / "b", [])
    with pytest.raises(FileError, match="it holds 2: "):
        read_search(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"blsm": None}, "was not searched with a LatencyOracle"),
        ({"blsm": {"schema": 99}}, "searched with a newer blsm"),
        ({"blsm": {"schema": 1}}, "is damaged: KeyError: 'settings'"),
    ],
)
def test_other_searches_and_damaged_ones_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(FileError, match=message):
        read_search(_save(tmp_path, [], **changed))


def test_a_file_that_is_cut_off_is_called_damaged(tmp_path: Path) -> None:
    folder = _save(tmp_path, [_trial("0", **GOOD)])
    path = folder / "trial_0" / "trial.json"
    path.write_text(path.read_text()[:-5])
    with pytest.raises(FileError, match="is damaged: JSONDecodeError"):
        read_search(folder)
