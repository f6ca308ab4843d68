from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest

import blsm
from blsm.hypermodels import sample_networks
from blsm.operators.arrays import ArrayCosts, saved
from blsm.surrogates.joined import JoinedSurrogate, Pair, ends_of
from blsm.testing import fake_latency_ms


def pairs_of(count: int, seed: int) -> list[Pair]:
    networks = sample_networks(count, seed=seed, families=["mbconv"])
    return [pair for network in networks for pair in pairwise(network) if pair[1].family == "mbconv"]


def isolated_ms(pairs: list[Pair]) -> np.ndarray:
    return np.array([fake_latency_ms([after]) for _, after in pairs])


@pytest.fixture(scope="module")
def known() -> list[Pair]:
    return pairs_of(50, seed=1)


def test_a_part_of_the_isolated_latency_is_learned(known: list[Pair]) -> None:
    # What a runtime takes here has nothing to do with the blocks' costs.
    alone_ms = np.exp(np.random.default_rng(0).normal(size=len(known)))
    surrogate = JoinedSurrogate.fit(known, 0.7 * alone_ms, alone_ms, seed=0)
    assert all(trees.corrects_isolated for trees in surrogate.trees)
    unseen = pairs_of(20, seed=2)
    others_ms = np.exp(np.random.default_rng(1).normal(size=len(unseen)))
    np.testing.assert_allclose(surrogate.predict(unseen, others_ms), 0.7 * others_ms, rtol=0.02)
    assert surrogate.deviation < 0.02
    assert surrogate.margin(0.9) < 0.02


def test_where_the_isolated_latency_tells_nothing_costs_do(known: list[Pair]) -> None:
    noise_ms = np.exp(np.random.default_rng(0).normal(size=len(known)))
    surrogate = JoinedSurrogate.fit(known, isolated_ms(known), noise_ms, seed=0)
    assert not any(trees.corrects_isolated for trees in surrogate.trees)
    unseen = pairs_of(20, seed=2)
    errors = surrogate.predict(unseen, np.ones(len(unseen))) / isolated_ms(unseen) - 1
    assert np.median(np.abs(errors)) < 0.05


def test_what_depends_on_the_block_before_is_learned(known: list[Pair]) -> None:
    def added_ms(pairs: list[Pair]) -> np.ndarray:
        return isolated_ms(pairs) * [2.0 if before.family == "conv" else 1.0 for before, _ in pairs]

    surrogate = JoinedSurrogate.fit(known, added_ms(known), isolated_ms(known), seed=0)
    unseen = pairs_of(20, seed=2)
    errors = surrogate.predict(unseen, isolated_ms(unseen)) / added_ms(unseen) - 1
    assert np.median(np.abs(errors)) < 0.05


def test_it_knows_what_the_block_before_no_longer_writes_out(known: list[Pair]) -> None:
    array = "u65_256"

    def cycles(block: blsm.BlockConfig, follows: bool) -> float:
        terms = ArrayCosts(block.graph(), [array], follows).terms
        return float(sum(value for name, value in terms.items() if name.endswith(f"cycles_{array}")))

    def added_ms(pairs: list[Pair]) -> np.ndarray:
        after = np.array([cycles(block, follows=True) for _, block in pairs])
        no_longer = np.array([float(saved(before.graph(), array)["saved"]) for before, _ in pairs])
        return 1e-6 * np.maximum(after - no_longer, 0.1 * after)

    def alone_ms(pairs: list[Pair]) -> np.ndarray:
        return np.array([1e-6 * cycles(block, follows=False) for _, block in pairs])

    surrogate = JoinedSurrogate.fit(known, added_ms(known), alone_ms(known), seed=0)
    assert surrogate.array == array
    unseen = pairs_of(20, seed=2)
    errors = surrogate.predict(unseen, alone_ms(unseen)) / added_ms(unseen) - 1
    assert np.median(np.abs(errors)) < 0.03
    loaded = JoinedSurrogate.from_files(surrogate.to_files())
    np.testing.assert_array_equal(loaded.predict(unseen, alone_ms(unseen)), surrogate.predict(unseen, alone_ms(unseen)))


def test_a_mean_of_several_kinds_of_trees_is_kept(known: list[Pair]) -> None:
    # Half of what blocks take has to do with what they take alone, half with their costs: no kind sees both.
    alone_ms = isolated_ms(known) * np.exp(0.3 * np.random.default_rng(0).normal(size=len(known)))
    added_ms = np.sqrt(alone_ms * isolated_ms(known))
    surrogate = JoinedSurrogate.fit(known, added_ms, alone_ms, seed=0)
    assert len(surrogate.trees) > 1
    afters = [after for _, after in known]
    ends = ends_of([before for before, _ in known], surrogate.array)
    each_ms = [trees.added_ms(afters, ends, alone_ms) for trees in surrogate.trees]
    predicted_ms = surrogate.predict(known, alone_ms)
    np.testing.assert_allclose(predicted_ms, np.exp(np.mean(np.log(each_ms), axis=0)))
    loaded = JoinedSurrogate.from_files(surrogate.to_files())
    np.testing.assert_array_equal(loaded.predict(known, alone_ms), predicted_ms)


def test_the_same_seed_gives_the_same_surrogate_and_files_keep_it(known: list[Pair]) -> None:
    added_ms = isolated_ms(known) * np.random.default_rng(0).uniform(0.8, 1.2, len(known))
    first, second = (JoinedSurrogate.fit(known, added_ms, isolated_ms(known), seed=3) for _ in range(2))
    assert first.to_files() == second.to_files()
    loaded = JoinedSurrogate.from_files(first.to_files())
    expected_ms = first.predict(known, isolated_ms(known))
    np.testing.assert_array_equal(loaded.predict(known, isolated_ms(known)), expected_ms)
    assert (loaded.deviation, loaded.scores, loaded.count) == (first.deviation, first.scores, first.count)
    assert 0.05 < first.deviation < 0.3
    pickle.dumps(loaded)  # for searches in several processes


def test_many_pairs_and_few_are_predicted_alike(known: list[Pair]) -> None:
    surrogate = JoinedSurrogate.fit(known, isolated_ms(known), isolated_ms(known), seed=0)
    expected_ms = surrogate.predict(known, isolated_ms(known))
    loaded = JoinedSurrogate.from_files(surrogate.to_files())
    for start in (20, 0, 10):
        pairs = known[start : start + 15]
        np.testing.assert_array_equal(loaded.predict(pairs, isolated_ms(pairs)), expected_ms[start : start + 15])
