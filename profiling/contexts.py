"""Blocks inside a network: two chains whose difference is what a block adds where other blocks surround it.

An isolated block enters and leaves the runtime, and fetches its input from where a network never puts it. Such costs
are in both chains and cancel out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from blsm.blocks import BlockConfig, block_family
from blsm.profiles import DISPATCH_PROBE, Chain

#: How a block is profiled: alone, or as the difference of two chains.
CONTEXTS = ("isolated", "chain")
#: What the latency of a producer should hardly depend on: few, and a multiple of what vectors hold.
_PRODUCER_CHANNELS = 8
#: Networks take images of so many channels: a block that does, too, comes first and has no block before it.
_IMAGE_CHANNELS = (1, 3)


class Difference(NamedTuple):
    """Two chains; the latency of the first minus that of the second is what a block adds.

    Attributes:
        whole: the chain with the block at its end.
        rest: the chain without it.
    """

    whole: Chain
    rest: Chain


def producer(shape: Sequence[int]) -> BlockConfig:
    """The block that stands in for what comes before: a 1x1 convolution that gives a tensor of this shape."""
    height, width, channels = shape
    return block_family("conv").config(
        height=height, width=width, in_channels=_PRODUCER_CHANNELS, filters=channels, kernel_size=1, strides=1
    )


def _producer_of(config: BlockConfig) -> BlockConfig | None:
    """What stands before a block in a chain; None before images, which begin a network, and before vectors."""
    is_image = len(config.input_shape) == 3 and config.input_shape[-1] in _IMAGE_CHANNELS
    return None if is_image or len(config.input_shape) != 3 else producer(config.input_shape)


def difference(config: BlockConfig, context: str = "chain") -> Difference:
    """The chains that give a block's latency in a context.

    In a chain, a block follows a producer, which takes little time itself: a block that follows itself tells as much,
    but the difference has twice the noise. What takes images comes first in a network and what takes no image-like
    tensor (the output) is next to nothing: these are measured alone, as is every block in the context `isolated`.
    """
    before = None if context == "isolated" else _producer_of(config)
    return Difference((config,), DISPATCH_PROBE) if before is None else Difference((before, config), (before,))


def chains(configs: Iterable[BlockConfig], context: str) -> list[Chain]:
    """What to measure for the latencies of blocks in a context, after the dispatch probe; nothing twice."""
    wanted = dict.fromkeys([DISPATCH_PROBE])
    for config in configs:
        whole, rest = difference(config, context)
        wanted |= dict.fromkeys([rest, whole])
    return list(wanted)


def block_latencies(measured: Mapping[Chain, float], context: str = "isolated") -> dict[BlockConfig, float]:
    """The latencies of all blocks that were measured in a context.

    Args:
        measured: chain -> milliseconds; the dispatch probe must be among them.
        context: one of `CONTEXTS`.

    Returns:
        Block -> milliseconds: what it adds, and the dispatch cost c0 once. Where noise makes the chain with a block the
        faster one, the block adds nothing.
    """
    dispatch_ms = measured[DISPATCH_PROBE]
    helpers = {chain[0] for chain in measured if len(chain) == 2 and chain[0] == _producer_of(chain[1])}
    found = {}
    for chain, whole_ms in measured.items():
        config = chain[-1]
        whole, rest = difference(config, context)
        if chain == whole and rest in measured and (len(chain) > 1 or config not in helpers):
            found[config] = whole_ms if len(chain) == 1 else dispatch_ms + max(0.0, whole_ms - measured[rest])
    return found
