"""What settings of a hypermodel reached when they were trained, for several searches to share."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from blsm.errors import FileError, SearchError

_TABLES = """
CREATE TABLE IF NOT EXISTS training (number INTEGER PRIMARY KEY CHECK (number = 0), settings TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS accuracies (
    setting TEXT PRIMARY KEY, accuracy REAL NOT NULL, training_s REAL NOT NULL
) WITHOUT ROWID;
"""
#: Another process holds the file for milliseconds only.
_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Training:
    """How a setting is trained: all that its accuracy depends on, besides itself and the data.

    Attributes:
        data: name of the images.
        epochs: at most.
        patience: epochs without a better validation accuracy after which training ends.
        seed: of weights and of the order of images.
        batch_size: images of one step.
    """

    data: str
    epochs: int = 20
    patience: int = 5
    seed: int = 0
    batch_size: int = 64


class Accuracies:
    """What settings reached, in an SQLite file, so that no setting is trained twice.

    Several processes may share the file, and any of them may be killed. What two of them trained at the same time has
    the accuracy of the one that ended first, for both.

    Args:
        path: the file; made if it is missing.
        training: how settings are trained.

    Raises:
        SearchError: the file's accuracies come from another training.
        FileError: it is damaged or can't be written.
    """

    def __init__(self, path: Path, training: Training) -> None:
        self._path = path
        wanted = asdict(training)
        with self._database() as database:
            database.executescript(_TABLES)
            database.execute("INSERT OR IGNORE INTO training VALUES (0, ?)", (json.dumps(wanted),))
            stored = json.loads(database.execute("SELECT settings FROM training").fetchone()[0])
        if stored != wanted:
            raise SearchError(
                f"the accuracies in {path} come from another training ({stored} against {wanted}): choose another "
                "folder"
            )

    def of(self, setting: str, train: Callable[[], float]) -> tuple[float, float]:
        """Accuracy of a setting, and the seconds that training it took.

        Args:
            setting: its hyperparameters as text.
            train: trains it, where that was not done before; what is no number is not kept.
        """
        if (known := self._known(setting)) is not None:
            return known
        started_s = time.monotonic()
        accuracy = train()
        result = accuracy, time.monotonic() - started_s
        if not math.isfinite(accuracy):
            return result
        with self._database() as database:
            database.execute("INSERT OR IGNORE INTO accuracies VALUES (?, ?, ?)", (setting, *result))
        return self._known(setting) or result

    def _known(self, setting: str) -> tuple[float, float] | None:
        with self._database() as database:
            rows = database.execute("SELECT accuracy, training_s FROM accuracies WHERE setting = ?", (setting,))
            found: tuple[float, float] | None = rows.fetchone()
        return found

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """The database, for one transaction."""
        try:
            with closing(sqlite3.connect(self._path, timeout=_PATIENCE_S)) as database, database:
                yield database
        except (sqlite3.Error, ValueError) as error:
            raise FileError(
                f"cannot use the accuracies in {self._path} ({error}): give a folder that can be written to; a damaged "
                "file can be removed, settings are trained again then"
            ) from None
