from __future__ import annotations

import numpy as np
import pytest

import blsm
from blsm.active import FIRST_BATCH, dividing, next_batch
from blsm.testing import fake_latency_ms

Measured = dict[blsm.BlockConfig, float]


@pytest.fixture(scope="module")
def pool() -> list[blsm.BlockConfig]:
    return blsm.block_family("conv").sample(400, seed=0)


@pytest.fixture(scope="module")
def measured(pool: list[blsm.BlockConfig]) -> Measured:
    return {config: fake_latency_ms([config]) for config in pool[:FIRST_BATCH]}


def test_the_first_batch_fills_the_space_evenly(pool: list[blsm.BlockConfig]) -> None:
    assert next_batch({}, pool, 0, 300, seed=0) == pool[:FIRST_BATCH]
    assert next_batch({}, pool, 0, 30, seed=0) == pool[:30]
    some = dict.fromkeys(pool[:60], 1.0)
    assert next_batch(some, pool, 60, 300, seed=0) == pool[60:FIRST_BATCH]


def test_batches_are_new_configs_of_the_pool_and_end_where_there_are_enough(
    pool: list[blsm.BlockConfig], measured: Measured
) -> None:
    batch = next_batch(measured, pool, len(measured), 300, seed=0)
    assert len(set(batch)) == len(batch) == 40
    assert set(batch) <= set(pool) - measured.keys()
    assert len(next_batch(measured, pool, len(measured), 110, seed=0)) == 10
    assert len(next_batch(measured, pool[:120], len(measured), 300, seed=0)) == 20
    assert next_batch(measured, pool, 300, 300, seed=0) == []


def test_the_seed_decides(pool: list[blsm.BlockConfig], measured: Measured) -> None:
    first, again, other = (next_batch(measured, pool, len(measured), 300, seed) for seed in (0, 0, 1))
    assert first == again != other


def test_what_nothing_measured_is_like_is_measured_next(pool: list[blsm.BlockConfig]) -> None:
    def is_large(config: blsm.BlockConfig) -> bool:
        return config.to_dict()["filters"] > 160

    known = [config for config in pool if not is_large(config)][:FIRST_BATCH]
    measured = {config: fake_latency_ms([config]) for config in known}
    rest = [config for config in pool if config not in measured]
    batch = next_batch(measured, pool, len(measured), 300, seed=0)
    assert np.mean([*map(is_large, batch)]) > 1.2 * np.mean([*map(is_large, rest)])


def test_the_farthest_point_of_the_largest_cluster_is_next() -> None:
    points = np.array([[0.0, 2.0], [10.0, 0.0], [10.0, 1.0], [10.5, 0.5], [-3.0, 0.0], [10.0, 1.0]])
    # The first centre has all points; the new one then has its three neighbours, which are near.
    assert dividing(np.zeros((1, 2)), points, 3) == [3, 4, 0]
    assert sorted(dividing(np.zeros((1, 2)), points, 6)) == list(range(6))
    assert sorted(dividing(points[:1], points[[0, 0, 0]], 3)) == [0, 1, 2]
