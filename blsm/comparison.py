"""The two searches that `blsm.feasibility` compares: by measurement and by surrogate, else alike.

Imports KerasTuner, so it is imported where it is used only.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial

from blsm.accuracies import Accuracies, Training
from blsm.evaluation import check_device
from blsm.feasibility import Feasibility, feasibility
from blsm.hypermodels import list_blocks
from blsm.hypermodels.reach import random_settings
from blsm.images import Images
from blsm.latency_model import LatencyModel
from blsm.latency_sources import HardwareInTheLoop, LatencySource
from blsm.oracle import LatencyOracle
from blsm.screening import Limits, Screening
from blsm.searches import SearchTrial, read_search
from blsm.survey import survey
from blsm.tuner import LatencyTuner


class RememberingTuner(LatencyTuner):
    """A tuner that takes accuracies from where another search left them.

    Attributes:
        deciding_s: seconds spent between trials: on suggestions and on latency.
        training_s: seconds that training took, when it was done.

    Args:
        hypermodel: KerasTuner's.
        oracle: the oracle.
        accuracies: known so far.
        training: how to train.
        done: called after each trial.
        **kwargs: as of `LatencyTuner`.
    """

    def __init__(
        self,
        hypermodel: Any,
        oracle: LatencyOracle,
        accuracies: Accuracies,
        training: Training,
        done: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        self.deciding_s = self.training_s = 0.0
        self._accuracies = accuracies
        self._training = training
        self._done = done
        super().__init__(hypermodel, oracle, **kwargs)

    def pre_create_trial(self) -> None:
        super().pre_create_trial()
        self._asked_s = time.monotonic()

    def on_trial_begin(self, trial: Trial) -> None:
        super().on_trial_begin(trial)
        self.deciding_s += time.monotonic() - self._asked_s

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        """The accuracy of a setting, which depends on the setting and the training only."""

        def train() -> float:
            training = self._training
            keras.utils.clear_session()
            keras.utils.set_random_seed(training.seed)
            model = self._try_build(trial.hyperparameters)
            stop = keras.callbacks.EarlyStopping(accuracy, mode="max", patience=training.patience)
            options = {"epochs": training.epochs, "batch_size": training.batch_size, "callbacks": [stop]}
            history = self.hypermodel.fit(trial.hyperparameters, model, *args, **kwargs, **options)
            return float(max(history.history[accuracy]))

        accuracy: str = self.oracle.accuracy
        reached, seconds = self._accuracies.of(json.dumps(trial.hyperparameters.values, sort_keys=True), train)
        self.training_s += seconds
        return {accuracy: reached}

    def on_trial_end(self, trial: Trial) -> None:
        super().on_trial_end(trial)
        self._done()

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "deciding_s": self.deciding_s, "training_s": self.training_s}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.deciding_s, self.training_s = state["deciding_s"], state["training_s"]


@dataclass(frozen=True)
class Times:
    """Where the time of a search went, seconds.

    Attributes:
        deciding_s: on suggestions and on latency.
        training_s: on training, a setting that another search trained included.
    """

    deciding_s: float
    training_s: float

    @property
    def deciding_share(self) -> float:
        """Share of the search that went into suggestions and latency."""
        return self.deciding_s / (self.deciding_s + self.training_s)


@dataclass(frozen=True)
class SearchPlan:
    """What both searches have in common.

    Attributes:
        hypermodel: KerasTuner's, with integer labels.
        images: the data.
        training: how a setting is trained.
        trials: of each search.
        strategy: see `blsm.LatencyOracle`.
        reference_accuracy: of the HA-scores.
        reference_latency_ms: latency bound of the HA-scores; slower settings are refused before training.
    """

    hypermodel: Any
    images: Images
    training: Training
    trials: int
    reference_latency_ms: float
    strategy: str = "bayesian"
    reference_accuracy: float = 1.0

    def run(
        self, source: LatencySource, folder: Path, accuracies: Accuracies, done: Callable[[], None] = lambda: None
    ) -> Times:
        """Searches, or goes on with a search that was interrupted.

        Args:
            source: tells latency.
            folder: KerasTuner's project folder.
            accuracies: shared with other searches.
            done: called after each trial.

        Returns:
            Where the time went.

        Raises:
            SearchError: the search can't start or go on.
        """
        oracle = LatencyOracle(
            source,
            self.trials,
            reference_accuracy=self.reference_accuracy,
            reference_latency_ms=self.reference_latency_ms,
            max_latency_ms=self.reference_latency_ms,
            strategy=self.strategy,
            seed=self.training.seed,
        )
        # KerasTuner says on standard output that it goes on.
        with contextlib.redirect_stdout(io.StringIO()):
            tuner = RememberingTuner(
                self.hypermodel,
                oracle,
                accuracies,
                self.training,
                done,
                directory=str(folder.parent),
                project_name=folder.name,
            )
        data = self.images
        tuner.search(data.x_train, data.y_train, validation_data=(data.x_validation, data.y_validation), verbose=0)
        tuner.save()
        return Times(tuner.deciding_s, tuner.training_s)


def compare(
    plan: SearchPlan,
    latency_model: LatencyModel,
    hil: HardwareInTheLoop,
    folder: Path,
    done: Callable[[], None] = lambda: None,
) -> tuple[Feasibility, dict[str, Times]]:
    """Runs the search by surrogate and the search by measurement, and compares them; run again, it goes on.

    Args:
        plan: what they have in common.
        latency_model: the surrogate.
        hil: measures.
        folder: gets both searches, as `sm` and `hil`, and the accuracies.
        done: called after each trial.

    Returns:
        The comparison; and where the time went, by `sm` and `hil`.

    Raises:
        FingerprintError: surrogate and device are not the same device, machine and software.
        FeasibilityError: the searches can't be compared.
        SearchError: a search can't start or go on.
    """
    check_device(latency_model, hil.hardware, f"the device in the loop is {hil.device}: take both of one")
    folder.mkdir(parents=True, exist_ok=True)
    accuracies = Accuracies(folder / "accuracies.sqlite", plan.training)
    sources: dict[str, LatencySource] = {"sm": latency_model, "hil": hil}
    times = {role: plan.run(source, folder / role, accuracies, done) for role, source in sources.items()}
    found = feasibility(read_search(folder / "hil"), read_search(folder / "sm"), seed=plan.training.seed)
    return found, times


def reference_latency_ms(hypermodel: Any, latency_model: LatencyModel, seed: int = 0) -> float:
    """The latency bound that `reference_latency_ms="auto"` of a search by this surrogate is, milliseconds.

    Raises:
        CoverageError: the surrogate does not cover what the hypermodel can reach.
        SearchError: no setting could be built.
    """
    space = next(random_settings(hypermodel, seed))
    return survey(Screening(latency_model, hypermodel, Limits()), space, math.nan, seed)


def network_of(hypermodel: Any, trial: SearchTrial) -> Any:
    """The network of a trial: its blocks where the hypermodel can list them, else a Keras model."""
    hp = keras_tuner.HyperParameters()
    hp.values = json.loads(trial.setting)
    blocks = list_blocks(hypermodel, hp)
    return hypermodel.build(hp) if blocks is None else blocks
