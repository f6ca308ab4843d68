"""What caches do to sums: a profiled block finds its data where it left them, in a network others came in between.

A profiled block runs over and over. In a network its turn comes again after all others: the longer these take, the more
of its data have left the caches, by the network itself or by whoever shares them. So blocks are also timed with nothing
in the caches. What such a block takes longer, a network takes longer as far as its data are gone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.profiles import DISPATCH_PROBE, Chain

#: After so many milliseconds 1 / e of what was in the caches is still there, where a host's other machines share them:
#: by networks of `edge_cpu` and `edge_cpu_int8`.
STAYS_MS = 10.0


def excesses(measured: Mapping[Chain, float], cold: Mapping[Chain, float]) -> dict[BlockConfig, float]:
    """What blocks take longer with nothing in the caches, entering the runtime aside: block -> ms, never below 0.

    Args:
        measured: chain -> milliseconds, each run over and over.
        cold: the same with nothing in the caches, of the blocks that were timed so; nothing is known without the
            dispatch probe.
    """
    if DISPATCH_PROBE not in cold or DISPATCH_PROBE not in measured:
        return {}
    entering_ms = cold[DISPATCH_PROBE] - measured[DISPATCH_PROBE]
    return {
        chain[0]: max(0.0, cold_ms - measured[chain] - entering_ms)
        for chain, cold_ms in cold.items()
        if len(chain) == 1 and chain in measured
    }


def left(passed_ms: Array) -> Array:
    """The share of a block's data that is still in the caches after some milliseconds."""
    share: Array = np.exp(-np.maximum(passed_ms, 0.0) / STAYS_MS)
    return share


def cooled(excess_ms: Array, block_ms: Array, network_ms: Array) -> Array:
    """What blocks take longer in networks than over and over, milliseconds, shape (n,).

    Args:
        excess_ms: what each takes longer with nothing in the caches than over and over, shape (n,).
        block_ms: what each takes over and over, shape (n,): so much of its data leaves the caches even then.
        network_ms: what all blocks of its network take over and over, shape (n,).
    """
    more_ms: Array = excess_ms * (1 - left(network_ms - block_ms))
    return more_ms
