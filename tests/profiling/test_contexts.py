from __future__ import annotations

import pytest

import blsm
from blsm.hypermodels import sample_networks
from blsm.network import check_chain
from blsm.profiles import DISPATCH_PROBE
from blsm.profiling import contexts
from blsm.testing import fake_latency_ms

FAMILIES = ("mbconv", "res_v1", "res_v2", "conv", "head", "rescale", "output")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("context", contexts.CONTEXTS)
def test_a_difference_is_two_valid_chains_that_differ_by_the_block(family: str, context: str) -> None:
    for config in blsm.block_family(family).sample(4, seed=1):
        whole, rest = contexts.difference(config, context)
        check_chain(whole)
        assert whole[-1] == config
        assert rest == (whole[:-1] or DISPATCH_PROBE)


def test_only_what_has_something_before_it_in_a_network_is_put_into_a_chain() -> None:
    stem = blsm.block_family("conv").config(height=32, width=32, in_channels=3, filters=16, kernel_size=3, strides=1)
    assert contexts.difference(stem).whole == (stem,)
    block = blsm.block_family("mbconv").sample(1)[0]
    assert len(contexts.difference(block).whole) == 2
    assert len(contexts.difference(block, "isolated").whole) == 1


def test_chains_are_measured_once_each_and_the_probe_first() -> None:
    blocks = [config for network in sample_networks(5, seed=0) for config in network]
    chains = contexts.chains([*blocks, *blocks], "chain")
    assert chains[0] == DISPATCH_PROBE
    assert len(chains) == len(set(chains))


@pytest.mark.parametrize("context", contexts.CONTEXTS)
def test_where_blocks_are_exactly_additive_both_contexts_give_the_same_latency(context: str) -> None:
    blocks = list(dict.fromkeys(config for network in sample_networks(5, seed=0) for config in network))
    measured = {chain: fake_latency_ms(chain) for chain in contexts.chains(blocks, context)}
    found = contexts.block_latencies(measured, context)
    del found[DISPATCH_PROBE[0]]
    assert found.keys() == set(blocks)
    for config, latency_ms in found.items():
        assert latency_ms == pytest.approx(fake_latency_ms([config]), abs=2e-4)  # the probe's one operator


def test_producers_are_not_taken_for_blocks_that_were_asked_for() -> None:
    block = blsm.block_family("mbconv").sample(1)[0]
    measured = dict.fromkeys(contexts.chains([block], "chain"), 1.0)
    assert contexts.block_latencies(measured, "isolated").keys() == {DISPATCH_PROBE[0]}


def test_noise_never_makes_a_block_add_less_than_nothing() -> None:
    block = blsm.block_family("mbconv").sample(1)[0]
    whole, rest = contexts.difference(block)
    found = contexts.block_latencies({DISPATCH_PROBE: 0.1, whole: 1.0, rest: 2.0}, "chain")
    assert found[block] == 0.1
