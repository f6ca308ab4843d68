"""The mean of two sums, one with the known devices among its parts and one of costs alone."""

from __future__ import annotations

import numpy as np
import pytest

from blsm._types import Array
from blsm.errors import FitError
from blsm.transfer import DevicePool
from blsm.transfer.encodings import join
from blsm.transfer.log_sums import LogSums, LogSumsSpace

RANDOM = np.random.default_rng(0)
COUNT = 200
COSTS = np.column_stack([10 ** RANDOM.uniform(-2, 2, COUNT), RANDOM.integers(1, 9, COUNT)])
KNOWN = COSTS @ np.array([[1.0, 0.1, 0.01], [0.1, 0.05, 1.0]])
NEW_MS: Array = COSTS @ np.array([0.2, 0.3]) * np.exp(0.05 * RANDOM.normal(size=COUNT))
#: The two sums do not agree on the last device: half of it is none of the costs.
ODD_MS = NEW_MS * np.where(np.arange(COUNT) % 2, 1.5, 1.0)


def _pool(**tables: Array) -> DevicePool:
    encodings, groups = join(**tables)
    return DevicePool(encodings, {f"d{n}": column for n, column in enumerate(KNOWN.T)}, groups)


POOL = _pool(physical=COSTS)
SPACE = LogSumsSpace.of(POOL, KNOWN)


def test_each_block_is_the_geometric_mean_of_the_sums() -> None:
    rows = slice(20)
    fitted = SPACE.fit(POOL.encodings[rows], KNOWN[rows], ODD_MS[rows])
    logarithms = [found.predict(POOL.encodings, KNOWN) for found in fitted.sums]
    assert len(logarithms) == 2
    assert np.abs(logarithms[0] - logarithms[1]).max() > 0.01
    np.testing.assert_allclose(fitted.predict(POOL.encodings, KNOWN), np.exp(np.mean(logarithms, axis=0)))


def test_a_device_whose_own_time_is_among_the_costs_is_predicted_by_it() -> None:
    # Neither is a sum of the costs; one is a device's time, but for one in ten.
    times = np.exp(np.random.default_rng(1).normal(size=(COUNT, 2)))
    own_ms = 0.3 * times[:, 1] * np.where(np.arange(COUNT) % 10 == 3, 1.4, 1.0)
    pool = _pool(physical=COSTS, times=times)
    space = LogSumsSpace.of(pool, KNOWN)
    rows = slice(20)
    usual = np.arange(COUNT) % 10 != 3
    predicted_ms = space.fit(pool.encodings[rows], KNOWN[rows], own_ms[rows]).predict(pool.encodings, KNOWN)
    np.testing.assert_allclose(predicted_ms[usual], own_ms[usual], rtol=0.02)
    # A device that none of them tells of is predicted as without them.
    other, without = (
        made.fit(made_pool.encodings[rows], KNOWN[rows], NEW_MS[rows]).predict(made_pool.encodings, KNOWN)
        for made, made_pool in ((space, pool), (SPACE, POOL))
    )
    np.testing.assert_allclose(other, without, rtol=0.05)
    again = LogSums.from_arrays(space.fit(pool.encodings[rows], KNOWN[rows], own_ms[rows]).to_arrays())
    np.testing.assert_array_equal(again.predict(pool.encodings, KNOWN), predicted_ms)
    low_ms, high_ms = again.intervals(pool.encodings, KNOWN, 1.645)
    assert ((low_ms <= own_ms) & (own_ms <= high_ms)).mean() >= 0.9


def test_intervals_hold_what_was_measured_and_shrink_with_samples() -> None:
    widths = []
    for count in (4, 40):
        fitted = SPACE.fit(POOL.encodings[:count], KNOWN[:count], NEW_MS[:count])
        low_ms, high_ms = fitted.intervals(POOL.encodings, KNOWN, 1.645)
        assert ((low_ms <= NEW_MS) & (high_ms >= NEW_MS)).mean() > 0.8
        widths.append(np.mean(np.log(high_ms / low_ms)))
    assert widths[1] < widths[0]


def test_without_costs_the_known_devices_are_all_there_is() -> None:
    pool = _pool(known=KNOWN)
    space = LogSumsSpace.of(pool, KNOWN)
    assert len(space.spaces) == 1
    new_ms = 2 * KNOWN[:, 1]
    fitted = space.fit(pool.encodings[:10], KNOWN[:10], new_ms[:10])
    assert np.median(np.abs(fitted.predict(pool.encodings, KNOWN) / new_ms - 1)) < 0.05


def test_it_survives_arrays() -> None:
    fitted = SPACE.fit(POOL.encodings[:8], KNOWN[:8], NEW_MS[:8])
    again = LogSums.from_arrays(fitted.to_arrays())
    np.testing.assert_array_equal(again.predict(POOL.encodings, KNOWN), fitted.predict(POOL.encodings, KNOWN))
    space = LogSumsSpace.from_arrays(SPACE.to_arrays())
    np.testing.assert_array_equal(
        space.references(POOL.encodings, KNOWN, 5), SPACE.references(POOL.encodings, KNOWN, 5)
    )


def test_what_an_earlier_blsm_made_is_refused() -> None:
    # Then there was one sum, whose arrays had no number.
    with pytest.raises(FitError, match="run `blsm transfer` again"):
        LogSumsSpace.from_arrays(SPACE.spaces[0].to_arrays())
    # Later, there were no times.
    with pytest.raises(FitError, match="run `blsm transfer` again"):
        LogSumsSpace.from_arrays({name: array for name, array in SPACE.to_arrays().items() if name != "times"})
