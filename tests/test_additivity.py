from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blsm.additivity import CONTEXTS, Additivity, Sums, added_latencies, block_latencies, judge, parts
from blsm.caches import cooled
from blsm.errors import FitError
from blsm.fitting import fit_latency_model
from blsm.hypermodels import sample_networks
from blsm.profiles import DISPATCH_PROBE, Chain, ProfileStore, Visit
from blsm.testing import FakeDevice, fake_latency_ms


def entering_ms(chain: Chain) -> float:
    """Latency of a device that fetches a chain's input from far away: 1 ns an element, which isolated blocks all pay."""
    elements = 1
    for length in chain[0].input_shape:
        elements *= length
    return fake_latency_ms(chain) + 1e-6 * elements


def with_parts(count: int) -> list[Chain]:
    """Networks, their blocks and their pairs of neighbours."""
    networks = sample_networks(count, seed=3)
    return [*networks, *parts(networks, "chain")]


def test_parts_are_measured_once_each_and_the_probe_first() -> None:
    networks = sample_networks(5, seed=0)
    for context in CONTEXTS:
        found = parts([*networks, *networks], context)
        assert found[0] == DISPATCH_PROBE
        assert len(found) == len(set(found))
        assert {len(part) for part in found} == ({1} if context == "isolated" else {1, 2})
    assert len(parts(networks[:1], "chain")) == 2 * len(networks[0])


def test_what_a_block_adds_is_its_pair_less_the_first_block() -> None:
    (network,) = sample_networks(1, seed=4, families=["mbconv"])
    measured = {chain: entering_ms(chain) for chain in parts([network], "chain")}
    assert set(block_latencies(measured)) == {DISPATCH_PROBE[0], *network}
    added_ms = added_latencies(measured)
    assert len(added_ms) == len(network) - 1
    for (_, after), latency_ms in added_ms.items():
        # Neither the dispatch nor fetching the input comes again.
        assert latency_ms == pytest.approx(fake_latency_ms([after]) - fake_latency_ms([]))


def test_a_pair_whose_first_block_was_not_measured_tells_nothing() -> None:
    first, second = sample_networks(1, seed=4)[0][:2]
    assert added_latencies({DISPATCH_PROBE: 0.1, (second,): 1.0, (first, second): 2.0}) == {}


def test_where_blocks_add_up_isolated_ones_are_good_enough() -> None:
    verdict = judge({chain: fake_latency_ms(chain) for chain in with_parts(8)})
    assert verdict.context == "isolated"
    for sums in verdict.sums.values():
        assert sums.networks == 8
        assert sums.low == pytest.approx(1, abs=0.01)
        assert sums.high == pytest.approx(1, abs=0.01)
        assert sums.spearman == 1


def test_where_isolated_blocks_pay_for_what_networks_do_not_chains_are_recommended() -> None:
    verdict = judge({chain: entering_ms(chain) for chain in with_parts(8)})
    assert verdict.context == "chain"
    assert verdict.sums["isolated"].low > 1.01
    assert verdict.sums["chain"].deviation < verdict.sums["isolated"].deviation / 3


@pytest.mark.parametrize(("common", "noise"), [(1.05, 0.0), (1.05, 0.02), (0.9, 0.02), (1.0, 0.0)])
def test_what_all_networks_take_longer_than_their_parts_is_a_factor(common: float, noise: float) -> None:
    random, chains = np.random.default_rng(0), with_parts(20)
    measured = {chain: fake_latency_ms(chain) for chain in chains}
    for network in (chain for chain in chains if len(chain) > 2):
        measured[network] *= common * np.exp(noise * random.standard_normal())
    for sums in judge(measured).sums.values():
        assert sums.factor == pytest.approx(common, abs=0.7 * noise + 0.003)


def test_a_factor_that_may_be_chance_is_none() -> None:
    ratios = np.exp(0.01 + 0.1 * np.array([-1.5, -1, -0.5, 0, 0.5, 1, 1.5]))
    measured_ms = np.arange(1.0, 8.0)
    sums = Sums.of(ratios * measured_ms, measured_ms)
    assert sums.median == pytest.approx(np.exp(0.01))
    assert sums.factor == 1


