"""Is a surrogate good enough to search with? A hardware-in-the-loop search (HIL) against a surrogate search (SM).

Source: BLSM, Section 4.3: Wasserstein distances between the HA-scores of both searches, and their ratio HNQ. The
HA-score of a trial is its balanced accuracy-latency score, with the latency that its search saw.

HNQ is a ratio of two distances: where a surrogate is so good that the searches hardly differ, both are noise and HNQ is
about 1. So the verdict also says how far the searches are apart at all, and `remeasure` says what the surrogate's front
is worth on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from blsm._types import Array
from blsm.errors import FeasibilityError
from blsm.intervals import DEFAULT_LEVEL
from blsm.pareto import hypervolume, pareto_front
from blsm.searches import AnySearch, FinishedSearch, SearchTrial, as_search

#: Fewer completed trials than this say nothing about a search.
MINIMUM_TRIALS = 5

Verdict = Literal["feasible", "not feasible", "not enough trials to tell"]


@dataclass(frozen=True)
class Feasibility:
    """The verdict on a surrogate, and what it rests on.

    Attributes:
        hil: the search that measured.
        sm: the search that predicted.
        hil_front: Pareto-optimal trials of `hil`, by latency.
        sm_front: Pareto-optimal trials of `sm`, by predicted latency.
        w_overall: Wasserstein distance between the HA-scores of all completed trials of either search.
        w_optimal: the same of the Pareto-optimal trials only.
        low: lower end of the 90 % bootstrap interval of `hnq`.
        high: upper end.
        hil_hypervolume: area that `hil_front` dominates, accuracy x ms, see `feasibility`.
        sm_hypervolume: the same of `sm_front`, by predicted latency.
        worst: where hypervolumes begin: the lowest accuracy and the highest latency, ms, of any trial.
    """

    hil: FinishedSearch
    sm: FinishedSearch
    hil_front: tuple[SearchTrial, ...]
    sm_front: tuple[SearchTrial, ...]
    w_overall: float
    w_optimal: float
    low: float
    high: float
    hil_hypervolume: float
    sm_hypervolume: float
    worst: tuple[float, float]

    @property
    def hnq(self) -> float:
        """W_optimal / W_overall; 0 where both are 0 (equal searches), infinite where only W_overall is."""
        return ratio(self.w_optimal, self.w_overall)

    @property
    def feasible(self) -> bool:
        """The paper's verdict: HNQ < 1, the interval aside."""
        return self.hnq < 1

    @property
    def apart(self) -> float:
        """W_overall over the standard deviation of the HIL search's HA-scores: near 0, HNQ is a ratio of noise."""
        return ratio(self.w_overall, float(np.std(scores(self.hil.trials))))

    @property
    def verdict(self) -> Verdict:
        """The verdict that the interval allows: it must lie on one side of 1."""
        if self.high < 1:
            return "feasible"
        return "not feasible" if self.low >= 1 else "not enough trials to tell"

    @property
    def sentence(self) -> str:
        """The verdict in a plain sentence."""
        interval = f"HNQ {self.hnq:.2f}, 90 % interval {self.low:.2f} to {self.high:.2f}"
        where = f" on {self.sm.device}" if self.sm.device else ""
        if self.verdict == "feasible":
            return f"feasible: searching by the surrogate{where} finds what searching by measurement finds ({interval})"
        if self.verdict == "not feasible":
            return (
                f"not feasible: what the surrogate search{where} finds to be best differs more from the measured "
                f"search than its trials at large do ({interval})"
            )
        return (
            f"not enough trials to tell: the interval holds 1 ({interval}); the HA-scores of the searches are "
            f"{self.apart:.0%} of their spread apart; run more trials of both, or measure the surrogate's front"
        )

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON data."""
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "hnq": _finite(self.hnq),
            "hnq_low": _finite(self.low),
            "hnq_high": _finite(self.high),
            "w_overall": self.w_overall,
            "w_optimal": self.w_optimal,
            "apart": _finite(self.apart),
            "hil": {**_counts(self.hil, self.hil_front), "hypervolume": self.hil_hypervolume},
            "sm": {**_counts(self.sm, self.sm_front), "hypervolume": self.sm_hypervolume},
        }


def feasibility(
    hil: AnySearch,
    sm: AnySearch,
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Feasibility:
    """Compares a search by measurement with a search by surrogate.

    The interval is a percentile bootstrap over hyperparameter settings, so that a setting that both searches tried
    stays in both; each resample has Pareto-optimal sets of its own. A single Pareto point is a sample of one: W_optimal
    is then the mean distance to it. Failed trials count nowhere but in `FinishedSearch.failed`. Hypervolumes are taken
    against the lowest accuracy and the highest latency among all completed trials of both searches.

    Args:
        hil: the finished search by measurement: a KerasTuner project folder, a `FinishedSearch`, or a list of
            trials (`SearchTrial`, or KerasTuner's).
        sm: the finished search by surrogate.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        FileError: a folder is no finished search.
        FeasibilityError: the searches can't be compared: too few trials, no Pareto-optimal trial in the range of
            latencies that both explored, or different hypermodels, devices or references.
    """
    hil, sm = as_search(hil, "HIL"), as_search(sm, "SM")
    check_comparable(hil, sm)
    hil_front, sm_front = front(hil.trials), front(sm.trials)
    _check_common_range(hil, sm, hil_front, sm_front)
    worst = worst_corner([*hil.trials, *sm.trials])
    low, high = _bootstrap(hil.trials, sm.trials, resamples, seed)
    return Feasibility(
        hil,
        sm,
        hil_front,
        sm_front,
        distance(hil.trials, sm.trials),
        distance(hil_front, sm_front),
        low,
        high,
        front_hypervolume(hil_front, worst),
        front_hypervolume(sm_front, worst),
        worst,
    )


@dataclass(frozen=True)
class Remeasured:
    """What the device says of the surrogate's front.

    Attributes:
        front: the trials, with what the surrogate predicted.
        measured_ms: of each of them, milliseconds.
        hypervolume: area that they dominate with measured latencies, accuracy x ms.
        hil_hypervolume: area that the front of the search by measurement dominates.
    """

    front: tuple[SearchTrial, ...]
    measured_ms: tuple[float, ...]
    hypervolume: float
    hil_hypervolume: float

    @property
    def hypervolume_ratio(self) -> float:
        """Re-measured over HIL: 1 or more where the surrogate search found what the search by measurement found."""
        return ratio(self.hypervolume, self.hil_hypervolume)

    @property
    def error(self) -> float:
        """Mean absolute relative error of the predictions."""
        pairs = zip(self.front, self.measured_ms, strict=True)
        return float(np.mean([abs(trial.latency_ms / measured_ms - 1) for trial, measured_ms in pairs]))

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON data."""
        names = (trial.name for trial in self.front)
        return {
            "measured_ms": dict(zip(names, self.measured_ms, strict=True)),
            "mean_absolute_error": self.error,
            "hypervolume": self.hypervolume,
            "hypervolume_ratio": _finite(self.hypervolume_ratio),
        }


def remeasure(found: Feasibility, measure_ms: Callable[[SearchTrial], float]) -> Remeasured:
    """Measures the networks on the surrogate's front.

    Args:
        found: the comparison of the searches.
        measure_ms: measures the network of a trial, milliseconds.
    """
    measured_ms = tuple(map(measure_ms, found.sm_front))
    trials = [replace(trial, latency_ms=ms) for trial, ms in zip(found.sm_front, measured_ms, strict=True)]
    return Remeasured(found.sm_front, measured_ms, front_hypervolume(trials, found.worst), found.hil_hypervolume)


def front(trials: Sequence[SearchTrial]) -> tuple[SearchTrial, ...]:
    """The Pareto-optimal trials, by latency."""
    chosen = pareto_front([trial.accuracy for trial in trials], [trial.latency_ms for trial in trials])
    return tuple(trials[index] for index in chosen)


def distance(ours: Sequence[SearchTrial], theirs: Sequence[SearchTrial]) -> float:
    """Wasserstein distance between the HA-scores of two samples of trials."""
    return _wasserstein(scores(ours), scores(theirs))


def scores(trials: Sequence[SearchTrial]) -> Array:
    """The HA-scores of trials, shape (n,)."""
    return np.array([trial.score for trial in trials])


def ratio(part: float, whole: float) -> float:
    """Their quotient; 0 where both are 0, infinite where only the whole is."""
    if whole == 0:
        return 0.0 if part == 0 else float("inf")
    return part / whole


def worst_corner(trials: Sequence[SearchTrial]) -> tuple[float, float]:
    """The lowest accuracy and the highest latency, ms, of any trial: where a common hypervolume begins."""
    return min(trial.accuracy for trial in trials), max(trial.latency_ms for trial in trials)


def front_hypervolume(trials: Sequence[SearchTrial], worst: tuple[float, float]) -> float:
    """The area that trials dominate, accuracy x ms, against a worst accuracy and latency."""
    return hypervolume([trial.accuracy for trial in trials], [trial.latency_ms for trial in trials], *worst)


def check_comparable(hil: FinishedSearch, sm: FinishedSearch) -> None:
    """Raises FeasibilityError unless two searches are over the same hypermodel, device and references, and long enough.

    What a search does not say (a plain list of trials says nothing) is not compared.
    """
    for what, ours, theirs in (
        ("devices", hil.device, sm.device),
        ("reference latencies, ms", hil.reference_latency_ms, sm.reference_latency_ms),
        ("reference accuracies", hil.reference_accuracy, sm.reference_accuracy),
    ):
        if ours and theirs and ours != theirs:
            raise FeasibilityError(
                f"{hil.name} and {sm.name} are searches with different {what}: {ours} against {theirs}; "
                "compare searches that differ in their latency source only (`blsm compare` runs such)"
            )
    if different := _different_hyperparameters(hil, sm):
        raise FeasibilityError(
            f"{hil.name} and {sm.name} are searches over different hypermodels: {different}; compare searches that "
            "differ in their latency source only"
        )
    for search in (hil, sm):
        if len(search.trials) < MINIMUM_TRIALS:
            failed = f" ({search.failed} failed)" if search.failed else ""
            raise FeasibilityError(
                f"{search.name} has {len(search.trials)} completed trials{failed}, at least {MINIMUM_TRIALS} are "
                "needed; run more trials"
            )


def _different_hyperparameters(hil: FinishedSearch, sm: FinishedSearch) -> str:
    """What tells the hypermodels apart; empty where nothing does.

    A hyperparameter that one search alone has is no difference: KerasTuner learns of some while it builds models.
    """
    if not (hil.space and sm.space):
        return ""
    shared = [name for name in hil.space if name in sm.space]
    if not shared:
        return f"no hyperparameter in common ({', '.join(list(hil.space)[:3])} against {', '.join(list(sm.space)[:3])})"
    return ", ".join(f"{name} has other values" for name in shared if hil.space[name] != sm.space[name])


def _check_common_range(
    hil: FinishedSearch, sm: FinishedSearch, hil_front: Sequence[SearchTrial], sm_front: Sequence[SearchTrial]
) -> None:
    """Some Pareto-optimal trial must lie in the range of latencies that both searches explored."""
    ours, theirs = ([trial.latency_ms for trial in search.trials] for search in (hil, sm))
    low, high = max(min(ours), min(theirs)), min(max(ours), max(theirs))
    if not any(low <= trial.latency_ms <= high for trial in (*hil_front, *sm_front)):
        raise FeasibilityError(
            f"no Pareto-optimal trial lies in a common range of latencies: {hil.name} explored {min(ours):.4g} to "
            f"{max(ours):.4g} ms, {sm.name} {min(theirs):.4g} to {max(theirs):.4g} ms; check that both are of the same "
            "device, or run more trials"
        )


def _bootstrap(hil: Sequence[SearchTrial], sm: Sequence[SearchTrial], resamples: int, seed: int) -> tuple[float, float]:
    """The interval of HNQ. Settings that both tried are drawn together, the others of each search on their own."""
    rng = np.random.default_rng(seed)
    shared = sorted({t.setting for t in hil if t.setting} & {t.setting for t in sm})
    pairs = [
        ([i for i, t in enumerate(hil) if t.setting == setting], [i for i, t in enumerate(sm) if t.setting == setting])
        for setting in shared
    ]
    alone = [[i for i, trial in enumerate(trials) if trial.setting not in shared] for trials in (hil, sm)]
    columns = [np.array([(t.accuracy, t.latency_ms, t.score) for t in trials]) for trials in (hil, sm)]
    values = []
    for _ in range(resamples):
        drawn = [list(rng.choice(part, len(part))) if part else [] for part in alone]
        for number in rng.integers(len(pairs), size=len(pairs)) if pairs else ():
            for side in (0, 1):
                drawn[side] += pairs[number][side]
        ours, theirs = columns[0][drawn[0]], columns[1][drawn[1]]
        optimal = [part[pareto_front(part[:, 0], part[:, 1]), 2] for part in (ours, theirs)]
        values.append(ratio(_wasserstein(*optimal), _wasserstein(ours[:, 2], theirs[:, 2])))
    ends = np.quantile(values, [(1 - DEFAULT_LEVEL) / 2, (1 + DEFAULT_LEVEL) / 2], method="nearest")
    return float(ends[0]), float(ends[1])


def _wasserstein(ours: Array, theirs: Array) -> float:
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(ours, theirs))


def _counts(search: FinishedSearch, optimal: Sequence[SearchTrial]) -> dict[str, int]:
    return {"trials": len(search.trials), "failed": search.failed, "pareto": len(optimal)}


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if np.isfinite(value) else None
