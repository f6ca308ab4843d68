"""What a trial carries beyond KerasTuner's: latency from its start, accuracy and score at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.src.engine.metrics_tracking import MetricsTracker

from blsm.errors import SearchError
from blsm.latency_model import LatencyEstimate

SCORE = "bals"
_LATENCY_METRICS = ("latency_ms", "latency_low_ms", "latency_high_ms", "latency_coverage")


class FatalSearchError(SearchError, keras_tuner.errors.FatalError):  # type: ignore[misc]  # untyped base
    """A search can't start or go on. KerasTuner stops at it, where it would take other errors for a failed trial."""


class ScoreObjective(keras_tuner.Objective):  # type: ignore[misc]  # untyped base
    """The score as an objective whose value, while a trial is running, is read off the accuracy.

    Latency does not change during a trial, so that the epoch of best accuracy is the epoch of best score; a worker
    needs to know no more.

    Args:
        accuracy: name of the metric.
    """

    def __init__(self, accuracy: str) -> None:
        super().__init__(SCORE, "max")
        self.accuracy = accuracy

    def has_value(self, logs: Mapping[str, Any]) -> bool:
        return self.accuracy in logs

    def get_value(self, logs: Mapping[str, Any]) -> float:
        if self.accuracy not in logs:
            raise FatalSearchError(
                f"training reports no {self.accuracy!r}, but {', '.join(map(repr, logs)) or 'nothing'}: pass "
                "validation data and compile with this metric, or name another one with LatencyOracle(accuracy=...)"
            )
        value = float(logs[self.accuracy])
        return -math.inf if math.isnan(value) else value


@dataclass(frozen=True)
class TrialResult:
    """A trial in short.

    Attributes:
        trial_id: KerasTuner's name of it.
        status: KerasTuner's status of it.
        values: the setting.
        latency_ms: milliseconds.
        low_ms: lower end of the latency's interval.
        high_ms: upper end of it.
        coverage: share of the network whose latency is known.
        accuracy: the accuracy that was reached; None before.
        score: the balanced accuracy-latency score; None before.
    """

    trial_id: str
    status: str
    values: Mapping[str, Any]
    latency_ms: float
    low_ms: float
    high_ms: float
    coverage: float
    accuracy: float | None
    score: float | None

    @classmethod
    def of(cls, trial: Trial, accuracy: str) -> Self:
        """Reads them off a trial.

        Args:
            trial: KerasTuner's.
            accuracy: name of the metric.
        """
        done = trial.status == TrialStatus.COMPLETED
        latency_ms, low_ms, high_ms, coverage = (
            math.nan if (value := _metric(trial, name)) is None else value for name in _LATENCY_METRICS
        )
        return cls(
            trial.trial_id,
            trial.status,
            trial.hyperparameters.values,
            latency_ms,
            low_ms,
            high_ms,
            coverage,
            accuracy=_metric(trial, accuracy) if done else None,
            score=_metric(trial, SCORE) if done else None,
        )


def check_objective(objective: Any, *allowed: str) -> None:
    """Raises FatalSearchError unless an objective is the score, is left out, or one of those allowed."""
    name = getattr(objective, "name", objective)
    if name not in (None, SCORE, *allowed):
        raise FatalSearchError(
            f"a LatencyOracle maximises {SCORE!r}, the balanced accuracy-latency score, and no other objective, got "
            f"{name!r}: leave objective= out, and name the accuracy with LatencyOracle(accuracy=...)"
        )


def start_metrics(estimate: LatencyEstimate) -> Any:
    """A trial's metrics at its start."""
    tracker = MetricsTracker()
    values = (estimate.latency_ms, estimate.low_ms, estimate.high_ms, estimate.coverage)
    for name, value in zip(_LATENCY_METRICS, values, strict=True):
        tracker.register(name, "max" if name == "latency_coverage" else "min")
        tracker.update(name, value)
    return tracker


def start_latency(trial: Trial) -> LatencyEstimate:
    """The latency that a trial's metrics hold."""
    latency_ms, low_ms, high_ms, coverage = (float(trial.metrics.get_last_value(name)) for name in _LATENCY_METRICS)
    return LatencyEstimate(latency_ms, low_ms, high_ms, coverage, ())


def _metric(trial: Trial, name: str) -> float | None:
    return float(trial.metrics.get_last_value(name)) if trial.metrics.exists(name) else None
