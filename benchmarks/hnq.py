"""What HNQ says of surrogates whose errors are known: searches of synthetic accuracies, latency by a formula.

A search by measurement is compared with the same search by another seed, which shows what chance does, and with
searches by surrogates that are off by a factor of its own for each block: not at all, by 5 %, by 30 %, or threefold.
Each seed is another landscape of accuracies, see `search.py`. Beside HNQ: the hypervolume of the front, measured again.
`blsm compare` refuses networks slower than the reference, as searches here do; `--slow` lets them be trained.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import digits
import keras_tuner
import numpy as np
from common import write_result
from search import Landscape, prepare, run_trials

import blsm
from blsm.cli.common import print_table
from blsm.feasibility import Feasibility, feasibility
from blsm.hypermodels.reach import random_settings
from blsm.latency_model import LatencyEstimate
from blsm.profiles import digest
from blsm.remeasured import Remeasured, remeasure
from blsm.searches import SearchTrial
from blsm.testing import fake_latency_ms

#: Standard deviation of log(predicted / true) of a block.
ERRORS = (0.0, 0.05, 0.3, 1.0)
#: Added to the seed of the search that shows what chance does.
_OTHER_SEED = 1_000
_DISPATCH_MS = fake_latency_ms([])


class Measured:
    """Latency by the formula, one network at a time: a device in the loop."""

    device = "formula"

    def latency(self, network: Sequence[blsm.BlockConfig]) -> LatencyEstimate:
        """What the network takes."""
        return _exact(fake_latency_ms(network))


class Surrogate:
    """The sum of blocks, each off by a factor of its own; judges thousands of networks at once."""

    device = "formula"

    def __init__(self, error: float) -> None:
        self.error = error
        self._known: dict[blsm.BlockConfig, float] = {}

    def latency(self, network: Sequence[blsm.BlockConfig]) -> LatencyEstimate:
        """What the network is predicted to take."""
        return _exact(_DISPATCH_MS + sum(map(self._added_ms, network)))

    def latencies(self, networks: Sequence[Sequence[blsm.BlockConfig]]) -> np.ndarray:
        """The same of many networks."""
        return np.array([self.latency(network).latency_ms for network in networks])

    def _added_ms(self, block: blsm.BlockConfig) -> float:
        if block not in self._known:
            factor = np.exp(np.random.default_rng(int(digest((block,)), 16)).normal(0, self.error))
            self._known[block] = factor * (fake_latency_ms([block]) - _DISPATCH_MS)
        return self._known[block]


def _exact(latency_ms: float) -> LatencyEstimate:
    return LatencyEstimate(latency_ms, latency_ms, latency_ms, 1.0, ())


@dataclass(frozen=True)
class Plan:
    """What searches have in common.

    Attributes:
        trials: of each.
        reference_ms: of the HA-scores, milliseconds.
        limit_ms: slower networks are refused, milliseconds; None for no limit.
    """

    trials: int
    reference_ms: float
    limit_ms: float | None


def search(
    source: Measured | Surrogate, seed: int, plan: Plan, accuracy: Callable[[Mapping[str, Any]], float]
) -> list[SearchTrial]:
    """The trials of one Bayesian search."""
    hypermodel = digits.hypermodel()
    bounds = {"reference_latency_ms": plan.reference_ms, "max_latency_ms": plan.limit_ms}
    oracle = blsm.LatencyOracle(source, plan.trials, seed=seed, **bounds)
    prepare(oracle, hypermodel)
    oracle.bind(hypermodel)
    run_trials(oracle, plan.trials, accuracy)
    return [
        SearchTrial(found.accuracy, found.latency_ms, found.score, _text(found.values), found.trial_id)
        for found in oracle.results()
    ]


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True)


def true_ms(trial: SearchTrial) -> float:
    """What the network of a trial takes."""
    hp = keras_tuner.HyperParameters()
    hp.values = json.loads(trial.setting)
    return fake_latency_ms(digits.hypermodel().blocks(hp))


def compared(seed: int, plan: Plan) -> dict[str, tuple[Feasibility, Remeasured]]:
    """A search by measurement against each other search."""
    landscape, known = Landscape(digits.hypermodel(), seed), dict[str, float]()

    def accuracy(values: Mapping[str, Any]) -> float:
        """As trained once, whoever asks."""
        return known.setdefault(_text(values), landscape(values))

    hil = search(Measured(), seed, plan, accuracy)
    others = {"measurement, another seed": search(Measured(), seed + _OTHER_SEED, plan, accuracy)}
    for error in ERRORS:
        others[f"surrogate, off by {error:.0%}"] = search(Surrogate(error), seed, plan, accuracy)
    verdicts = {name: feasibility(hil, other) for name, other in others.items()}
    return {name: (verdict, remeasure(verdict, true_ms)) for name, verdict in verdicts.items()}


def main() -> None:
    """Searches, compares, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--slow", action="store_true", help="train networks slower than the reference too")
    options = parser.parse_args()
    settings = islice(random_settings(digits.hypermodel(), 0), 1000)
    reference_ms = 2 * statistics.median(fake_latency_ms(digits.hypermodel().blocks(hp)) for hp in settings)
    plan = Plan(options.trials, reference_ms, None if options.slow else reference_ms)
    rows: dict[str, list[dict[str, Any]]] = {}
    for seed in range(options.seeds):
        for name, (verdict, again) in compared(seed, plan).items():
            figures = {"seed": seed, **verdict.to_json(), "remeasured": again.to_json()}
            del figures["remeasured"]["measured_ms"]
            rows.setdefault(name, []).append(figures)
    table = []
    for name, found in rows.items():
        hnq = sorted(row["hnq"] for row in found)
        ratios = [row["remeasured"]["hypervolume_ratio"] for row in found]
        table.append(
            (
                name,
                f"{statistics.median(hnq):.2f} ({hnq[0]:.2f} to {hnq[-1]:.2f})",
                f"{sum(value < 0.2 for value in hnq)} of {len(hnq)}",
                f"{sum(row['w_overall'] <= row['w_chance'] for row in found)} of {len(hnq)}",
                f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
            )
        )
    headers = ("against a search by measurement", "HNQ, median", "below 0.2", "no further than chance", "hypervolume")
    print_table(table, headers)
    write_result("hnq_slow" if options.slow else "hnq", {"trials": options.trials, "comparisons": rows})


if __name__ == "__main__":
    main()
