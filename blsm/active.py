"""Active sampling: what to measure next is what is least like anything measured, in what surrogates go by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.fitting import part
from blsm.surrogates.boosted_trees import BoostedTrees

#: The first batch, which fills the space evenly: a surrogate of fewer knows too little to choose.
FIRST_BATCH = 100
#: The pool to choose from holds this many times the configs that are wanted.
POOL_FACTOR = 4
#: A batch is this share of what is measured already: fitting then stays short beside measuring.
_GROWTH = 0.4
_VALIDATION_SHARE = 0.15


def next_batch(
    measured_ms: Mapping[BlockConfig, float], pool: Sequence[BlockConfig], begun: int, wanted: int, seed: int
) -> list[BlockConfig]:
    """The configs of one family to measure next.

    Where the pool is crowded and far from what is measured: see `dividing`. How far apart two configs are is what their
    latencies depend on, as a surrogate of the measured ones sees it.

    Args:
        measured_ms: config -> latency in milliseconds, of those measured so far.
        pool: configs to choose from, in an order that fills the space evenly.
        begun: how many were begun so far: those measured, and those that failed.
        wanted: how many are to be measured in all.
        seed: of the surrogate; the same seed and measurements give the same batch.

    Returns:
        At most `wanted - begun` configs of the pool that are not measured yet; empty where enough were begun.
    """
    candidates = [config for config in dict.fromkeys(pool) if config not in measured_ms]
    if len(measured_ms) < FIRST_BATCH:
        return candidates[: max(0, min(FIRST_BATCH, wanted) - begun)]
    count = min(wanted - begun, round(_GROWTH * len(measured_ms)), len(candidates))
    if count <= 0:
        return []
    points = _surrogate(measured_ms, seed).embedded([*measured_ms, *candidates])
    known, new = np.split(points, [len(measured_ms)])
    return [candidates[place] for place in dividing(known, new, count)]


def dividing(centres: Array, points: Array, count: int) -> list[int]:
    """The points that divide the largest clusters, one after the other.

    A cluster is a centre with the points that are nearer to it than to any other, and its size the sum of their squared
    distances. The farthest point of the largest one becomes a centre, too ("largest cluster maximum distance",
    Holzmueller et al. 2023, "A Framework and Benchmark for Deep Batch Active Learning for Regression", Section 4.3).

    Args:
        centres: shape (m, dimensions), m at least 1.
        points: shape (n, dimensions).
        count: how many, at most n.

    Returns:
        Their places among the points, in the order of choice.
    """
    norms = np.square(points).sum(axis=1)
    nearest, distance, free = np.zeros(len(points), np.int64), np.full(len(points), np.inf), np.ones(len(points), bool)
    chosen: list[int] = []
    for number in range(len(centres) + count):
        if number < len(centres):
            centre = centres[number]
        else:
            largest = nearest == np.bincount(nearest, weights=distance).argmax()
            place = int(np.where(free, np.where(largest, distance, -1.0), -2.0).argmax())
            free[place] = False
            chosen.append(place)
            centre = points[place]
        to_centre = (norms - 2 * points @ centre + centre @ centre).clip(0.0)
        nearer = to_centre < distance
        nearest[nearer], distance[nearer] = number, to_centre[nearer]
    return chosen


def _surrogate(measured_ms: Mapping[BlockConfig, float], seed: int) -> BoostedTrees:
    order = np.random.default_rng([seed, len(measured_ms)]).permutation(len(measured_ms))
    train, validation = np.split(order, [len(order) - round(_VALIDATION_SHARE * len(order))])
    surrogate = BoostedTrees()
    surrogate.fit(*part(measured_ms, train), *part(measured_ms, validation), seed)
    return surrogate
