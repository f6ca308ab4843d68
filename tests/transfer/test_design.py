"""Rows that are worth measuring."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from blsm._types import Array
from blsm.transfer.design import a_optimal, d_optimal

Design = Callable[..., Array]
BOTH = pytest.mark.parametrize("design", [d_optimal, a_optimal])


@BOTH
def test_rows_are_distinct_even_where_nothing_is_left_to_learn(design: Design) -> None:
    assert sorted(design(np.ones((6, 6)), 6, 0.1).tolist()) == list(range(6))


@BOTH
def test_of_rows_that_tell_the_same_one_is_chosen(design: Design) -> None:
    features = np.repeat(np.eye(3), 4, axis=0)
    rows = design(features @ features.T, 3, 1e-3)
    assert sorted((rows // 4).tolist()) == [0, 1, 2]


def test_one_goes_by_its_own_variance_the_other_by_that_of_all() -> None:
    # A row on its own that varies most, and ten that vary together.
    covariance = np.zeros((11, 11))
    covariance[0, 0], covariance[1:, 1:] = 2.0, 1.0
    assert d_optimal(covariance, 1, 0.1)[0] == 0
    assert a_optimal(covariance, 1, 0.1)[0] > 0


@BOTH
def test_a_better_design_leaves_less_variance_than_chance(design: Design) -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 8)) * np.geomspace(3, 0.3, 8)
    covariance = features @ features.T

    def left(rows: Array) -> float:
        seen = covariance[:, rows]
        inner = covariance[np.ix_(rows, rows)] + 0.1 * np.eye(len(rows))
        return float(np.trace(covariance - seen @ np.linalg.solve(inner, seen.T)))

    by_chance = [left(random.permutation(60)[:8]) for _ in range(20)]
    assert left(design(covariance, 8, 0.1)) < np.mean(by_chance)


@BOTH
def test_so_many_of_each_kind_are_chosen_or_all_there_are(design: Design) -> None:
    features = np.random.default_rng(0).normal(size=(40, 6))
    kinds = np.repeat([3, 7, 9], [30, 8, 2])
    rows = design(features @ features.T, 5, 0.1, kinds)
    assert len(set(rows.tolist())) == len(rows) == 12
    assert {kind: int((kinds[rows] == kind).sum()) for kind in (3, 7, 9)} == {3: 5, 7: 5, 9: 2}


def test_a_kind_is_not_asked_for_what_another_one_told() -> None:
    # The rows of one kind are those of the other: what is chosen of the first is not chosen again.
    features = np.vstack([np.eye(4), np.eye(4)])
    rows = a_optimal(features @ features.T, 2, 1e-3, np.repeat([0, 1], 4))
    assert sorted((rows % 4).tolist()) == [0, 1, 2, 3]
