"""What makes block surrogates accurate, per device: leaves out one thing at a time, on the profiles of a store.

Each variant learns from the same configs and is judged on the same others, of each family and over several random
splits. Needs a store with some 1,500 profiles of a family, e.g. the one that `benchmarks/accuracy.py` makes.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import write_result

from blsm.blocks import BlockConfig
from blsm.cli.common import print_table
from blsm.features import Features
from blsm.metrics import HEADERS, Agreement, table_row
from blsm.operators.costs import ARRAY_COSTS, PROCESSOR_COSTS
from blsm.profiles import DISPATCH_PROBE, ProfileStore, latencies
from blsm.surrogates import Regressor, regressor_class

Array = np.ndarray[Any, np.dtype[Any]]
_VALIDATION = 0.15


class _Ensemble:
    """The mean of several fits, of the logarithm of latency."""

    def __init__(self, members: int) -> None:
        self.members = [regressor_class("boosted_trees")() for _ in range(members)]

    def fit(self, *data: Any) -> None:
        *data, seed = data
        for number, member in enumerate(self.members):
            member.fit(*data, seed + number)

    def predict(self, configs: Sequence[BlockConfig]) -> Array:
        return np.exp(np.mean([np.log(member.predict(configs)) for member in self.members], axis=0))


class _Monotone:
    """Plain trees of config vectors whose latency must not fall while a size of the block grows."""

    sizes = ("height", "width", "in_channels", "filters", "kernel_size", "expand_ratio", "se_ratio", "units")

    def fit(
        self, train: list[BlockConfig], train_ms: Array, held_out: list[BlockConfig], held_out_ms: Array, seed: int
    ) -> None:
        import lightgbm

        constraints = [int(name in self.sizes) for name in train[0].to_dict()]
        parameters = {"learning_rate": 0.1, "num_leaves": 15, "min_data_in_leaf": 5, "num_threads": 1, "verbose": -1}
        vectors = Features.of([*train, *held_out], (), ()).vectors
        table = lightgbm.Dataset(vectors, np.log(np.concatenate([train_ms, held_out_ms])))
        self.trees = lightgbm.train({**parameters, "seed": seed, "monotone_constraints": constraints}, table, 200)

    def predict(self, configs: Sequence[BlockConfig]) -> Array:
        return np.exp(self.trees.predict(Features.of(configs, (), ()).vectors))


def _without(terms: str, hints: str = "$^") -> Callable[[list[BlockConfig]], Regressor]:
    """Boosted trees on a base without the terms and hints whose names match."""

    def make(configs: list[BlockConfig]) -> Regressor:
        regressor, features = regressor_class("boosted_trees")(), Features.of(configs)
        regressor.term_names = tuple(name for name in features.term_names if not re.search(terms, name))
        regressor.hint_names = tuple(name for name in features.hint_names if not re.search(hints, name))
        return regressor

    return make


VARIANTS: dict[str, Callable[[list[BlockConfig]], Any]] = {
    "boosted_trees": lambda configs: regressor_class("boosted_trees")(),
    "mean of 4 seeds": lambda configs: _Ensemble(4),
    "without arrays": _without(ARRAY_COSTS.pattern, ARRAY_COSTS.pattern),
    "without processors": _without(PROCESSOR_COSTS.pattern, PROCESSOR_COSTS.pattern),
    "without tiles": _without(r"(tiles|macs)_\d"),
    "without caches": _without("bytes_beyond"),
    "without hints": _without("$^", "."),
    "base alone": lambda configs: regressor_class("roofline")(),
    "no base, costs": lambda configs: regressor_class("plain_boosted_trees")("costs"),
    "no base, vector": lambda configs: regressor_class("plain_boosted_trees")("vector"),
    "no base, vector, monotone": lambda configs: _Monotone(),
}


def main() -> None:
    """Fits every variant on every split, and prints the mean figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("build/accuracy.db"))
    parser.add_argument("--device", default="edge_cpu")
    parser.add_argument("--block", default="mbconv,res_v1,res_v2,conv,head", metavar="NAME[,NAME...]")
    parser.add_argument("--configs", type=int, default=1200, help="configs to learn from")
    parser.add_argument("--splits", type=int, default=3)
    options = parser.parse_args()
    with ProfileStore(options.store) as store:
        fingerprint = store.fingerprint(options.device)
        measured = latencies(store.profiles(options.device))
    blocks: dict[str, list[BlockConfig]] = {family: [] for family in options.block.split(",")}
    for chain in measured:
        if len(chain) == 1 and chain != DISPATCH_PROBE and chain[0].family in blocks:
            blocks[chain[0].family].append(chain[0])
    for family, configs in blocks.items():
        if len(configs) <= options.configs:
            parser.error(
                f"{len(configs)} profiles of {family} are too few to learn from {options.configs} and judge by others"
            )
    figures: dict[str, dict[str, dict[str, float]]] = {}
    rows = []
    for family, configs in blocks.items():
        latency_ms = np.array([measured[(config,)] for config in configs])
        figures[family] = {}
        for name, make in VARIANTS.items():
            found = [_judge(make(configs), configs, latency_ms, options.configs, s) for s in range(options.splits)]
            mean = {
                key: float(np.mean([agreement.to_json()[key] for agreement in found])) for key in found[0].to_json()
            }
            figures[family][name] = mean
            rows.append((family, *table_row(name, Agreement.from_json(mean))))
    print_table(rows, ("family", "variant", *HEADERS[1:]))
    settings = {"device": options.device, "configs": options.configs, "splits": options.splits}
    result = {**settings, "fingerprint": fingerprint.to_json(), "figures": figures}
    write_result(f"ablation_{options.device}", result)


def _judge(regressor: Any, configs: list[BlockConfig], latency_ms: Array, count: int, seed: int) -> Agreement:
    """Agreement on what is left of the configs once `count` are taken to learn from."""
    order = np.random.default_rng(seed).permutation(len(configs))
    train, held_out, test = np.split(order, [round(count * (1 - _VALIDATION)), count])

    def part(rows: Array) -> tuple[list[BlockConfig], Array]:
        return [configs[row] for row in rows], latency_ms[rows]

    regressor.fit(*part(train), *part(held_out), seed)
    return Agreement.of(regressor.predict(part(test)[0]), latency_ms[test])


if __name__ == "__main__":
    main()
