from __future__ import annotations

import math

import numpy as np
import pytest

from blsm.errors import DomainError
from blsm.intervals import conformal_quantile, log_errors, normal_quantile, normal_scores


def test_the_quantile_is_the_one_of_the_finite_sample() -> None:
    scores = [float(number) for number in range(1, 20)]  # 19 scores: ceil(20 * 0.9) = 18
    assert conformal_quantile(scores, 0.9) == 18
    assert conformal_quantile(scores[::-1], 0.95) == 19
    assert conformal_quantile(scores[:9], 0.9) == 9


def test_too_few_scores_promise_nothing() -> None:
    assert conformal_quantile([0.1] * 8, 0.9) == math.inf
    assert conformal_quantile([], 0.5) == math.inf


@pytest.mark.parametrize("level", [0, 1, -0.1, 90, math.nan])
def test_a_level_is_a_share(level: float) -> None:
    with pytest.raises(DomainError, match="above 0 and below 1"):
        conformal_quantile([0.1], level)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("count", [19, 100])
def test_the_promised_share_lies_inside_whatever_the_distribution(level: float, count: int) -> None:
    rng = np.random.default_rng(0)
    inside = [new <= conformal_quantile(list(old), level) for *old, new in rng.lognormal(size=(1500, count + 1))]
    assert level - 0.03 < np.mean(inside) < level + 1 / (count + 1) + 0.03


def test_scores_are_relative_and_alike_in_both_directions() -> None:
    scores = log_errors(np.array([1.0, 2.0, 4.0]), np.array([2.0, 1.0, 4.0]))
    assert scores == pytest.approx((0.0, math.log(2), math.log(2)))


def test_scores_of_a_deviation_give_back_the_normal_quantile() -> None:
    scores = normal_scores(0.02, 999)
    assert conformal_quantile(scores, 0.9) == pytest.approx(0.02 * normal_quantile(0.9), rel=0.01)
    assert normal_quantile(0.9) == pytest.approx(1.6449, abs=1e-4)
