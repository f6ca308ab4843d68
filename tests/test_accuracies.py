from __future__ import annotations

import math
from pathlib import Path

import pytest

from blsm.accuracies import Accuracies, Training
from blsm.errors import FileError, SearchError

TRAINING = Training("digits")


def _never() -> float:
    raise AssertionError("trained again")


def test_a_setting_is_trained_once_whoever_asks(tmp_path: Path) -> None:
    path = tmp_path / "accuracies.json"
    first = Accuracies(path, TRAINING)
    assert first.of("a", lambda: 0.5)[0] == 0.5
    assert first.of("a", _never)[0] == 0.5
    assert Accuracies(path, TRAINING).of("a", _never) == first.of("a", _never)


def test_training_that_diverged_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "accuracies.json"
    assert math.isnan(Accuracies(path, TRAINING).of("a", lambda: math.nan)[0])
    assert Accuracies(path, TRAINING).of("a", lambda: 0.25)[0] == 0.25


def test_accuracies_of_another_training_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "accuracies.json"
    Accuracies(path, TRAINING)
    with pytest.raises(SearchError, match=r"come from another training .*'epochs': 20.* against .*'epochs': 3"):
        Accuracies(path, Training("digits", epochs=3))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "accuracies.json"
    path.write_text("{}")
    with pytest.raises(FileError, match=r"accuracies.json is damaged .*: remove it"):
        Accuracies(path, TRAINING)
    with pytest.raises(FileError, match="cannot write"):
        Accuracies(tmp_path / "none" / "accuracies.json", TRAINING)
