"""Is a surrogate good enough to search with? A hardware-in-the-loop search (HIL) against a surrogate search (SM).

Source: BLSM, Section 4.3: Wasserstein distances between the HA-scores of both searches, and their ratio HNQ. The
HA-score of a trial is its balanced accuracy-latency score, with the latency that its search saw.

HNQ is a ratio of two distances: where a surrogate is so good that the searches hardly differ, both are noise and HNQ is
about 1. So the verdict also says whether the searches are further apart than chance would bring them, and
`blsm.remeasured` what the surrogate's front is worth on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
        w_chance: what `w_overall` is at most, in 90 % of cases, when all trials are dealt to two searches at random.
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
    w_chance: float
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
    def alike(self) -> bool:
        """Whether the searches are no further apart than chance would bring them: then HNQ is a ratio of noise."""
        return self.w_overall <= self.w_chance

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
        alike = (
            f"; but the searches are alike, HA-scores {self.w_overall:.2g} apart where chance alone gives up to "
            f"{self.w_chance:.2g}: HNQ is a ratio of noise then, go by the surrogate's front, measured again"
        )
        if self.verdict == "not feasible":
            return (
                f"not feasible: what the surrogate search{where} finds to be best differs more from the measured "
                f"search than its trials at large do ({interval}){alike if self.alike else ''}"
            )
        advice = alike if self.alike else "; run more trials of both"
        return f"not enough trials to tell: the interval holds 1 ({interval}){advice}"

    def to_json(self) -> dict[str, Any]:
        """All figures as JSON data."""
        return {
            "verdict": self.verdict,
            "sentence": self.sentence,
            "hnq": finite(self.hnq),
            "hnq_low": finite(self.low),
            "hnq_high": finite(self.high),
            "w_overall": self.w_overall,
            "w_optimal": self.w_optimal,
            "w_chance": self.w_chance,
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
        resamples: of the bootstrap, and of what chance brings.
        seed: of both.

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
    w_chance = _by_chance(scores(hil.trials), scores(sm.trials), resamples, seed)
    return Feasibility(
        hil,
        sm,
        hil_front,
        sm_front,
        distance(hil.trials, sm.trials),
        distance(hil_front, sm_front),
        w_chance,
        low,
        high,
        front_hypervolume(hil_front, worst),
        front_hypervolume(sm_front, worst),
        worst,
    )


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


def finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if np.isfinite(value) else None


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


def _by_chance(ours: Array, theirs: Array, resamples: int, seed: int) -> float:
    """How far apart searches of these sizes are where chance alone deals their scores: a permutation test's bound."""
    rng = np.random.default_rng(seed)
    pooled = np.concatenate([ours, theirs])
    dealt = (np.split(rng.permutation(pooled), [len(ours)]) for _ in range(resamples))
    return float(np.quantile([_wasserstein(*parts) for parts in dealt], DEFAULT_LEVEL))


def _wasserstein(ours: Array, theirs: Array) -> float:
    from scipy.stats import wasserstein_distance

    return float(wasserstein_distance(ours, theirs))


def _counts(search: FinishedSearch, optimal: Sequence[SearchTrial]) -> dict[str, int]:
    return {"trials": len(search.trials), "failed": search.failed, "pareto": len(optimal)}
