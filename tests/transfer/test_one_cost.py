from __future__ import annotations

import numpy as np
import pytest

from blsm.transfer.one_cost import OneCost

RANDOM = np.random.default_rng(0)
COSTS = np.exp(RANDOM.normal(size=(60, 4)))
#: Three times the third cost, but for one in six.
LATENCY_MS = 3 * COSTS[:, 2] * np.where(np.arange(60) % 6, np.exp(0.02 * RANDOM.normal(size=60)), 2.0)
EVERY = np.arange(4)


def test_the_cost_that_latency_is_a_multiple_of_is_found() -> None:
    found = OneCost.of(EVERY, COSTS, LATENCY_MS)
    assert found is not None
    assert found.column == 2
    assert np.exp(found.factor) == pytest.approx(3, rel=0.02)
    assert 0.01 <= found.deviation < 0.05 < found.spread
    assert np.median(np.abs(np.exp(found.predict(COSTS)) / LATENCY_MS - 1)) < 0.03


def test_it_is_trusted_where_most_samples_agree_much_better_than_with_something_else() -> None:
    close, apart = (OneCost.of(columns, COSTS, LATENCY_MS) for columns in (EVERY, EVERY[:2]))
    assert close is not None
    assert apart is not None
    variance = np.array([0.01])
    assert close.share(variance) > 0.9
    assert apart.share(variance) < 0.1


def test_without_costs_there_is_none_and_what_is_not_positive_is_none() -> None:
    assert OneCost.of(EVERY[:0], COSTS, LATENCY_MS) is None
    assert OneCost.of(EVERY[2:3], COSTS * (np.arange(60) > 0)[:, None], LATENCY_MS) is None
    assert OneCost.from_arrays({}) is None


def test_it_survives_arrays() -> None:
    found = OneCost.of(EVERY, COSTS, LATENCY_MS)
    assert found is not None
    assert OneCost.from_arrays(found.to_arrays()) == found
