"""Sums of positive parts over orders of magnitude, weighed by few samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from blsm._types import Array
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


def _pool(**more: Array) -> DevicePool:
    encodings, groups = join(vec=SHAPES, **more)
    return DevicePool(encodings, {f"d{n}": column for n, column in enumerate(KNOWN.T)}, groups)


POOL = _pool(physical=COSTS)
ENCODINGS = POOL.encodings
OF_KNOWN = LogSumSpace.of_known(POOL, KNOWN)
OF_COSTS = LogSumSpace.of_costs(POOL, KNOWN)
assert OF_COSTS is not None
BOTH = pytest.mark.parametrize("space", [OF_KNOWN, OF_COSTS], ids=["known and costs", "costs"])
NEW = pytest.mark.parametrize(
    "new_ms",
    [
        pytest.param(3 * KNOWN[:, 0], id="a known device at another clock"),
        pytest.param(0.5 * KNOWN[:, 0] + 0.5 * KNOWN[:, 2], id="a sum of two"),
        pytest.param(_device(0.3, 0.001), id="work alone"),
        pytest.param(_device(0.001, 20.0), id="kernels alone, slower than on all others"),
    ],
)


def _fit(space: LogSumSpace, latencies_ms: Array, rows: Array) -> LogSum:
    return space.fit(ENCODINGS[rows], KNOWN[rows], latencies_ms[rows])


def _predict_ms(fitted: LogSum) -> Array:
    latencies_ms: Array = np.exp(fitted.predict(ENCODINGS, KNOWN))
    return latencies_ms


@BOTH
@NEW
def test_ten_samples_weigh_the_parts(space: LogSumSpace, new_ms: Array) -> None:
    rows = space.references(ENCODINGS, KNOWN, 10)
    assert len(set(rows.tolist())) == 10
    error = np.abs(_predict_ms(_fit(space, new_ms, rows)) / new_ms - 1)
    assert np.mean(error <= 0.1) > 0.8


@BOTH
def test_what_no_sum_explains_is_learned_from_like_work(space: LogSumSpace) -> None:
    # Blocks of much work are half as slow again as any sum says.
    new_ms = _device(0.3, 0.1) * np.where(SHAPES[:, 0] > 0, 1.5, 1.0)
    error = _predict_ms(_fit(space, new_ms, np.arange(60)))[60:] / new_ms[60:]
    assert np.log(error).std() < 0.1


def test_what_known_devices_leave_tells_what_their_kin_does() -> None:
    # Every other block takes twice as long on the third device, whatever there is to do, and on the new one.
    odd = np.where(np.arange(COUNT) % 2, 2.0, 1.0)
    known = KNOWN * np.column_stack([np.ones(COUNT), np.ones(COUNT), odd])
    space = LogSumSpace.of_costs(POOL, known)
    assert space is not None
    new_ms, rows = 2 * known[:, 2], np.arange(20)
    fitted = space.fit(ENCODINGS[rows], known[rows], new_ms[rows])
    assert fitted.kinship.argmax() == 2
    predicted_ms = np.exp(fitted.predict(ENCODINGS, known))
    assert np.median(np.abs(predicted_ms / new_ms - 1)) < 0.05


@BOTH
def test_variances_are_those_of_measurements_and_shrink_with_samples(space: LogSumSpace) -> None:
    new_ms = _device(0.2, 0.3) * np.exp(0.05 * np.random.default_rng(1).normal(size=COUNT))
    means = []
    for count in (4, 40):
        fitted = _fit(space, new_ms, np.arange(count))
        middle, variance = fitted.predict(ENCODINGS, KNOWN), fitted.variance(ENCODINGS, KNOWN)
        assert (np.abs(np.log(new_ms) - middle) <= 1.645 * np.sqrt(variance)).mean() > 0.8
        means.append(variance.mean())
    assert means[1] < means[0]


def test_costs_are_as_fine_as_the_pool_has_them() -> None:
    fine = _pool(physical=COSTS.sum(axis=1, keepdims=True), terms=COSTS)
    space = LogSumSpace.of_costs(fine, KNOWN)
    assert space is not None
    assert len(space.costs) == 2  # the column that is always 0 is no part
    assert len(LogSumSpace.of_known(fine, KNOWN).costs) == 1
    assert LogSumSpace.of_costs(_pool(), KNOWN) is None


def test_families_share_the_weights_and_what_like_work_leaves_but_no_offsets() -> None:
    families = np.repeat(np.eye(2), COUNT // 2, axis=0)
    pool = _pool(family=families, physical=COSTS)
    space, encodings = LogSumSpace.of_known(pool, KNOWN), pool.encodings
    one, other = space.inputs(encodings[:2], KNOWN[:2]), space.inputs(encodings[-2:], KNOWN[-2:])
    same = replace(one, families=other.families)
    assert (one.residual_covariance(one) > one.residual_covariance(same)).all()
    assert (one.residual_covariance(same) > 0).all()  # the mix of work is not
    np.testing.assert_allclose(one.residual_variance(), np.diag(one.residual_covariance(one)))
    # Samples of one family alone say what the other takes.
    new_ms = _device(0.3, 0.001)
    fitted = space.fit(encodings[:10], KNOWN[:10], new_ms[:10])
    predicted_ms = np.exp(fitted.predict(encodings[100:], KNOWN[100:]))
    assert np.median(np.abs(predicted_ms / new_ms[100:] - 1)) < 0.1


def test_so_many_of_each_kind_are_measured() -> None:
    kinds = np.repeat([0, 1], [COUNT - 3, 3])
    rows = OF_KNOWN.references(ENCODINGS, KNOWN, 5, kinds)
    assert np.bincount(kinds[rows]).tolist() == [5, 3]


@BOTH
def test_it_survives_arrays(space: LogSumSpace) -> None:
    fitted = _fit(space, 3 * KNOWN[:, 0], np.arange(8))
    again = LogSum.from_arrays(fitted.to_arrays())
    np.testing.assert_array_equal(again.predict(ENCODINGS, KNOWN), fitted.predict(ENCODINGS, KNOWN))
    np.testing.assert_array_equal(again.variance(ENCODINGS, KNOWN), fitted.variance(ENCODINGS, KNOWN))
    loaded = LogSumSpace.from_arrays(space.to_arrays())
    np.testing.assert_array_equal(loaded.references(ENCODINGS, KNOWN, 5), space.references(ENCODINGS, KNOWN, 5))
