"""The balanced score: every property that rule 7 of the design asks for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blsm
from blsm.errors import DomainError

REFERENCES = st.floats(0.01, 1e4)
SHARES = st.floats(0, 3)


@pytest.mark.parametrize(("accuracy", "latency_ms"), [(0.9, 20.0), (0.5, 0.0), (1.0, 98.9)])
def test_it_is_the_papers_number_at_100_ms(accuracy: float, latency_ms: float) -> None:
    expected = accuracy + math.log(100 - latency_ms) / math.log(100) - 1
    assert blsm.balanced_score(accuracy, latency_ms) == pytest.approx(expected)


@given(reference_ms=REFERENCES, accuracy=st.floats(0, 1), reference_accuracy=st.floats(0.1, 1))
def test_at_latency_0_it_is_the_relative_accuracy(
    reference_ms: float, accuracy: float, reference_accuracy: float
) -> None:
    score = blsm.balanced_score(accuracy, 0.0, reference_accuracy=reference_accuracy, reference_latency_ms=reference_ms)
    assert score == pytest.approx(accuracy / reference_accuracy)


@given(reference_ms=REFERENCES, first=SHARES, more=st.floats(1e-6, 1))
def test_it_falls_with_latency(reference_ms: float, first: float, more: float) -> None:
    latency_ms = np.array([first, first + more]) * reference_ms
    fast, slow = blsm.balanced_score(0.5, latency_ms, reference_latency_ms=reference_ms)
    assert slow < fast


@given(first=st.floats(0, 1), more=st.floats(1e-6, 1), latency_ms=st.floats(0, 300))
def test_it_rises_with_accuracy(first: float, more: float, latency_ms: float) -> None:
    low, high = blsm.balanced_score([first, first + more], latency_ms)
    assert low < high


@given(reference_ms=REFERENCES, share=SHARES, scale=st.floats(0.001, 1000))
def test_it_does_not_depend_on_the_unit_of_time(reference_ms: float, share: float, scale: float) -> None:
    one = blsm.balanced_score(0.5, share * reference_ms, reference_latency_ms=reference_ms)
    other = blsm.balanced_score(0.5, share * reference_ms * scale, reference_latency_ms=reference_ms * scale)
    assert one == pytest.approx(other, abs=1e-6)


@pytest.mark.parametrize("latency_ms", [99.0, 99.5, 100.0, 101.0, 1e6])
def test_it_is_finite_at_and_beyond_the_reference(latency_ms: float) -> None:
    assert np.isfinite(blsm.balanced_score(0.5, latency_ms))


def test_the_continuation_is_smooth_and_straight() -> None:
    step = 1e-4
    at = blsm.balanced_score(0.0, 99.0 + step * np.array([-1, 0, 1]))
    assert np.diff(at)[0] == pytest.approx(np.diff(at)[1], rel=1e-3)
    assert at[1] == pytest.approx(-1)
    beyond = blsm.balanced_score(0.0, [100.0, 200.0, 300.0])
    assert np.diff(beyond)[0] == pytest.approx(np.diff(beyond)[1])


def test_a_unit_of_ones_own() -> None:
    expected = 0.5 + math.log((10 - 4) / 0.5) / math.log(10 / 0.5) - 1
    assert blsm.balanced_score(0.5, 4.0, reference_latency_ms=10.0, unit_ms=0.5) == pytest.approx(expected)


def test_arrays_of_any_shape() -> None:
    scores = blsm.balanced_score(np.array([[0.5], [0.9]]), np.array([1.0, 2.0, 150.0]))
    assert scores.shape == (2, 3)
    assert scores[1, 2] == blsm.balanced_score(0.9, 150.0)


def test_an_unknown_accuracy_has_no_score() -> None:
    assert np.isnan(blsm.balanced_score(float("nan"), 1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reference_latency_ms": 0.0}, "above 0 ms, got 0.0"),
        ({"reference_latency_ms": float("nan")}, "above 0 ms, got nan"),
        ({"reference_accuracy": -1.0}, "accuracy must be above 0, got -1.0"),
        ({"unit_ms": 100.0}, "unit must lie between 0 and the 100.0 ms reference, got 100.0"),
        ({"unit_ms": 0.0}, "unit must lie between"),
    ],
)
def test_bad_references_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(DomainError, match=message):
        blsm.balanced_score(0.5, 1.0, **arguments)
