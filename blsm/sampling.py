"""Which blocks to profile: they fill a space evenly, and enough of them do what few blocks do."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

import numpy as np

from blsm.blocks import BlockConfig, block_family
from blsm.blocks.base import DEFAULT_SPACE
from blsm.domains import Space, cardinality
from blsm.features import Features

Item = TypeVar("Item", bound=Hashable)

#: A kind of work that a smaller share of the blocks does is looked for in others.
_LEAST_SHARE = 0.01
#: Among so many times the blocks that are wanted, in all no more than this: a second or two.
_SEARCHED, MOST_SEARCHED = 8, 20_000


def sample_blocks(family: str, count: int, seed: int = 0, space: Space | str = DEFAULT_SPACE) -> list[BlockConfig]:
    """Distinct configs to profile, or all that the space holds; the same seed gives the same configs.

    Args:
        family: name of the family.
        count: how many.
        seed: of the sample.
        space: name of a space, or domains to draw from.

    Raises:
        DomainError: no space of this name.
        UnknownBlockError: no family of this name.
    """
    found = block_family(family)
    available = cardinality(found.space(space) if isinstance(space, str) else space)
    searched = max(count, min(_SEARCHED * count, MOST_SEARCHED))
    return with_rare_work(found.sample(min(searched, available), seed, space), count)


def with_rare_work(configs: Sequence[BlockConfig], count: int) -> list[BlockConfig]:
    """The first of the configs, and of the others those that do what hardly one of the first does.

    Some work, such as walking over an image whose pixels all fall into one set of a cache, is done by one block in
    hundreds and takes most of its time. A surrogate that has seen three of them is far off where a network has one.

    Args:
        configs: of one family, in the order in which they are wanted.
        count: how many are wanted.

    Returns:
        `count` of them, or all, with the others spread evenly among the first.
    """
    if len(configs) <= count:
        return list(configs)
    does = Features.of(configs).terms != 0
    needed = (does & (np.cumsum(does, axis=0) <= int(_LEAST_SHARE * count))).any(axis=1)
    # The first m, and what is needed of the others, are `count` in all.
    others = needed.sum() - np.cumsum(needed)
    first = int(np.searchsorted(np.arange(1, len(configs) + 1) + others, count, side="right"))
    return in_turn([configs[:first], [configs[index] for index in first + np.flatnonzero(needed[first:])]])[:count]


def in_turn(kinds: Sequence[Sequence[Item]]) -> list[Item]:
    """Distinct items of all kinds, advancing together: who stops early has seen the same share of each."""
    placed = [(number / len(items), item) for items in kinds for number, item in enumerate(items)]
    return list(dict.fromkeys(item for _, item in sorted(placed, key=lambda pair: pair[0])))
