"""Any KerasTuner oracle as a strategy, AutoKeras' greedy one among them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from blsm.errors import SearchError
from blsm.strategies.base import NoSetting, Search, Strategy
from blsm.strategies.encoding import Values

_OBJECTIVE = "bals"
_TUNER = "latency_oracle"


class WrappedOracle(Strategy):
    """Lets another oracle suggest, and tells it how its suggestions scored.

    The other oracle lives in memory only and with trials of its own: a suggestion that breaks a limit is a failed trial
    to it, which it will not repeat. Its `max_trials` does not count, and its state is saved with the search's.

    Args:
        oracle: a `keras_tuner.Oracle` of any kind, with no objective or the score's.

    Raises:
        SearchError: the oracle has another objective.
    """

    name: ClassVar[str] = "wrapped"

    def __init__(self, oracle: Any) -> None:
        import keras_tuner

        given = oracle.objective.name
        if given not in ("default_objective", _OBJECTIVE):
            raise SearchError(
                f"the wrapped {type(oracle).__name__} has the objective {given!r}, but a LatencyOracle maximises "
                f"{_OBJECTIVE!r}: leave its objective= out"
            )
        oracle.objective = keras_tuner.Objective(_OBJECTIVE, "max")
        oracle.max_trials = None
        oracle.max_consecutive_failed_trials = -1
        oracle.verbose = 0
        # It shares the project folder with the search, and must not write there.
        oracle.save = oracle._save_trial = lambda *_: None
        self._oracle = oracle
        #: Id of the search's trial -> id of the wrapped oracle's, and the latter's last one.
        self._ids: dict[str, str] = {}
        self._last = ""

    def suggest(self, search: Search) -> Values:
        from keras_tuner.engine.trial import TrialStatus

        self._tell(search)
        self._oracle.update_space(search.space)
        # Every trial has a worker of its own: an oracle gives a worker that asks again the trial that it has.
        worker = f"{_TUNER}_{len(self._oracle.trials)}"
        with _seeded(int(search.random.integers(2**32))):
            trial = self._oracle.create_trial(worker)
        if trial.status != TrialStatus.RUNNING:
            raise NoSetting(wait=trial.status == TrialStatus.IDLE)
        self._last = trial.trial_id
        return dict(trial.hyperparameters.values)

    def refuse(self, values: Values) -> None:
        self._end(self._last, None)
        self._last = ""

    def get_state(self) -> dict[str, Any]:
        trials = [trial.get_state() for trial in self._oracle.trials.values()]
        return {"oracle": self._oracle.get_state(), "trials": trials, "ids": self._ids, "last": self._last}

    def set_state(self, state: dict[str, Any]) -> None:
        from keras_tuner.engine.trial import Trial

        self._oracle.trials = {data["trial_id"]: Trial.from_state(data) for data in state["trials"]}
        self._oracle.set_state(state["oracle"])
        self._ids = dict(state["ids"])
        self._last = state["last"]

    def _tell(self, search: Search) -> None:
        """Brings the wrapped oracle up to date with the search's trials."""
        for trial in search.trials:
            if trial.name not in self._ids:
                # The newest trial is the last suggestion; after a kill it may be one that was not saved here any more.
                self._ids[trial.name], self._last = self._last, ""
            if not trial.running and self._ids[trial.name] in self._running():
                self._end(self._ids[trial.name], trial.score)

    def _running(self) -> set[str]:
        return {trial.trial_id for trial in self._oracle.ongoing_trials.values()}

    def _end(self, name: str, score: float | None) -> None:
        """Ends one of the wrapped oracle's trials: with a score, or as failed."""
        from keras_tuner.engine.trial import TrialStatus

        trial = self._oracle.trials[name]
        trial.status = TrialStatus.FAILED
        if score is not None:
            self._oracle.update_trial(name, {_OBJECTIVE: score})
            trial.status = TrialStatus.COMPLETED
        self._oracle.end_trial(trial)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds numpy's global random numbers for a while: AutoKeras' greedy oracle draws from them."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)
