from __future__ import annotations

from pathlib import Path

import pytest

from blsm.additivity import Additivity, judge
from blsm.errors import FitError
from blsm.fitting import fit_latency_model
from blsm.hypermodels import sample_networks
from blsm.profiles import DISPATCH_PROBE, Chain, ProfileStore, Visit
from blsm.profiling import contexts
from blsm.testing import FakeDevice, fake_latency_ms


def entering_ms(chain: Chain) -> float:
    """Latency of a device that fetches a chain's input from far away: 1 ns an element, which isolated blocks all pay."""
    elements = 1
    for length in chain[0].input_shape:
        elements *= length
    return fake_latency_ms(chain) + 1e-6 * elements


def parts(count: int) -> list[Chain]:
    """Networks, and their blocks alone and in chains."""
    networks = sample_networks(count, seed=3)
    blocks = [config for network in networks for config in network]
    return [*networks, *contexts.chains(blocks, "isolated"), *contexts.chains(blocks, "chain")]


def test_where_blocks_add_up_isolated_ones_are_good_enough() -> None:
    verdict = judge({chain: fake_latency_ms(chain) for chain in parts(8)})
    assert verdict.context == "isolated"
    for sums in verdict.sums.values():
        assert sums.networks == 8
        assert sums.low == pytest.approx(1, abs=0.01)
        assert sums.high == pytest.approx(1, abs=0.01)
        assert sums.spearman == 1


def test_where_isolated_blocks_pay_for_what_networks_do_not_chains_are_recommended() -> None:
    verdict = judge({chain: entering_ms(chain) for chain in parts(8)})
    assert verdict.context == "chain"
    assert verdict.sums["isolated"].low > 1.01
    assert verdict.sums["chain"].deviation < verdict.sums["isolated"].deviation / 3


def test_a_verdict_survives_json() -> None:
    verdict = judge({chain: entering_ms(chain) for chain in parts(8)})
    assert Additivity.from_json(verdict.to_json()) == verdict


def test_a_context_that_was_not_measured_is_not_judged() -> None:
    networks = sample_networks(8, seed=3)
    blocks = contexts.chains([config for network in networks for config in network], "isolated")
    verdict = judge({chain: fake_latency_ms(chain) for chain in [*networks, *blocks]})
    assert verdict.sums.keys() == {"isolated"}


@pytest.mark.parametrize("count", [0, 5])
def test_too_few_networks_are_no_evidence(count: int) -> None:
    measured = {chain: fake_latency_ms(chain) for chain in parts(count)} if count else {}
    with pytest.raises(FitError, match=f"{count} networks were measured whole and in parts, at least 6"):
        judge(measured)


def test_a_fit_follows_the_verdict_in_its_store(tmp_path: Path) -> None:
    sampled = [(config,) for network in sample_networks(40, seed=5, families=["mbconv"]) for config in network]
    chains = [*contexts.chains([chain[0] for chain in sampled], "chain"), *sampled]
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        store.register_device("fake", FakeDevice().fingerprint())
        for chain in dict.fromkeys([*chains, *parts(8)]):
            sample_ns = round(1e6 * (fake_latency_ms(chain) if chain == DISPATCH_PROBE else entering_ms(chain)))
            store.add_visit("fake", chain, Visit.from_samples([sample_ns], started_s=0.0))
        families = ["mbconv", "conv", "head"]
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
