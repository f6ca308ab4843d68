from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path

import pytest

from blsm.accuracies import Accuracies, Training
from blsm.errors import FileError, SearchError

TRAINING = Training("digits")

#: Trains settings 0, 1, ... in a process of its own, which is told the file and what each of them reaches.
_TRAINS = """
import sys
from pathlib import Path
from blsm.accuracies import Accuracies, Training
accuracies = Accuracies(Path(sys.argv[1]), Training("digits"))
for number in range(int(sys.argv[3])):
    print(accuracies.of(str(number), lambda: float(sys.argv[2]))[0], flush=True)
"""


def _never() -> float:
    raise AssertionError("trained again")


def _process(path: Path, reached: float, count: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", _TRAINS, str(path), str(reached), str(count)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_a_setting_is_trained_once_whoever_asks(tmp_path: Path) -> None:
    path = tmp_path / "accuracies.sqlite"
    first = Accuracies(path, TRAINING)
    assert first.of("a", lambda: 0.5)[0] == 0.5
    assert first.of("a", _never)[0] == 0.5
    assert Accuracies(path, TRAINING).of("a", _never) == first.of("a", _never)


def test_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "accuracies.sqlite"
    processes = [_process(path, reached, 40) for reached in (0.25, 0.75)]
    ours, theirs = ([float(line) for line in process.communicate()[0].splitlines()] for process in processes)
    assert len(ours) == 40
    assert ours == theirs
    known = Accuracies(path, TRAINING)
    assert [known.of(str(number), _never)[0] for number in range(40)] == ours


def test_a_kill_loses_nothing_that_was_told(tmp_path: Path) -> None:
    path = tmp_path / "accuracies.sqlite"
    process = _process(path, 0.5, 10**6)
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(5)]
    time.sleep(0.05)
    process.kill()
    told += process.communicate()[0].splitlines()
    known = Accuracies(path, TRAINING)
    assert [known.of(str(number), _never)[0] for number in range(len(told))] == [0.5] * len(told)


def test_what_another_process_trained_meanwhile_counts(tmp_path: Path) -> None:
    path = tmp_path / "accuracies.sqlite"
    ours, theirs = Accuracies(path, TRAINING), Accuracies(path, TRAINING)

    def train() -> float:
        theirs.of("a", lambda: 0.25)
        return 0.5

    assert ours.of("a", train)[0] == 0.25


def test_training_that_diverged_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "accuracies.sqlite"
    assert math.isnan(Accuracies(path, TRAINING).of("a", lambda: math.nan)[0])
    assert Accuracies(path, TRAINING).of("a", lambda: 0.25)[0] == 0.25


def test_accuracies_of_another_training_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "accuracies.sqlite"
    Accuracies(path, TRAINING)
    with pytest.raises(SearchError, match=r"come from another training .*'epochs': 20.* against .*'epochs': 3"):
        Accuracies(path, Training("digits", epochs=3))


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "accuracies.sqlite"
    path.write_text("no database, but longer than its header" * 20)
    with pytest.raises(FileError, match=r"accuracies.sqlite \(file is not a database\): .* can be removed"):
        Accuracies(path, TRAINING)
    with pytest.raises(FileError, match=r"unable to open database file\): give a folder"):
        Accuracies(tmp_path / "none" / "accuracies.sqlite", TRAINING)
