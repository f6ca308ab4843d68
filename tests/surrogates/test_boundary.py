from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from blsm.hypermodels import sample_networks
from blsm.surrogates.boundary import BoundarySurrogate, Pair


def pairs_of(count: int, seed: int) -> list[Pair]:
    networks = sample_networks(count, seed=seed, families=["mbconv"])
    return [pair for network in networks for pair in pairwise(network)]


def elements(pairs: list[Pair]) -> np.ndarray:
    return np.array([math.prod(after.input_shape) for _, after in pairs], float)


def learned(cost_ms: np.ndarray, pairs: list[Pair], seed: int = 0) -> BoundarySurrogate:
    latency_ms = np.array([1e-8 * (before.macs + after.macs) for before, after in pairs]) + 0.05
    return BoundarySurrogate.fit(pairs, cost_ms, latency_ms, seed)


@pytest.fixture(scope="module")
def known() -> list[Pair]:
    return pairs_of(60, seed=1)


def test_costs_that_grow_with_the_tensor_are_learned(known: list[Pair]) -> None:
    surrogate = learned(-1e-6 * elements(known), known)
    assert surrogate.exponent == 1
    assert surrogate.count == len(known)
    unseen = pairs_of(20, seed=2)
    np.testing.assert_allclose(surrogate.predict(unseen), -1e-6 * elements(unseen), rtol=0.02)
    assert surrogate.deviation < 0.01


def test_costs_that_are_the_same_for_all_tensors_are_learned(known: list[Pair]) -> None:
    surrogate = learned(np.full(len(known), 0.2), known)
    np.testing.assert_allclose(surrogate.predict(pairs_of(20, seed=2)), 0.2, rtol=0.02)


def test_what_depends_on_either_side_is_learned(known: list[Pair]) -> None:
    def cost_ms(pairs: list[Pair]) -> np.ndarray:
        heads = np.array([after.family == "head" for _, after in pairs])
        return 1e-6 * elements(pairs) * (1 + 3 * heads)

    unseen = pairs_of(20, seed=2)
    errors = learned(cost_ms(known), known).predict(unseen) / cost_ms(unseen) - 1
    assert np.abs(errors).mean() < 0.1


def test_boundaries_that_cost_nothing_are_predicted_as_nothing(known: list[Pair]) -> None:
    surrogate = learned(np.zeros(len(known)), known)
    assert np.abs(surrogate.predict(known)).max() == 0


def test_the_same_seed_gives_the_same_surrogate_and_files_keep_it(known: list[Pair]) -> None:
    cost_ms = np.random.default_rng(0).normal(0, 0.01, len(known))
    first, second = (learned(cost_ms, known, seed=3) for _ in range(2))
    assert first.to_files() == second.to_files()
    loaded = BoundarySurrogate.from_files(first.to_files())
    np.testing.assert_array_equal(loaded.predict(known), first.predict(known))
    assert (loaded.deviation, loaded.count) == (first.deviation, first.count)


def test_noise_shows_in_the_deviation(known: list[Pair]) -> None:
    latency_ms = np.full(len(known), 1.0)
    noise_ms = np.random.default_rng(0).normal(0, 0.1, len(known))
    assert 0.07 < BoundarySurrogate.fit(known, noise_ms, latency_ms, 0).deviation < 0.2
