"""The Pareto front against its definition, and the area that it dominates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import blsm
from blsm.errors import DomainError

#: Few values, so that ties are common.
POINTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=20)


@given(points=POINTS)
def test_the_front_is_what_no_other_dominates(points: list[tuple[int, int]]) -> None:
    accuracy, latency_ms = (list(column) for column in zip(*points, strict=True)) if points else ([], [])
    expected = {
        index
        for index, (a, ms) in enumerate(points)
        if not any(b >= a and other <= ms and (b, other) != (a, ms) for b, other in points)
    }
    front = blsm.pareto_front(accuracy, latency_ms).tolist()
    assert set(front) == expected
    assert front == sorted(front, key=lambda index: (latency_ms[index], index))


def test_equal_networks_stay_together() -> None:
    assert blsm.pareto_front([0.9, 0.5, 0.9, 0.9], [2.0, 1.0, 2.0, 3.0]).tolist() == [1, 0, 2]


def test_what_is_not_known_is_not_on_the_front() -> None:
    assert blsm.pareto_front([np.nan, 0.5, 0.9], [1.0, 2.0, np.nan]).tolist() == [1]


@given(points=POINTS)
def test_the_hypervolume_counts_the_dominated_cells(points: list[tuple[int, int]]) -> None:
    accuracy, latency_ms = (list(column) for column in zip(*points, strict=True)) if points else ([], [])
    cells = {(a, ms) for p, q in points for a in range(1, p) for ms in range(q, 5)}
    assert blsm.hypervolume(accuracy, latency_ms, 1.0, 5.0) == pytest.approx(len(cells))


def test_two_lists_of_one_length() -> None:
    with pytest.raises(DomainError, match="lists of one length, got shapes"):
        blsm.pareto_front([0.5, 0.6], [1.0])
