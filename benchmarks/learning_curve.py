"""Error against number of measured configs: plain trees, base and trees, random against active sampling.

A simulation on a store that holds many profiles of a family already: part of them is for testing, the rest is the pool
that either kind of sampling takes its configs from. How many measurements active sampling saves is where the random
curve, interpolated in the logarithm of both, reaches its error.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import write_result

from blsm.active import next_batch
from blsm.blocks import BlockConfig
from blsm.cli.common import print_table
from blsm.metrics import Agreement
from blsm.profiles import DISPATCH_PROBE, ProfileStore, latencies
from blsm.surrogates import regressor_class

SIZES = (150, 300, 600, 1200)
_VALIDATION = 0.15


def main() -> None:
    """Draws the curves of every seed, and prints their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("build/accuracy.db"))
    parser.add_argument("--device", default="edge_cpu")
    parser.add_argument("--block", default="mbconv", metavar="NAME")
    parser.add_argument("--test", type=int, default=300, help="configs for testing")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    with ProfileStore(options.store) as store:
        fingerprint = store.fingerprint(options.device)
        measured = latencies(store.profiles(options.device))
    known = {c[0]: ms for c, ms in measured.items() if len(c) == 1 and c[0].family == options.block}
    known.pop(DISPATCH_PROBE[0], None)
    mape: dict[str, list[list[float]]] = {"plain trees": [], "base + trees": [], "base + trees, active": []}
    for seed in range(options.seeds):
        configs = list(known)
        np.random.default_rng(seed).shuffle(configs)  # type: ignore[arg-type]
        test, pool = configs[: options.test], configs[options.test :]
        chosen = _chosen(known, pool, min(SIZES[-1], len(pool)), seed)
        for name, regressor, order in (
            ("plain trees", "plain_boosted_trees", pool),
            ("base + trees", "boosted_trees", pool),
            ("base + trees, active", "boosted_trees", chosen),
        ):
            mape[name].append([_error(regressor, known, order[:size], test, seed) for size in SIZES])
    means = {name: np.mean(found, axis=0).tolist() for name, found in mape.items()}
    saved = _saved(means["base + trees"], means["base + trees, active"])
    print_table(
        [(name, *(f"{value:.2f}" for value in found)) for name, found in means.items()],
        ("MAPE %, configs", *map(str, SIZES)),
    )
    print("random needs so many times the configs:", ", ".join(f"{value:.2f} x at {n}" for n, value in saved.items()))
    settings = {"device": options.device, "block": options.block, "pool": len(known) - options.test}
    write_result(
        f"learning_curve_{options.device}",
        {
            **settings,
            "test": options.test,
            "seeds": options.seeds,
            "sizes": SIZES,
            "fingerprint": fingerprint.to_json(),
            "mape": means,
            "mape_of_each_seed": mape,
            "saved": saved,
        },
    )


def _chosen(known: dict[BlockConfig, float], pool: Sequence[BlockConfig], count: int, seed: int) -> list[BlockConfig]:
    """The configs that active sampling takes from the pool, in its order."""
    taken: list[BlockConfig] = []
    while batch := next_batch({config: known[config] for config in taken}, pool, len(taken), count, seed):
        taken += batch
    return taken


def _error(
    name: str, known: dict[BlockConfig, float], learned: Sequence[BlockConfig], test: Sequence[BlockConfig], seed: int
) -> float:
    """MAPE on the test configs, percent."""
    learned = list(learned)
    np.random.default_rng(seed).shuffle(learned)  # type: ignore[arg-type]
    split = round(len(learned) * (1 - _VALIDATION))

    def latency_ms(configs: Sequence[BlockConfig]) -> Any:
        return np.array([known[config] for config in configs])

    regressor = regressor_class(name)()
    train, held_out = learned[:split], learned[split:]
    regressor.fit(train, latency_ms(train), held_out, latency_ms(held_out), seed)
    return Agreement.of(regressor.predict(test), latency_ms(test)).mape


def _saved(random: Sequence[float], active: Sequence[float]) -> dict[int, float]:
    """Size -> how many times as many random configs reach the error of that many active ones; within the curve only."""
    errors, sizes = np.log(random[::-1]), np.log(SIZES[::-1])
    return {
        size: float(np.exp(np.interp(np.log(error), errors, sizes)) / size)
        for size, error in zip(SIZES, active, strict=True)
        if random[-1] <= error <= random[0]
    }


if __name__ == "__main__":
    main()
