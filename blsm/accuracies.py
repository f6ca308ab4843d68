"""What settings of a hypermodel reached when they were trained, for several searches to share."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from blsm.errors import FileError, SearchError
from blsm.files import write_atomically


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
    """What settings reached, in a JSON file, so that no setting is trained twice.

    Args:
        path: the file; made if it is missing.
        training: how settings are trained.

    Raises:
        SearchError: the file's accuracies come from another training.
        FileError: it is damaged or can't be written.
    """

    def __init__(self, path: Path, training: Training) -> None:
        self._path = path
        self._training = asdict(training)
        self._found: dict[str, tuple[float, float]] = {}
        if not path.exists():
            self._write()
            return
        try:
            stored = json.loads(path.read_text())
            self._found = {setting: (float(row[0]), float(row[1])) for setting, row in stored["accuracies"].items()}
            other = stored["training"] != self._training
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileError(f"{path} is damaged ({error}): remove it, and settings are trained again") from None
        if other:
            raise SearchError(
                f"the accuracies in {path} come from another training ({stored['training']} against "
                f"{self._training}): choose another folder"
            )

    def of(self, setting: str, train: Callable[[], float]) -> tuple[float, float]:
        """Accuracy of a setting, and the seconds that training it took.

        Args:
            setting: its hyperparameters as text.
            train: trains it, where that was not done before; what is no number is not kept.
        """
        if setting in self._found:
            return self._found[setting]
        started_s = time.monotonic()
        accuracy = train()
        result = accuracy, time.monotonic() - started_s
        if math.isfinite(accuracy):
            self._found[setting] = result
            self._write()
        return result

    def _write(self) -> None:
        content = {"training": self._training, "accuracies": self._found}
        write_atomically(self._path, json.dumps(content, indent=1).encode())
