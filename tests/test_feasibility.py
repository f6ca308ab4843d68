from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from blsm.errors import FeasibilityError
from blsm.feasibility import Feasibility, feasibility
from blsm.score import balanced_score
from blsm.searches import FinishedSearch, SearchTrial


def _trial(accuracy: float, latency_ms: float, setting: str = "") -> SearchTrial:
    score = float(balanced_score(accuracy, latency_ms, reference_latency_ms=10.0))
    return SearchTrial(accuracy, latency_ms, score, setting)


def _trials(count: int = 40, seed: int = 0, *, slower: float = 1.0, settings: bool = True) -> list[SearchTrial]:
    """Networks that are the more accurate the slower, with noise; `slower` multiplies every latency."""
    random = np.random.default_rng(seed)
    latency_ms = np.exp(random.normal(0, 0.5, count))
    accuracy = 0.9 - 0.3 * np.exp(-latency_ms) - random.exponential(0.05, count)
    return [
        _trial(float(a), float(ms) * slower, f"{seed}/{number}" if settings else "")
        for number, (a, ms) in enumerate(zip(accuracy, latency_ms, strict=True))
    ]


def _compared(hil: list[SearchTrial], sm: list[SearchTrial]) -> Feasibility:
    return feasibility(hil, sm, resamples=200)


def test_the_figures_are_those_of_the_definition() -> None:
    # HA-scores by hand: the front of each search is its first and last trial.
    hil = [
        SearchTrial(a, ms, s)
        for a, ms, s in ((0.5, 1, 0.4), (0.4, 2, 0.2), (0.3, 3, 0.1), (0.3, 4, 0.0), (0.9, 5, 0.6))
    ]
    sm = [
        SearchTrial(a, ms, s)
        for a, ms, s in ((0.5, 1, 0.5), (0.4, 2, 0.4), (0.3, 3, 0.3), (0.3, 4, 0.2), (0.9, 5, 0.8))
    ]
    found = _compared(hil, sm)
    assert [trial.latency_ms for trial in found.hil_front] == [1, 5]
    # The one-dimensional distance pairs sorted values: (.1, .2, .2, .1, .2) / 5 and (.1, .2) / 2, in order.
    assert found.w_overall == pytest.approx(np.mean([0.2, 0.2, 0.2, 0.1, 0.2]))
    assert found.w_optimal == pytest.approx(0.15)
    assert found.hnq == pytest.approx(0.15 / 0.18)
    assert found.feasible
    # Against accuracy 0.3 and 5 ms, the worst of all trials: only the first trial dominates an area.
    assert found.hil_hypervolume == pytest.approx(0.2 * 4)


def test_identical_searches_are_feasible() -> None:
    trials = _trials()
    found = _compared(trials, trials)
    assert (found.w_overall, found.w_optimal, found.hnq, found.low, found.high) == (0, 0, 0, 0, 0)
    assert found.verdict == "feasible"
    assert found.sentence.startswith("feasible: ")


def test_fronts_that_differ_while_the_scores_do_not_are_infinitely_bad() -> None:
    scores = (0.1, 0.2, 0.3, 0.4, 0.5)
    hil = [SearchTrial(0.1 * n, n, score) for n, score in enumerate(scores, 1)]
    sm = [SearchTrial(0.9 if n == 1 else 0.1, n, score) for n, score in enumerate(scores, 1)]
    found = _compared(hil, sm)
    assert (found.w_overall, found.hnq, found.feasible) == (0, math.inf, False)
    assert found.to_json()["hnq"] is None


def test_one_pareto_point_is_a_sample_of_one() -> None:
    best = _trial(0.95, 0.01)
    hil, sm = [*_trials(seed=0), best], [*_trials(seed=1), _trial(0.95, 0.02)]
    found = _compared(hil, sm)
    assert (len(found.hil_front), len(found.sm_front)) == (1, 1)
    assert found.w_optimal == pytest.approx(abs(best.score - sm[-1].score))


def test_trials_at_large_that_differ_more_than_the_best_are_feasible() -> None:
    # The same fronts, but the surrogate search wasted its other trials.
    good = _trials(settings=False)
    wasted = [_trial(0.1 + 0.001 * n, 5 + 0.01 * n) for n in range(len(good))]
    fronts = [t for t in good if not any(o.accuracy >= t.accuracy and o.latency_ms < t.latency_ms for o in good)]
    found = feasibility([*fronts, *fronts, *good, *good], [*fronts, *fronts, *wasted, *wasted], resamples=200)
    assert found.hnq < found.high < 1
    assert found.verdict == "feasible"


