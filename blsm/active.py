"""Active sampling: what to measure next is what an ensemble of surrogates disagrees on most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.surrogates import DEFAULT_REGRESSOR, regressor_class

#: The first batch, which fills the space evenly: an ensemble of fewer knows too little to choose.
FIRST_BATCH = 100
#: The pool to choose from holds this many times the configs that are wanted.
POOL_FACTOR = 4
#: A batch is this share of what is measured already: fitting then stays short beside measuring.
_GROWTH = 0.4
_MEMBERS = 4
_VALIDATION_SHARE = 0.15
#: How sharply disagreement decides.
_SHARPNESS = 2.0


def next_batch(
    measured_ms: Mapping[BlockConfig, float], pool: Sequence[BlockConfig], begun: int, wanted: int, seed: int
) -> list[BlockConfig]:
    """The configs of one family to measure next.

    The choice is random, with probabilities that grow with the square of the disagreement: a batch of the very largest
    would be many times the same config (Kirsch et al. 2023, "Stochastic Batch Acquisition", Section 3).

    Args:
        measured_ms: config -> latency in milliseconds, of those measured so far.
        pool: configs to choose from, in an order that fills the space evenly.
        begun: how many were begun so far: those measured, and those that failed.
        wanted: how many are to be measured in all.
        seed: of the ensemble and the choice; the same seed and measurements give the same batch.

    Returns:
        At most `wanted - begun` configs of the pool that are not measured yet; empty where enough were begun.
    """
    candidates = [config for config in dict.fromkeys(pool) if config not in measured_ms]
    if len(measured_ms) < FIRST_BATCH:
        return candidates[: max(0, min(FIRST_BATCH, wanted) - begun)]
    count = min(wanted - begun, round(_GROWTH * len(measured_ms)), len(candidates))
    if count <= 0:
        return []
    score = _SHARPNESS * np.log(disagreement(measured_ms, candidates, seed).clip(1e-9))
    # The largest scores with Gumbel noise are a random sample without replacement.
    score += np.random.default_rng([seed, len(measured_ms)]).gumbel(size=len(candidates))
    return [candidates[index] for index in np.argsort(-score)[:count]]


def disagreement(measured_ms: Mapping[BlockConfig, float], candidates: Sequence[BlockConfig], seed: int) -> Array:
    """How far surrogates fitted on different samples of the measurements disagree.

    Args:
        measured_ms: config -> latency in milliseconds, all of one family.
        candidates: further configs of that family.
        seed: of the samples and the fits.

    Returns:
        Standard deviation of the logarithm of their predictions, shape (len(candidates),).
    """
    configs, latency_ms = list(measured_ms), np.array(list(measured_ms.values()))
    rng = np.random.default_rng([seed, len(configs)])
    predictions = []
    for member in range(_MEMBERS):
        sample = rng.permutation(np.unique(rng.integers(len(configs), size=len(configs))))
        train, validation = np.split(sample, [len(sample) - round(_VALIDATION_SHARE * len(sample))])
        surrogate = regressor_class(DEFAULT_REGRESSOR)()
        surrogate.fit(
            [configs[index] for index in train],
            latency_ms[train],
            [configs[index] for index in validation],
            latency_ms[validation],
            seed + member,
        )
        predictions.append(np.log(surrogate.predict(candidates)))
    deviation: Array = np.std(predictions, axis=0)
    return deviation
