"""A search whose trials are a formula. Tests load its classes, and run it as a process that they can kill.

python toy_search.py FOLDER BUNDLE TRIALS SECONDS: each run of a trial adds a line "ID PROCESS" to FOLDER/runs.txt.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import keras_tuner

import blsm


class Toy(keras_tuner.HyperModel):
    """A stem, one to three blocks of two families, a head; nothing is built, let alone trained."""

    def blocks(self, hp: Any) -> tuple[blsm.BlockConfig, ...]:
        image = {"height": 16, "width": 16}
        filters = hp.Choice("filters", [16, 32, 64])
        family = hp.Choice("family", ["mbconv", "res_v1"])
        blocks = [blsm.block_family("conv").config(**image, in_channels=8, filters=filters, kernel_size=3, strides=1)]
        shape = {**image, "in_channels": filters, "filters": filters, "kernel_size": 3, "strides": 1}
        ratio = hp.Int("expand_ratio", 2, 5, parent_name="family", parent_values=["mbconv"])
        more = {"expand_ratio": ratio} if family == "mbconv" else {}
        blocks += [blsm.block_family(family).config(**shape, **more)] * hp.Int("depth", 1, 3)
        return (*blocks, blsm.block_family("head").config(**image, in_channels=filters, units=10))

    def build(self, hp: Any) -> None:
        self.blocks(hp)


def accuracy(values: dict[str, Any]) -> float:
    """Larger networks are more accurate, to a degree."""
    size = values["filters"] / 64 + values["depth"] / 3 + values.get("expand_ratio", 3) / 5
    return 0.5 + 0.4 * size / (1 + size)


class ToyTuner(blsm.LatencyTuner):
    """Reads the accuracy off the formula."""

    seconds = 0.0
    log: Path | None = None

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> dict[str, float]:
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(f"{trial.trial_id} {os.getpid()}\n")
        time.sleep(self.seconds)
        return {"val_accuracy": accuracy(trial.hyperparameters.values)}


def main(folder: Path, bundle: str, trials: int, seconds: float) -> None:
    oracle = blsm.LatencyOracle(blsm.load(bundle), max_trials=trials, reference_latency_ms=0.5, worker_timeout_s=4)
    tuner = ToyTuner(Toy(), oracle, directory=folder, project_name="search")
    tuner.seconds, tuner.log = seconds, folder / "runs.txt"
    tuner.search(verbose=0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