def test_fronts_that_differ_more_than_the_trials_at_large_are_not_feasible() -> None:
    # Equal everywhere but at the top, where the surrogate promises what is not there.
    same = [_trial(0.3 + 0.001 * n, 2 + 0.01 * n) for n in range(60)]
    found = _compared([*same, *[_trial(0.5, 1.9)] * 6], [*same, *[_trial(0.9, 1.0)] * 6])
    assert found.low > 1
    assert found.verdict == "not feasible"
    assert not found.feasible


def test_few_noisy_trials_do_not_tell() -> None:
    found = _compared(_trials(8, 0), _trials(8, 1))
    assert found.low < 1 < found.high
    assert found.sentence.startswith("not enough trials to tell: ")


def test_a_ratio_of_noise_is_called_so() -> None:
    found = _compared(_trials(60, 0), _trials(60, 1))
    assert found.w_overall < found.w_chance
    assert found.verdict == "not enough trials to tell"
    assert f"{found.w_overall:.2g} apart where chance alone gives up to {found.w_chance:.2g}" in found.sentence
    # Trials that chance can't explain, at both ends.
    far = _compared(_trials(60, 0), [replace(trial, score=trial.score - 0.3) for trial in _trials(60, 1)])
    assert far.w_overall > far.w_chance
    assert "chance" not in far.sentence
    assert far.to_json()["w_chance"] == far.w_chance


def test_fronts_that_are_not_feasible_but_hardly_apart_are_called_so() -> None:
    # The same settings; the surrogate is off by next to nothing, but at the best of them only.
    same = [_trial(0.3 + 0.001 * n, 2 + 0.01 * n, f"same {n}") for n in range(60)]
    best = [_trial(0.9, 1.0, f"best {n}") for n in range(4)]
    found = _compared([*same, *best], [*same, *(replace(trial, score=trial.score + 0.001) for trial in best)])
    assert found.verdict == "not feasible"
    assert "but the searches are alike" in found.sentence


def test_the_interval_depends_on_the_seed_and_on_nothing_else() -> None:
    hil, sm = _trials(seed=0), [*_trials(20, seed=0, slower=1.1), *_trials(20, seed=2)]
    first, again, other = (feasibility(hil, sm, resamples=100, seed=seed) for seed in (0, 0, 1))
    assert (first.low, first.high) == (again.low, again.high) != (other.low, other.high)


def test_settings_that_both_tried_are_drawn_together() -> None:
    # Ten times the same pair of searches, one with settings: what they share can't differ by chance alone.
    hil, sm = _trials(seed=0), _trials(seed=0, slower=1.05)
    together = _compared(hil, sm)
    apart = _compared(_trials(seed=0, settings=False), _trials(seed=0, slower=1.05, settings=False))
    assert together.hnq == apart.hnq
    assert together.high - together.low < apart.high - apart.low


def test_a_better_front_has_more_hypervolume() -> None:
    found = _compared(_trials(), _trials(slower=0.8))
    assert found.sm_hypervolume > found.hil_hypervolume > 0


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ({"space": {"depth": {"max": 3}}}, {"space": {"depth": {"max": 4}}}, "different hypermodels: depth has other"),
        (
            {"space": {"depth": {}}},
            {"space": {"units": {}}},
            r"hypermodels: no hyperparameter in common \(depth against units",
        ),
        ({"device": "edge_cpu"}, {"device": "asic"}, "different devices: edge_cpu against asic"),
        (
            {"reference_latency_ms": 1.0},
            {"reference_latency_ms": 2.0},
            "different reference latencies, ms: 1.0 against 2.0",
        ),
        ({"reference_accuracy": 1.0}, {"reference_accuracy": 0.5}, "different reference accuracies"),
    ],
)
def test_searches_for_different_things_are_refused(ours: dict[str, Any], theirs: dict[str, Any], message: str) -> None:
    trials = tuple(_trials())
    with pytest.raises(FeasibilityError, match=message):
        feasibility(FinishedSearch("HIL", trials, **ours), FinishedSearch("SM", trials, **theirs))


def test_too_few_trials_are_refused() -> None:
    with pytest.raises(FeasibilityError, match=r"SM has 4 completed trials \(3 failed\), at least 5 are needed"):
        feasibility(_trials(), FinishedSearch("SM", tuple(_trials(4)), failed=3))


def test_searches_without_a_common_range_are_refused() -> None:
    with pytest.raises(
        FeasibilityError, match="no Pareto-optimal trial lies in a common range of latencies: HIL explored"
    ):
        feasibility(_trials(), _trials(slower=100))
