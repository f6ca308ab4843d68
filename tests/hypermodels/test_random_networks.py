from __future__ import annotations

import pytest

import blsm
from blsm.domains import contains
from blsm.errors import DomainError
from blsm.hypermodels import sample_networks
from blsm.network import check_chain


def test_networks_fit_together_and_stay_in_the_profiled_space() -> None:
    networks = sample_networks(200, seed=0)
    assert len(set(networks)) == 200
    for network in networks:
        check_chain(network)
        assert (network[0].family, network[-1].family) == ("conv", "head")
        assert network[0].input_shape == (32, 32, 3)
        assert 3 <= len(network) - 2 <= 12
        for config in network:
            assert contains(blsm.block_family(config.family).space(), config.to_dict())
    assert {len(network) - 2 for network in networks} == set(range(3, 13))


def test_the_seed_decides_and_more_networks_extend_fewer() -> None:
    assert sample_networks(20, seed=5)[:8] == sample_networks(8, seed=5)
    assert sample_networks(8, seed=5) != sample_networks(8, seed=6)


def test_families_can_be_restricted() -> None:
    networks = sample_networks(10, seed=0, families=["mbconv"])
    assert {config.family for network in networks for config in network[1:-1]} == {"mbconv"}


def test_networks_of_another_space_take_images_of_its_sizes() -> None:
    networks = sample_networks(20, seed=0, families=["mbconv"], input_shape=None, space="imagenet")
    assert len({network[0].input_shape for network in networks}) > 3
    for network in networks:
        check_chain(network)
        for config in network:
            assert contains(blsm.block_family(config.family).space("imagenet"), config.to_dict())
    with pytest.raises(DomainError, match="unknown space"):
        sample_networks(1, space="moon")


def test_an_input_that_no_stem_takes_is_refused() -> None:
    with pytest.raises(DomainError, match="fit an input"):
        sample_networks(1, input_shape=(33, 33, 3))
