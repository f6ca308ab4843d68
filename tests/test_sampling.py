from __future__ import annotations

import math

import numpy as np
import pytest

import blsm
from blsm.blocks import BlockConfig
from blsm.domains import Choice
from blsm.errors import DomainError, UnknownBlockError
from blsm.features import Features
from blsm.sampling import in_turn, sample_blocks, with_rare_work

FAMILIES = ("mbconv", "res_v1", "res_v2", "conv", "head")


def _is_crowded(config: BlockConfig) -> bool:
    """Whether its depthwise convolution reads windows of 49 pixels that lie a multiple of 2 KiB apart."""
    values = config.to_dict()
    expanded = int(values["in_channels"]) * int(values["expand_ratio"])
    return values["kernel_size"] == 7 and int(values["height"]) >= 8 and math.gcd(4 * expanded, 4096) >= 2048


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("space", ["cifar10", "imagenet"])
def test_what_few_blocks_do_is_in_the_sample(family: str, space: str) -> None:
    sample = sample_blocks(family, 600, seed=3, space=space)
    assert len(set(sample)) == len(sample) == 600
    searched = blsm.block_family(family).sample(4800, 3, space)
    assert set(sample) <= set(searched)
    does = Features.of([*sample, *searched]).terms != 0
    kept, found = does[:600].sum(axis=0), does[600:].sum(axis=0)
    assert np.all(kept >= np.minimum(6, found))
    # Most of it fills the space evenly all the same.
    assert len(set(sample) & set(searched[:600])) > 500


def test_wide_windows_are_in_the_sample() -> None:
    assert sum(map(_is_crowded, blsm.block_family("mbconv").sample(1200, seed=0))) < 5
    sample = sample_blocks("mbconv", 1200, seed=0)
    assert sum(map(_is_crowded, sample)) >= 10
    # A budget that runs out early has them too.
    assert sum(map(_is_crowded, sample[:600])) >= 4


def test_the_seed_decides() -> None:
    assert sample_blocks("conv", 200, seed=1) == sample_blocks("conv", 200, seed=1)
    assert sample_blocks("conv", 200, seed=1) != sample_blocks("conv", 200, seed=2)


def test_small_samples_fill_the_space_evenly() -> None:
    assert sample_blocks("mbconv", 60) == blsm.block_family("mbconv").sample(60)


def test_a_space_may_hold_fewer() -> None:
    space = {**blsm.block_family("conv").space(), "height": Choice(8), "in_channels": Choice(3), "filters": Choice(8)}
    everything = sample_blocks("conv", 2000, space=space)
    assert len(everything) < 100
    assert len(set(everything)) == len(everything)
    assert set(sample_blocks("conv", 20, space=space)) <= set(everything)


def test_more_kinds_of_work_than_blocks_are_cut() -> None:
    configs = blsm.block_family("mbconv").sample(400, seed=0)
    for count in (1, 150, 399, 500):
        assert len(set(with_rare_work(configs, count))) == min(count, 400)


def test_wrong_names() -> None:
    with pytest.raises(DomainError, match="unknown space 'large'"):
        sample_blocks("mbconv", 10, space="large")
    with pytest.raises(UnknownBlockError, match="mbconf"):
        sample_blocks("mbconf", 10)


def test_kinds_advance_together() -> None:
    merged = in_turn(["abcdefgh", "xy", "a"])
    assert merged == ["a", "x", "b", "c", "d", "e", "y", "f", "g", "h"]
