"""What settings of a hypermodel reached when they were trained, for several searches to share."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blsm.errors import FileError, SearchError


@dataclass(frozen=True)
class Training:
    """How a setting is trained: all that its accuracy depends on, besides itself and the data.

    Attributes:
        data: name of the images.
        epochs: at most.
        patience: epochs without a better validation accuracy after which training ends.
        seed: of weights and of the order of images.
    """

    data: str
    epochs: int = 20
    patience: int = 5
    seed: int = 0


class Accuracies:
    """What settings reached, in a file of JSON lines, so that no setting is trained twice.

    Args:
        path: the file; made if it is missing.
        training: how settings are trained.

    Raises:
        SearchError: the file's accuracies come from another training.
        FileError: it is damaged or can't be written.
    """

    def __init__(self, path: Path, training: Training) -> None:
        self._path = path
        self._found: dict[str, tuple[float, float]] = {}
        try:
            lines = path.read_text().splitlines() if path.exists() else []
            if not lines:
                self._append(asdict(training))
                return
            stored = json.loads(lines[0])
            # A kill may have cut the last line.
            rows = [json.loads(line) for line in lines[1:] if line.endswith("}")]
            self._found = {row["setting"]: (row["accuracy"], row["seconds"]) for row in rows}
        except (ValueError, KeyError) as error:
            raise FileError(f"{path} is damaged ({error}): remove it, and settings are trained again") from None
        if stored != asdict(training):
            raise SearchError(
                f"the accuracies in {path} come from another training ({stored} against {asdict(training)}): choose "
                "another folder"
            )

    def of(self, setting: str, train: Callable[[], float]) -> tuple[float, float]:
        """Accuracy of a setting, and the seconds that training it took.

        Args:
            setting: its hyperparameters as text.
            train: trains it, where that was not done before.
        """
        if setting not in self._found:
            started_s = time.monotonic()
            accuracy = train()
            self._found[setting] = accuracy, time.monotonic() - started_s
            if math.isfinite(accuracy):
                self._append({"setting": setting, "accuracy": accuracy, "seconds": self._found[setting][1]})
        return self._found[setting]

    def _append(self, row: Mapping[str, Any]) -> None:
        try:
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            raise FileError(f"cannot write {self._path}: {error.strerror}") from None
