"""LatencyOracle: a KerasTuner oracle that maximises the balanced accuracy-latency score.

Imports KerasTuner, so it is loaded when first used: `blsm.LatencyOracle`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.src.distribute import utils as distribution

from blsm._types import Array
from blsm.accuracy_prior import AccuracyPredictor, SearchPrior
from blsm.errors import BlsmError, SearchError
from blsm.estimates import estimate_to_json
from blsm.files import write_atomically
from blsm.latency_model import LatencyEstimate
from blsm.latency_sources import LatencySource
from blsm.pareto import pareto_front
from blsm.score import REFERENCE_ACCURACY, REFERENCE_LATENCY_MS, balanced_score, latency_term
from blsm.screening import Limits, Screening
from blsm.searches import BLOCKS
from blsm.strategies import Bayesian, NoSetting, Observation, Search, Strategy
from blsm.strategies import strategy as make_strategy
from blsm.survey import survey
from blsm.trials import (
    SCORE,
    FatalSearchError,
    ScoreObjective,
    TrialResult,
    check_objective,
    start_latency,
    start_metrics,
)

_log = logging.getLogger(__name__)

SCHEMA = 1
#: The search ends after this many settings in a row that break a limit: where judging one is cheap, where it is dear.
_MOST_REFUSED_CHEAP, _MOST_REFUSED = 10_000, 200
#: This many settings in a row that can't even be built are no accident.
_MOST_UNBUILDABLE = 20


class LatencyOracle(keras_tuner.Oracle):  # type: ignore[misc]  # untyped base
    """Searches for networks that are accurate and fast.

    Latency is known before training: a setting that breaks a limit is refused before a training step, and another one
    is drawn. Use it with `LatencyTuner(hypermodel, oracle=oracle)`, with `ak.AutoModel(..., tuner=oracle)`, or with any
    other tuner after `oracle.bind(hypermodel)`.

    Each trial carries the metrics `latency_ms`, `latency_low_ms`, `latency_high_ms` and `latency_coverage` from its
    start, and the accuracy and `bals` at its end.

    Args:
        latency: a `LatencyModel`, `HardwareInTheLoop`, `Hybrid`, or another `LatencySource`.
        max_trials: how many settings are trained.
        reference_accuracy: the accuracy that counts 1 in the score.
        reference_latency_ms: the latency bound in the score, milliseconds; `auto`: twice the median of random settings.
        max_latency_ms: slower settings are refused, milliseconds.
        max_params: larger settings are refused, parameters as Keras counts them.
        max_macs: costlier settings are refused, multiply-accumulates of one inference.
        accuracy: the metric that is the accuracy; more is better.
        strategy: `bayesian`, `evolution`, `greedy`, `random`, a `blsm.strategies.Strategy`, or a `keras_tuner.Oracle`.
        accuracy_prior: predicts accuracy from earlier searches; the Bayesian strategy's prior mean.
        objective: not needed; `bals` is the only one.
        seed: the same seed gives the same search.
        worker_timeout_s: in a distributed search, a worker that is not heard of for so long has died, seconds; its
            trial is given to another one.
        **kwargs: as of `keras_tuner.Oracle`: hyperparameters, max_retries_per_trial, ...

    Attributes:
        refused: why settings were refused -> how many.
        reference_latency_ms: the latency bound; with `auto`, known when the search has started.

    Raises:
        FatalSearchError: an argument is wrong.
    """

    def __init__(
        self,
        latency: LatencySource,
        max_trials: int = 50,
        *,
        reference_accuracy: float = REFERENCE_ACCURACY,
        reference_latency_ms: float | str = REFERENCE_LATENCY_MS,
        max_latency_ms: float | None = None,
        max_params: int | None = None,
        max_macs: int | None = None,
        accuracy: str = "val_accuracy",
        strategy: str | Strategy | keras_tuner.Oracle = "bayesian",
        accuracy_prior: AccuracyPredictor | None = None,
        objective: Any = None,
        seed: int = 0,
        worker_timeout_s: float = 60.0,
        **kwargs: Any,
    ) -> None:
        check_objective(objective)
        if not (callable(getattr(latency, "latency", None)) and isinstance(getattr(latency, "device", None), str)):
            raise FatalSearchError(
                "latency must be a LatencyModel, HardwareInTheLoop(device), Hybrid(lm, hil), or have `device` and "
                f"`latency(network)` as they have; got {latency!r}"
            )
        super().__init__(ScoreObjective(accuracy), max_trials=max_trials, seed=seed, **kwargs)
        # KerasTuner takes a seed of 0 for none.
        self.seed = self._seed_state = seed
        self.source = latency
        self.accuracy = accuracy
        self.reference_accuracy = reference_accuracy
        self.reference_latency_ms: float = math.nan if reference_latency_ms == "auto" else _number(reference_latency_ms)
        self.worker_timeout_s = worker_timeout_s
        self.refused: Counter[str] = Counter()
        try:
            self.limits = Limits(max_latency_ms, max_params, max_macs)
            reference_ms = REFERENCE_LATENCY_MS if reference_latency_ms == "auto" else self.reference_latency_ms
            balanced_score(0.0, 0.0, reference_accuracy=reference_accuracy, reference_latency_ms=reference_ms)
            self.strategy = make_strategy(strategy, seed)
        except BlsmError as error:
            raise FatalSearchError(str(error)) from None
        _check_prior(accuracy_prior, self.strategy)
        self.accuracy_prior = accuracy_prior
        self._prior: SearchPrior | None = None
        self._screening: Screening | None = None
        self._surveyed = False
        self._failure: Exception | None = None
        #: What is known of the trials that start now, until they are saved.
        self._estimates: dict[str, LatencyEstimate] = {}
        #: Settings that were refused where judging is dear, by hash.
        self._refusals: dict[str, Observation] = {}
        self._refused_hashes: set[str] = set()
        self._seen: dict[str, float] = {}

    def bind(self, hypermodel: Any) -> None:
        """Says which hypermodel is searched; `LatencyTuner` and AutoKeras do so."""
        self._screening = Screening(self.source, hypermodel, self.limits)

    def limit_params(self, max_params: int | None) -> None:
        """Refuses settings of more parameters than this too, if the oracle's own limit is not lower."""
        if max_params is not None:
            lower = min(max_params, self.limits.max_params or max_params)
            self.limits = dataclasses.replace(self.limits, max_params=lower)

    def __call__(self, hypermodel: Any, **arguments: Any) -> Any:
        """Makes AutoKeras' tuner; `ak.AutoModel(..., tuner=oracle)` calls it. See `blsm.tuner.auto_tuner`."""
        from blsm.tuner import auto_tuner

        return auto_tuner(self, hypermodel, **arguments)

    # What the search has found.

    def score(self, accuracy: float | Array, latency_ms: float | Array) -> Array:
        """The balanced accuracy-latency score with this search's references."""
        return balanced_score(
            accuracy,
            latency_ms,
            reference_accuracy=self.reference_accuracy,
            reference_latency_ms=self.reference_latency_ms,
        )

    def result(self, trial: Trial) -> TrialResult:
        """A trial in short."""
        return TrialResult.of(trial, self.accuracy)

    def results(self) -> list[TrialResult]:
        """All trials in short, in the order in which they started."""
        return [self.result(self.trials[trial_id]) for trial_id in self.start_order]

    def pareto_front(self) -> list[Trial]:
        """The completed trials that no other beats in both accuracy and latency, fastest first."""
        found = [result for result in self.results() if result.accuracy is not None]
        front = pareto_front([r.accuracy or 0.0 for r in found], [r.latency_ms for r in found])
        return [self.trials[found[index].trial_id] for index in front]

    # What KerasTuner calls. Nothing may raise in `populate_space` and what else runs inside KerasTuner's lock: the lock
    # is not released then, and a chief hangs. Failures are kept, and raised outside.

    def create_trial(self, tuner_id: str) -> Trial:
        """The next trial of a worker.

        Raises:
            FatalSearchError: the search can't go on; the chief of a distributed search sends its workers home instead.
        """
        started_s = time.monotonic()
        self._release_lost_trials(tuner_id)
        trial = super().create_trial(tuner_id)
        if trial.status == TrialStatus.STOPPED and self._failure is None and self.ongoing_trials:
            # A worker that still trains may die: someone has to be left to take over its trial.
            trial.status = TrialStatus.IDLE
            self.tuner_ids.add(tuner_id)
        elif trial.metrics.exists(SCORE):
            trial.metrics = start_metrics(start_latency(trial))  # a retry starts anew
        # Workers could not be heard of meanwhile.
        self._seen = {name: seen_s + time.monotonic() - started_s for name, seen_s in self._seen.items()}
        self._seen[trial.trial_id] = time.monotonic()
        if not distribution.is_chief_oracle():
            self.raise_failure()
        return trial

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        try:
            values = self._next_setting(trial_id)
        except NoSetting as answer:
            if not (self.trials or answer.wait):
                self._failure = FatalSearchError(f"no setting can be tried: {self._refusal_report()}")
            elif not answer.wait:
                _log.warning("the search ends early, no setting is left: %s", self._refusal_report())
            return {"status": TrialStatus.IDLE if answer.wait else TrialStatus.STOPPED, "values": None}
        except BlsmError as error:
            self._failure = FatalSearchError(str(error))
        except Exception as error:  # noqa: BLE001  # raised again by `create_trial`
            self._failure = error
        if self._failure is not None:
            return {"status": TrialStatus.STOPPED, "values": None}
        return {"status": TrialStatus.RUNNING, "values": values}

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Records what a trial reached; the score follows from the accuracy and the trial's latency.

        Raises:
            FatalSearchError: the accuracy is missing.
        """
        values = dict(metrics)
        accuracy = self.objective.get_value(values)
        trial = self.trials[trial_id]
        if trial.status == TrialStatus.COMPLETED:
            return trial  # by another worker, when this one was taken for dead
        latency_ms = start_latency(trial).latency_ms
        values[SCORE] = float(self.score(accuracy, latency_ms)) if math.isfinite(accuracy) else math.nan
        if not trial.metrics.exists(self.accuracy):
            trial.metrics.register(self.accuracy, "max")
        return super().update_trial(trial_id, values, step=step)

    def end_trial(self, trial: Trial) -> None:
        """Ends a trial.

        Raises:
            FatalSearchError: too many trials failed one after the other.
        """
        if trial.trial_id in self.end_order:
            return  # ended by another worker, when this one was taken for dead
        if trial.trial_id in self._retry_queue:
            self._retry_queue.remove(trial.trial_id)
        metrics = self.trials[trial.trial_id].metrics
        if trial.status == TrialStatus.COMPLETED and math.isnan(metrics.get_last_value(SCORE)):
            trial.status = TrialStatus.INVALID
            trial.message = f"{self.accuracy} is not a number: training diverged"
        super().end_trial(trial)
        if not distribution.is_chief_oracle():
            self.raise_failure()

    def get_trial(self, trial_id: str) -> Trial:
        """A trial; a worker that asks for its own is alive."""
        self._seen[trial_id] = time.monotonic()
        return super().get_trial(trial_id)

    def raise_failure(self) -> None:
        """Raises what ended the search early, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _check_consecutive_failures(self) -> None:
        try:
            super()._check_consecutive_failures()
        except RuntimeError as error:
            self._failure = FatalSearchError(str(error))

    # Suggestions.

    def _next_setting(self, trial_id: str) -> dict[str, Any]:
        if self._failure is not None:
            raise self._failure
        screening = self._bound()
        if not self._surveyed:
            self._start(screening)
        random = np.random.default_rng([self.seed, len(self.trials)])
        unbuildable = 0
        cheap = screening.cheap(self.hyperparameters)
        for _ in range(_MOST_REFUSED_CHEAP if cheap else _MOST_REFUSED):
            values = self.strategy.suggest(self._search(screening, random))
            candidate = screening.candidate(values, self.hyperparameters)
            if candidate.space is not None:
                self.update_space(candidate.space)
            if candidate.estimate is not None and not candidate.refused:
                self._estimates[trial_id] = candidate.estimate
                return candidate.values
            self._refuse(values, candidate.refused, candidate.estimate, keep=not cheap)
            unbuildable = unbuildable + 1 if candidate.refused == "unbuildable" else 0
            if unbuildable == _MOST_UNBUILDABLE:
                raise SearchError(f"{unbuildable} settings in a row can't be built: {candidate.reason}")
        raise NoSetting

    def _search(self, screening: Screening, random: np.random.Generator) -> Search:
        """The search as a strategy sees it."""

        def screen(settings: Any) -> Array:
            latency_ms = screening.latencies(settings, self.hyperparameters)
            self.refused["screened out"] += int(np.count_nonzero(np.isnan(latency_ms)))
            return latency_ms

        def is_new(values: Mapping[str, Any]) -> bool:
            name = self._compute_values_hash(values)
            return name not in self._tried_so_far and name not in self._refused_hashes

        search = Search(
            self.hyperparameters,
            [self._observation(self.trials[trial_id]) for trial_id in self.start_order],
            list(self._refusals.values()),
            random,
            is_new,
            screen if screening.cheap(self.hyperparameters) else None,
            lambda latency_ms: latency_term(latency_ms, reference_latency_ms=self.reference_latency_ms),
            self.reference_accuracy,
        )
        if self.accuracy_prior is None:
            return search
        if self._prior is None:
            self._prior = SearchPrior(self.accuracy_prior, screening, self.hyperparameters)
        return dataclasses.replace(search, expected=self._prior.expected(search.completed))

    def _observation(self, trial: Trial) -> Observation:
        result = self.result(trial)
        running = trial.status in (TrialStatus.RUNNING, TrialStatus.INVALID)
        return Observation(trial.trial_id, result.values, result.latency_ms, result.accuracy, result.score, running)

    def _refuse(self, values: dict[str, Any], reason: str, estimate: LatencyEstimate | None, *, keep: bool) -> None:
        self.refused[reason] += 1
        name = self._compute_values_hash(values)
        self._refused_hashes.add(name)
        if keep:
            self._refusals[name] = Observation("", values, estimate.latency_ms if estimate else math.nan)
        self.strategy.refuse(values)

    def _refusal_report(self) -> str:
        counts = ", ".join(f"{count} {reason}" for reason, count in self.refused.items())
        limits = ", ".join(f"{name}={value}" for name, value in vars(self.limits).items() if value is not None)
        return f"refused were {counts or 'none'} (limits: {limits or 'none'})"

    def _start(self, screening: Screening) -> None:
        """Looks at the space before the first trial; settles the reference latency."""
        self.reference_latency_ms = survey(screening, self.hyperparameters, self.reference_latency_ms, self.seed)
        self._surveyed = True

    def _bound(self) -> Screening:
        if self._screening is None:
            raise SearchError(
                "the oracle does not know the hypermodel whose latency it is to tell: use "
                "LatencyTuner(hypermodel, oracle=oracle), or call oracle.bind(hypermodel) before the search"
            )
        return self._screening

    # Workers that die.

    def _release_lost_trials(self, tuner_id: str) -> None:
        """Queues the trials of dead workers again; a chief only, which hears of its workers through `get_trial`."""
        if not distribution.is_chief_oracle():
            return
        now_s = time.monotonic()
        for worker, trial in list(self.ongoing_trials.items()):
            silent_s = now_s - self._seen.get(trial.trial_id, now_s)
            if worker != tuner_id and silent_s > self.worker_timeout_s:
                _log.warning("worker %s is silent for %.0f s: trial %s is run again", worker, silent_s, trial.trial_id)
                del self.ongoing_trials[worker]
                self.tuner_ids.discard(worker)
                self._retry_queue.append(trial.trial_id)

    # Saving and resuming.

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state()
        return state | {
            "blsm": {
                "schema": SCHEMA,
                "settings": self._settings(),
                "reference_latency_ms": self.reference_latency_ms if self._surveyed else None,
                "refused": dict(self.refused),
                "refusals": {name: [refusal.values, refusal.latency_ms] for name, refusal in self._refusals.items()},
                "refused_hashes": sorted(self._refused_hashes),
                "strategy": self.strategy.get_state(),
            }
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Takes over a saved state.

        Raises:
            FatalSearchError: it was saved by another oracle, by a newer blsm, or with other settings.
        """
        remedy = "choose another project_name, or overwrite=True to start anew"
        where = f"the project at {self._project_dir}"
        own = state.get("blsm")
        if own is None:
            raise FatalSearchError(f"{where} was not saved by a LatencyOracle: {remedy}")
        if own["schema"] > SCHEMA:
            newer = f"{where} was saved by a newer blsm (schema {own['schema']}, this one reads {SCHEMA})"
            raise FatalSearchError(f"{newer}: update blsm, or {remedy}")
        saved, now = own["settings"], self._settings()
        reference_ms = own["reference_latency_ms"]
        if reference_ms is not None and not math.isnan(self.reference_latency_ms):
            saved = saved | {"reference_latency_ms": reference_ms}
            now = now | {"reference_latency_ms": self.reference_latency_ms}
        different = [
            f"{name}: {saved.get(name)!r} against {now[name]!r}" for name in now if saved.get(name) != now[name]
        ]
        if different:
            raise FatalSearchError(
                f"{where} was searched with other settings (saved against now: {'; '.join(different)}): {remedy}"
            )
        super().set_state(state)
        if reference_ms is not None:
            self.reference_latency_ms, self._surveyed = reference_ms, True
        self.refused = Counter(own["refused"])
        self._refusals = {name: Observation("", values, ms) for name, (values, ms) in own["refusals"].items()}
        self._refused_hashes = set(own["refused_hashes"])
        self.strategy.set_state(own["strategy"])

    def _settings(self) -> dict[str, Any]:
        """What scores and trials depend on: a search is resumed with the same only."""
        return {
            "device": self.source.device,
            "source": type(self.source).__name__,
            "accuracy": self.accuracy,
            "reference_accuracy": self.reference_accuracy,
            "strategy": self.strategy.name,
            "accuracy_prior": self.accuracy_prior and self.accuracy_prior.digest,
        }

    def save(self) -> None:
        _write_json(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Trial) -> None:
        folder = Path(self._get_trial_dir(trial.trial_id))
        if (estimate := self._estimates.pop(trial.trial_id, None)) is not None:
            trial.metrics = start_metrics(estimate)
            if estimate.blocks:
                _write_json(folder / BLOCKS, estimate_to_json(estimate))  # for reports
        _write_json(folder / "trial.json", trial.get_state())

    def reload(self) -> None:
        """Takes over a saved search, whenever it was killed: nothing that was done is lost or done twice.

        KerasTuner writes the trial, then the oracle; a kill between leaves a trial that the oracle does not know of, or
        one that it takes for running although it has ended.

        Raises:
            FatalSearchError: the project is damaged, or not this search's.
        """
        try:
            super().reload()
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            if isinstance(error, FatalSearchError):
                raise
            raise FatalSearchError(
                f"the project at {self._project_dir} is damaged ({error}): choose another project_name, or "
                "overwrite=True to start anew"
            ) from None
        self.trials: dict[str, Trial] = dict(sorted(self.trials.items()))
        self._retry_queue: list[str] = []
        for trial_id, trial in self.trials.items():
            if trial_id not in self.start_order:
                self.start_order.append(trial_id)
                self._record_values(trial)
            if trial.status == TrialStatus.RUNNING and trial.metrics.exists(SCORE):
                trial.status = TrialStatus.COMPLETED
                self.score_trial(trial)
            if trial.status in (TrialStatus.COMPLETED, TrialStatus.FAILED):
                if trial_id not in self.end_order:
                    self.end_order.append(trial_id)
            else:
                self._retry_queue.insert(0, trial_id)


def _check_prior(prior: Any, strategy: Strategy) -> None:
    """Raises FatalSearchError unless an accuracy prior is none, or one that the strategy takes."""
    if prior is None:
        return
    if not isinstance(prior, AccuracyPredictor):
        raise FatalSearchError(
            f"accuracy_prior must be a blsm.AccuracyPredictor, such as AccuracyPredictor.load(FILE), got {prior!r}"
        )
    if not isinstance(strategy, Bayesian):
        raise FatalSearchError(
            f"accuracy_prior is for strategy='bayesian' only, got strategy {strategy.name!r}: leave one of them out"
        )


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise FatalSearchError(f"reference_latency_ms must be milliseconds or 'auto', got {value!r}") from None


def _write_json(path: Path, data: Any) -> None:
    # A trial is saved five times: to wait for the disk each time takes longer than all else an oracle does.
    write_atomically(path, json.dumps(data).encode(), flush=False)
