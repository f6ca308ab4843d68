from __future__ import annotations

import pytest

from blsm.feasibility import Feasibility, feasibility
from blsm.remeasured import remeasure
from blsm.score import balanced_score
from blsm.searches import SearchTrial


def _search(shift: float = 1.0) -> list[SearchTrial]:
    """Six trials, all on the front; `shift` multiplies latencies."""
    return [
        SearchTrial(0.5 + 0.05 * n, ms, float(balanced_score(0.5 + 0.05 * n, ms)), f"{n}", name=f"{n}")
        for n, ms in enumerate(shift * ms for ms in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0))
    ]


def _found(predicted_too_low: float = 1.0) -> Feasibility:
    return feasibility(_search(), _search(1 / predicted_too_low), resamples=20)


def test_a_perfect_surrogate_is_as_good() -> None:
    again = remeasure(_found(), lambda trial: trial.latency_ms)
    assert (again.hypervolume_ratio, again.error) == (1.0, 0.0)
    assert again.sentence.startswith("measured again, the surrogate's front dominates 1.00 times the area")
    assert "is as good" in again.sentence


def test_what_was_promised_and_is_not_there_shows() -> None:
    found = _found(predicted_too_low=1.5)
    again = remeasure(found, lambda trial: 1.5 * trial.latency_ms)
    # The surrogate was off by a third, but the networks are those of the other search.
    assert again.error == pytest.approx(1 / 3)
    assert again.hypervolume_ratio == pytest.approx(1.0)
    worse = remeasure(found, lambda trial: 2.5 * trial.latency_ms)
    assert worse.hypervolume_ratio < 0.97
    assert "searching by measurement found better networks" in worse.sentence


def test_the_figures_are_named_by_trial() -> None:
    found = _found()
    again = remeasure(found, lambda trial: 2 * trial.latency_ms)
    assert again.to_json()["measured_ms"] == {trial.name: 2 * trial.latency_ms for trial in found.sm_front}
    assert again.to_json()["sentence"] == again.sentence
