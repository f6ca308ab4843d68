from __future__ import annotations

import numpy as np
import pytest

import blsm
from blsm.active import FIRST_BATCH, disagreement, next_batch
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


def test_what_surrogates_know_nothing_of_is_measured_next(pool: list[blsm.BlockConfig]) -> None:
    def latency_ms(config: blsm.BlockConfig) -> float:
        # Of 7x7 kernels, each config is a law of its own.
        strange = 1 + len(str(config)) % 7 if config.to_dict()["kernel_size"] == 7 else 1
        return fake_latency_ms([config]) * strange

    measured = {config: latency_ms(config) for config in pool[:200]}
    rest = pool[200:]
    strange = np.array([config.to_dict()["kernel_size"] == 7 for config in rest])
    deviation = disagreement(measured, rest, seed=0)
    assert deviation.shape == (200,)
    assert deviation[strange].mean() > 2 * deviation[~strange].mean()
    batch = next_batch(measured, pool, len(measured), 240, seed=0)
    assert np.mean([config.to_dict()["kernel_size"] == 7 for config in batch]) > 1.5 * strange.mean()
