"""Sums of positive parts over orders of magnitude, weighed by few samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from blsm._types import Array
from blsm.errors import FitError
from blsm.transfer import DevicePool
from blsm.transfer.encodings import join
from blsm.transfer.log_sum import LogSum, LogSumSpace

RANDOM = np.random.default_rng(0)
COUNT = 200
#: Work over four orders of magnitude, kernels, and a column that no latency depends on.
COSTS = np.column_stack([10 ** RANDOM.uniform(-2, 2, COUNT), RANDOM.integers(1, 9, COUNT), np.zeros(COUNT)])
SHAPES = np.log(COSTS[:, :2])


def _device(*weights: float) -> Array:
    latencies_ms: Array = COSTS @ np.array([*weights, 0.0])
    return latencies_ms


KNOWN = np.column_stack([_device(1.0, 0.1), _device(0.1, 0.05), _device(0.01, 1.0)])
ENCODINGS, GROUPS = join(vec=SHAPES, physical=COSTS)
SPACE = LogSumSpace.of(DevicePool(ENCODINGS, {f"d{n}": column for n, column in enumerate(KNOWN.T)}, GROUPS), KNOWN)


def _fit(latencies_ms: Array, rows: Array) -> LogSum:
    return SPACE.fit(ENCODINGS[rows], KNOWN[rows], latencies_ms[rows])


@pytest.mark.parametrize(
    "new_ms",
    [
        pytest.param(3 * KNOWN[:, 0], id="a known device at another clock"),
        pytest.param(0.5 * KNOWN[:, 0] + 0.5 * KNOWN[:, 2], id="a sum of two"),
        pytest.param(_device(0.3, 0.001), id="work alone"),
        pytest.param(_device(0.001, 20.0), id="kernels alone, slower than on all others"),
    ],
)
def test_ten_samples_weigh_the_parts(new_ms: Array) -> None:
    rows = SPACE.references(ENCODINGS, KNOWN, 10)
    assert len(set(rows.tolist())) == 10
    error = np.abs(_fit(new_ms, rows).predict(ENCODINGS, KNOWN) / new_ms - 1)
    assert np.mean(error <= 0.1) > 0.8


def test_what_no_sum_explains_is_learned_from_like_work() -> None:
    # Blocks of much work are half as slow again as any sum says.
    new_ms = _device(0.3, 0.1) * np.where(SHAPES[:, 0] > 0, 1.5, 1.0)
    rows = np.arange(60)
    fitted = _fit(new_ms, rows)
    unexplained = np.exp(np.log(new_ms[60:]).std())
    error = fitted.predict(ENCODINGS[60:], KNOWN[60:]) / new_ms[60:]
    assert np.log(error).std() < 0.1 < np.log(unexplained)


def test_intervals_hold_what_was_measured_and_shrink_with_samples() -> None:
    new_ms = _device(0.2, 0.3) * np.exp(0.05 * np.random.default_rng(1).normal(size=COUNT))
    widths = []
    for count in (4, 40):
        low_ms, high_ms = _fit(new_ms, np.arange(count)).intervals(ENCODINGS, KNOWN, 1.645)
        assert ((low_ms <= new_ms) & (new_ms <= high_ms)).mean() > 0.8
        widths.append(np.mean(np.log(high_ms / low_ms)))
    assert widths[1] < widths[0]


def test_families_share_the_weights_and_what_like_work_leaves_but_no_offsets() -> None:
    families = np.repeat(np.eye(2), COUNT // 2, axis=0)
    encodings, groups = join(family=families, vec=SHAPES, physical=COSTS)
    pool = DevicePool(encodings, {f"d{n}": column for n, column in enumerate(KNOWN.T)}, groups)
    space = LogSumSpace.of(pool, KNOWN)
    one, other = space.inputs(encodings[:2], KNOWN[:2]), space.inputs(encodings[-2:], KNOWN[-2:])
    same = replace(one, families=other.families)
    assert (one.residual_covariance(one) > one.residual_covariance(same)).all()
    assert (one.residual_covariance(same) > 0).all()  # the mix of work is not
    np.testing.assert_allclose(one.residual_variance(), np.diag(one.residual_covariance(one)))
    # Samples of one family alone say what the other takes.
    new_ms = _device(0.3, 0.001)
    fitted = space.fit(encodings[:10], KNOWN[:10], new_ms[:10])
    assert np.median(np.abs(fitted.predict(encodings[100:], KNOWN[100:]) / new_ms[100:] - 1)) < 0.1


def test_it_survives_arrays() -> None:
    fitted = _fit(3 * KNOWN[:, 0], np.arange(8))
    again = LogSum.from_arrays(fitted.to_arrays())
    np.testing.assert_array_equal(again.predict(ENCODINGS, KNOWN), fitted.predict(ENCODINGS, KNOWN))
    space = LogSumSpace.from_arrays(SPACE.to_arrays())
    np.testing.assert_array_equal(space.references(ENCODINGS, KNOWN, 5), SPACE.references(ENCODINGS, KNOWN, 5))


def test_what_an_earlier_blsm_made_is_refused() -> None:
    arrays = SPACE.to_arrays()
    np.testing.assert_array_equal(LogSumSpace.from_arrays(arrays).start, SPACE.start)
    with pytest.raises(FitError, match="run `blsm transfer` again"):
        LogSumSpace.from_arrays({**arrays, "shapes": np.arange(2)})
