from __future__ import annotations

import random

import pytest

import blsm
from blsm.domains import Choice, Integers, cardinality, contains
from blsm.errors import DomainError, UnknownBlockError
from blsm.hypermodels.stack import CIFAR10_STAGES, Stack, Stage, domains_of
from blsm.network import check_chain

FAMILIES = ("mbconv", "res_v1", "res_v2")
IMAGE = (32, 32, 3)


def settings(stack: Stack, count: int) -> list[dict[str, object]]:
    """Random settings, of inactive hyperparameters too."""
    rng = random.Random(0)
    return [{h.name: h.domain.at(rng.random()) for h in stack.hyperparameters} for _ in range(count)]


def test_blocks_fit_together_and_lie_in_the_default_spaces() -> None:
    stack = Stack(FAMILIES)
    for values in settings(stack, 300):
        blocks = stack.blocks(values, IMAGE)
        check_chain(blocks)
        assert blocks[0].family == "conv"
        assert len(blocks) == 1 + sum(values[f"stage{number}_depth"] for number in (1, 2, 3))  # type: ignore[misc]
        assert {config.family for config in blocks[1:]} <= {values[f"stage{number}_family"] for number in (1, 2, 3)}
        assert all(contains(blsm.block_family(c.family).space(), c.to_dict()) for c in blocks)


def test_what_is_reachable_is_all_that_settings_have_and_no_more() -> None:
    # Small enough to try every setting.
    stages = (Stage(Choice(8, 16), strides=1, depth=Integers(1, 2)), Stage(Choice(8, 24), depth=Integers(1, 1)))
    choices = {"kernel_size": Choice(3, 5), "expand_ratio": Choice(1, 4), "se_ratio": Choice(0.0)}
    stack = Stack(("mbconv", "res_v1"), stages, stem=Choice(8, 16), parameters=choices)
    domains = {h.name: h.domain for h in stack.hyperparameters}
    from blsm.domains import sample_space

    every = sample_space(domains, cardinality(domains), seed=0)
    chains = [stack.blocks(values, IMAGE) for values in every]
    blocks, ends = stack.reachable(IMAGE)
    assert set(blocks) == {config for chain in chains for config in chain}
    assert len(set(blocks)) == len(blocks)
    assert ends == {chain[-1].output_shape for chain in chains}


def test_a_missing_value_has_its_default_the_smallest_network() -> None:
    stack = Stack(("mbconv",))
    smallest = stack.blocks({}, IMAGE)
    assert [config.output_shape[-1] for config in smallest] == [8, 8, 16, 32]
    assert smallest == stack.blocks({"stage1_depth": 1, "stem_filters": 8, "of another block": 3}, IMAGE)


def test_parameters_that_only_some_families_have_depend_on_the_family() -> None:
    conditions = {h.name: (h.parent, h.parent_values) for h in Stack(FAMILIES).hyperparameters}
    assert conditions["stage2_expand_ratio"] == ("stage2_family", ("mbconv",))
    assert conditions["stage2_bottleneck"] == ("stage2_family", ("res_v1", "res_v2"))
    assert conditions["stage2_kernel_size"] == (None, ())
    alone = {h.name: h.parent for h in Stack(("mbconv",)).hyperparameters}
    assert "stage1_family" not in alone
    assert set(alone.values()) == {None}


def test_the_first_block_of_a_stage_alone_has_its_strides() -> None:
    stack = Stack(("res_v2",), (Stage(Choice(16), strides=2, depth=Choice(3)),))
    blocks = stack.blocks({}, IMAGE)
    assert [config.to_dict().get("strides") for config in blocks] == [1, 2, 1, 1]
    assert blocks[-1].output_shape == (16, 16, 16)


def test_domains_are_the_values_that_occur() -> None:
    blocks, _ = Stack(FAMILIES).reachable(IMAGE)
    domains = domains_of(blocks)
    assert set(domains) == {"conv", *FAMILIES}
    for family, space in domains.items():
        members = [config.to_dict() for config in blocks if config.family == family]
        assert all(contains(space, values) for values in members)
        for name, domain in space.items():
            if isinstance(domain, Choice):
                assert set(domain.values) == {values[name] for values in members}


def test_what_cannot_be_stacked_is_refused() -> None:
    with pytest.raises(DomainError, match="head can't be stacked: they have no filters, strides"):
        Stack(("head",))
    with pytest.raises(UnknownBlockError, match="did you mean 'mbconv'"):
        Stack(("mbconvv",))
    with pytest.raises(DomainError, match="one or more block families"):
        Stack(())
    with pytest.raises(DomainError, match="no parameter kernel to choose; they have .*kernel_size"):
        Stack(("mbconv",), parameters={"kernel": Choice(3)})
    with pytest.raises(DomainError, match="stage1_family must be one of mbconv, res_v1, got 'res_v3'"):
        Stack(("mbconv", "res_v1")).blocks({"stage1_family": "res_v3"}, IMAGE)
    with pytest.raises(DomainError, match="kernel_size must be one of 3, 5, 7, got 4"):
        Stack(("mbconv",)).blocks({"stage1_kernel_size": 4}, IMAGE)


def test_the_stages_of_cifar10_halve_the_resolution_twice() -> None:
    assert [stage.strides for stage in CIFAR10_STAGES] == [1, 2, 2]