def test_a_verdict_survives_json() -> None:
    verdict = judge({chain: entering_ms(chain) for chain in with_parts(8)})
    assert Additivity.from_json(verdict.to_json()) == verdict


def test_a_context_that_was_not_measured_is_not_judged() -> None:
    networks = sample_networks(8, seed=3)
    verdict = judge({chain: fake_latency_ms(chain) for chain in [*networks, *parts(networks, "isolated")]})
    assert verdict.sums.keys() == {"isolated"}


@pytest.mark.parametrize("finds_cold", [True, False])
def test_networks_tell_whether_they_find_cold_caches(finds_cold: bool) -> None:
    device, chains = FakeDevice(weight_ns=2.0), with_parts(8)
    measured = {chain: fake_latency_ms(chain) for chain in chains}
    excess_ms = {chain[0]: device.excess_ms(chain) for chain in chains if len(chain) == 1}
    for network in (chain for chain in chains if len(chain) > 2):
        blocks_ms = np.array([fake_latency_ms([config]) for config in network])
        more_ms = cooled(np.array([excess_ms[config] for config in network]), blocks_ms, blocks_ms.sum())
        measured[network] += finds_cold * more_ms.sum()
    verdict = judge(measured, excess_ms)
    assert Additivity.from_json(verdict.to_json()) == verdict
    for context, sums in verdict.sums.items():
        assert sums.cold is finds_cold
        assert sums.deviation < 0.002
        without = judge(measured).sums[context]
        assert without.cold is None
        assert (without.deviation > 0.01) is finds_cold


def test_without_all_blocks_of_enough_networks_nothing_is_said_of_cold_caches() -> None:
    chains = with_parts(8)
    measured = {chain: fake_latency_ms(chain) for chain in chains}
    some = {config: 1.0 for network in chains[:5] for config in network}
    assert judge(measured, some) == judge(measured)


@pytest.mark.parametrize("count", [0, 5])
def test_too_few_networks_are_no_evidence(count: int) -> None:
    measured = {chain: fake_latency_ms(chain) for chain in with_parts(count)} if count else {}
    with pytest.raises(FitError, match=f"{count} networks were measured whole and in parts, at least 6"):
        judge(measured)


def filled(path: Path, chains: list[Chain]) -> ProfileStore:
    store = ProfileStore(path, create=True)
    store.register_device("fake", FakeDevice().fingerprint())
    for chain in dict.fromkeys(chains):
        sample_ns = round(1e6 * (fake_latency_ms(chain) if chain == DISPATCH_PROBE else entering_ms(chain)))
        store.add_visit("fake", chain, Visit.from_samples([sample_ns], started_s=0.0))
    return store


def test_a_fit_follows_the_verdict_in_its_store(tmp_path: Path) -> None:
    sampled = parts(sample_networks(40, seed=5, families=["mbconv"]), "chain")
    families = ["mbconv", "conv", "head"]
    with filled(tmp_path / "p.db", [*sampled, *with_parts(8)]) as store:
        chosen = fit_latency_model(store, "fake", regressor="roofline", families=families)
        isolated = fit_latency_model(store, "fake", regressor="roofline", families=families, context="isolated")
    assert chosen.context == "chain"
    assert isolated.context == "isolated"
    assert chosen.additivity == isolated.additivity
    networks = sample_networks(20, seed=6, families=["mbconv"])
    ratios = {
        model.context: (model.latencies(networks) / [entering_ms(network) for network in networks]).mean()
        for model in (chosen, isolated)
    }
    assert abs(ratios["chain"] - 1) < 0.03 < ratios["isolated"] - 1


def test_without_a_verdict_a_fit_is_of_chains_where_pairs_were_measured(tmp_path: Path) -> None:
    networks = sample_networks(12, seed=5, families=["mbconv"])
    with filled(tmp_path / "pairs.db", parts(networks, "chain")) as store:
        assert fit_latency_model(store, "fake", regressor="roofline", families=["mbconv"]).context == "chain"
    with filled(tmp_path / "blocks.db", parts(networks, "isolated")) as store:
        assert fit_latency_model(store, "fake", regressor="roofline", families=["mbconv"]).context == "isolated"
        with pytest.raises(FitError, match="no family has 30 pairs of blocks on fake.*--context chain"):
            fit_latency_model(store, "fake", regressor="roofline", families=["mbconv"], context="chain")
