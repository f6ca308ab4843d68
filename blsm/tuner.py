"""LatencyTuner: KerasTuner's tuner, and AutoKeras' one, around a LatencyOracle.

Imports KerasTuner, so it is loaded when first used: `blsm.LatencyTuner`.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial
from keras_tuner.src.distribute import utils as distribution
from keras_tuner.src.engine import tuner_utils

from blsm.files import write_atomically
from blsm.oracle import LatencyOracle
from blsm.trials import SCORE, FatalSearchError, ScoreObjective, check_objective

_log = logging.getLogger(__name__)

#: A worker tells the chief this often that it is alive, and asks again this long after it was told to wait; seconds.
_HEARTBEAT_S = 2.0
_PAUSE_S = 0.5


class LatencySearch:
    """What a tuner adds for a LatencyOracle; mixed into KerasTuner's and AutoKeras' tuners.

    In a distributed search the oracle of a worker is a client that knows little: whatever needs latency happens at the
    chief, and a trial carries its latency.
    """

    oracle: Any
    _idle = False

    def __init__(self, oracle: LatencyOracle, hypermodel: Any, **kwargs: Any) -> None:
        if not isinstance(oracle, LatencyOracle):
            raise FatalSearchError(f"oracle must be a blsm.LatencyOracle, got a {type(oracle).__name__}")
        oracle.bind(hypermodel)
        self._latency_oracle = oracle
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)  # type: ignore[call-arg]  # mixed into tuners

    def search(self, *args: Any, **kwargs: Any) -> Any:
        """Searches; see KerasTuner's `Tuner.search`.

        Raises:
            FatalSearchError: the search can't start, or can't go on.
        """
        if not distribution.has_chief_oracle():
            self.save()  # what is killed during its first trial is resumed too
        result = super().search(*args, **kwargs)  # type: ignore[misc]  # of the tuner that this is mixed into
        if distribution.is_chief_oracle():
            self._latency_oracle.raise_failure()
        return result

    def save(self) -> None:
        if not self._is_worker():  # type: ignore[attr-defined]
            self.oracle.save()
        content = json.dumps(self.get_state()).encode()  # type: ignore[attr-defined]
        write_atomically(Path(self._get_tuner_fname()), content)  # type: ignore[attr-defined]

    def pre_create_trial(self) -> None:
        if self._idle:
            time.sleep(_PAUSE_S)  # KerasTuner asks again at once
        self._idle = True

    def on_trial_begin(self, trial: Trial) -> None:
        self._idle = False
        super().on_trial_begin(trial)  # type: ignore[misc]

    def _run_and_update_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> None:
        with _heartbeat(self.oracle, trial.trial_id):
            results = self.run_trial(trial, *args, **kwargs)  # type: ignore[attr-defined]
        objective: ScoreObjective = self.oracle.objective
        results = with_score(results, objective)
        tuner_utils.validate_trial_results(results, objective, "Tuner.run_trial()")
        metrics = tuner_utils.convert_to_metrics_dict(results, objective)
        step = tuner_utils.get_best_step(results, objective)
        self.oracle.update_trial(trial.trial_id, metrics, step=step)


def with_score(results: Any, objective: ScoreObjective) -> Any:
    """What a trial returned, in a form that KerasTuner takes for this objective.

    A number is the accuracy; a mapping must hold the accuracy. The score itself is set by the oracle, which knows
    latency: until then the accuracy stands in its place, which is as good for comparing epochs.
    """
    if isinstance(results, list):
        return [with_score(result, objective) for result in results]
    if isinstance(results, Mapping):
        return {**results, SCORE: objective.get_value(results)}
    if isinstance(results, int | float) or hasattr(results, "dtype"):
        return {objective.accuracy: float(results), SCORE: float(results)}
    return results


@contextmanager
def _heartbeat(oracle: Any, trial_id: str) -> Iterator[None]:
    """Tells the chief, if there is one, that this worker is alive."""
    if not distribution.has_chief_oracle():
        yield
        return
    done = threading.Event()

    def beat() -> None:
        while not done.wait(_HEARTBEAT_S):
            oracle.get_trial(trial_id)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class LatencyTuner(LatencySearch, keras_tuner.Tuner):  # type: ignore[misc]  # untyped base
    """Searches a hypermodel with a LatencyOracle.

    Args:
        hypermodel: KerasTuner's, or a function that builds a model of hyperparameters. Where it offers `blocks(hp)`,
            the block configs of a setting, candidates are judged without building them.
        oracle: the oracle.
        **kwargs: as of `keras_tuner.Tuner`: directory, project_name, overwrite, max_model_size, ...
    """

    def __init__(self, hypermodel: Any, oracle: LatencyOracle, **kwargs: Any) -> None:
        check_objective(kwargs.pop("objective", None))
        super().__init__(oracle=oracle, hypermodel=hypermodel, **kwargs)

    def reload(self) -> None:
        """Takes over a saved search.

        Raises:
            FatalSearchError: the project is damaged, or was another search, of another hypermodel for example.
        """
        if self._is_worker():
            super().reload()
            return
        self._populate_initial_space()
        now = self.oracle.get_space()
        super().reload()
        saved = {_description(part) for part in self.oracle.get_space().space}
        if different := sorted({part.name for part in now.space if _description(part) not in saved}):
            raise FatalSearchError(
                f"the project at {self.project_dir} searched another hypermodel: it lacks or declares otherwise the "
                f"hyperparameters {', '.join(different)}: choose another project_name, or overwrite=True to start anew"
            )

    def _build_and_fit_model(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        model = self._try_build(trial.hyperparameters)
        results = self.hypermodel.fit(trial.hyperparameters, model, *args, **kwargs)
        # As KerasTuner does, to load the model later.
        path = Path(self._get_build_config_fname(trial.trial_id))
        path.write_text(json.dumps(model.get_build_config()))
        results = with_score(results, self.oracle.objective)
        tuner_utils.validate_trial_results(results, self.oracle.objective, "HyperModel.fit()")
        return results


def auto_tuner(
    oracle: LatencyOracle,
    hypermodel: Any,
    *,
    objective: Any = None,
    max_trials: int | None = None,
    seed: int | None = None,
    max_model_size: int | None = None,
    **kwargs: Any,
) -> Any:
    """AutoKeras' tuner around a LatencyOracle: early stopping, final fit and all; `ak.AutoModel` calls this.

    What both the oracle and `ak.AutoModel` can be told, the oracle decides: `max_trials` and `seed` of AutoModel are
    not used, and a warning says so where they differ. The objective is the score; `val_loss`, AutoModel's default, is
    taken for none. `max_model_size` becomes a limit of the oracle: another model is drawn in place of a larger one.

    Args:
        oracle: the oracle.
        hypermodel: AutoKeras' graph.
        objective: AutoModel's.
        max_trials: AutoModel's.
        seed: AutoModel's.
        max_model_size: AutoModel's.
        **kwargs: directory, project_name, overwrite, ...: used as they are.

    Raises:
        FatalSearchError: AutoModel was given another objective.
    """
    from autokeras.engine.tuner import AutoTuner

    check_objective(objective, "val_loss")
    defaults = {"max_trials": (max_trials, 100), "seed": (seed, None)}
    for name, (given, default) in defaults.items():
        if given not in (default, getattr(oracle, name)):
            _log.warning("%s=%s of AutoModel is not used: the oracle's %s holds", name, given, getattr(oracle, name))
    oracle.limit_params(max_model_size)

    class LatencyAutoTuner(LatencySearch, AutoTuner):  # type: ignore[misc]  # untyped base
        """AutoKeras' tuner around a LatencyOracle."""

    return LatencyAutoTuner(oracle, hypermodel, max_model_size=max_model_size, **kwargs)


def _description(hyperparameter: Any) -> str:
    """What KerasTuner saves of a hyperparameter: name, values, default and conditions."""
    return json.dumps([type(hyperparameter).__name__, hyperparameter.get_config()], sort_keys=True)
