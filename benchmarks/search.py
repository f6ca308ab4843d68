"""Speed and quality of latency-aware search: the CIFAR-10 hypermodel, a formula device, synthetic accuracies.

The accuracy of a network grows with the logarithm of its multiply-accumulates and saturates; each choice of a stage has
an effect of its own, pairs of choices too, and training adds noise. Every seed is another landscape. `black-box` is the
grey-box strategy that is shown the score in place of accuracy and latency.
"""

from __future__ import annotations

import argparse
import itertools
import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from common import write_result
from joblib import Parallel, delayed

import blsm
from blsm.cli.common import print_table
from blsm.fitting import LEAST_PROFILES, fit_latency_model
from blsm.hypermodels import Cifar10
from blsm.hypermodels.reach import reachable_blocks, spread
from blsm.profiles import ProfileStore
from blsm.strategies import Bayesian, Encoding, RandomSearch, Search
from blsm.testing import fill_store

_NOISE = 0.003
_PROFILES = 200


class BlackBox(Bayesian):
    """The same processes and candidates, but the score is learned as a whole."""

    name = "black-box"

    def suggest(self, search: Search) -> dict[str, Any]:
        trials = [replace(t, accuracy=t.score, latency_ms=1.0) for t in search.trials]
        blind = replace(
            search,
            trials=trials,
            screen=lambda settings: np.ones(len(settings)),
            latency_term=np.zeros_like,
            reference_accuracy=1.0,
        )
        return super().suggest(blind)


class Landscape:
    """Accuracies of settings, as a function of a seed."""

    def __init__(self, hypermodel: Cifar10, seed: int) -> None:
        self._hypermodel = hypermodel
        self._seed = seed
        self._effects: dict[Any, float] = {}
        self._noise = np.random.default_rng([seed, 1])

    def __call__(self, values: Mapping[str, Any]) -> float:
        hp = keras_tuner.HyperParameters()
        hp.values = dict(values)
        size = math.log10(sum(config.macs for config in self._hypermodel.blocks(hp)))
        accuracy = 0.93 - 0.35 * math.exp(-0.9 * (size - 5.5))
        accuracy += sum(self._effect(0.008, *choice) for choice in values.items())
        for first, second in itertools.combinations(values.items(), 2):
            if first[0].partition("_")[0] == second[0].partition("_")[0]:
                accuracy += self._effect(0.004, *first, *second)
        return float(np.clip(accuracy + self._noise.normal(0, _NOISE), 0.1, 0.97))

    def _effect(self, scale: float, *choice: Any) -> float:
        if choice not in self._effects:
            digits = [ord(letter) for letter in repr(choice)]
            self._effects[choice] = scale * np.random.default_rng([self._seed, *digits]).normal()
        return self._effects[choice]


def formula_model(hypermodel: Cifar10) -> blsm.LatencyModel:
    """A latency model of the formula device, fitted on 200 blocks of each family that the hypermodel reaches."""
    families: dict[str, list[blsm.BlockConfig]] = {}
    for config in reachable_blocks(hypermodel):
        families.setdefault(config.family, []).append(config)
    for name, members in families.items():
        # Rescaling and output are one block each: more of their family make a fit.
        more = blsm.block_family(name).sample(LEAST_PROFILES + 5) if len(members) < LEAST_PROFILES else []
        families[name] = [*spread(members, _PROFILES), *more]
    with tempfile.TemporaryDirectory() as folder, ProfileStore(Path(folder) / "store.db", create=True) as store:
        fill_store(store, [(config,) for members in families.values() for config in members])
        return fit_latency_model(store, "fake")


def oracle_of(hypermodel: Cifar10, model: blsm.LatencyModel, **arguments: Any) -> blsm.LatencyOracle:
    """An oracle that knows its hypermodel and where to save."""
    oracle = blsm.LatencyOracle(model, **arguments)
    prepare(oracle, hypermodel)
    oracle.bind(hypermodel)
    return oracle


def prepare(oracle: keras_tuner.Oracle, hypermodel: Cifar10) -> None:
    """What a tuner does for an oracle."""
    oracle.verbose = 0
    oracle._set_project_dir(tempfile.mkdtemp(), "search")
    hypermodel.declare_hyperparameters(oracle.hyperparameters)


def run_trials(oracle: keras_tuner.Oracle, count: int, accuracy: Callable[[Mapping[str, Any]], float]) -> list[float]:
    """Runs trials; the score of each."""
    scores = []
    for _ in range(count):
        trial = oracle.create_trial("tuner0")
        value = accuracy(trial.hyperparameters.values)
        oracle.update_trial(trial.trial_id, {"val_accuracy": value})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
        scores.append(oracle.trials[trial.trial_id].score)
    return scores


def score_settings(hypermodel: Cifar10, model: blsm.LatencyModel, count: int) -> float:
    """Seconds for block configs, latencies and scores of many settings, warm; best of 5."""
    oracle = oracle_of(hypermodel, model)
    encoding = Encoding(oracle.hyperparameters.space)
    settings = encoding.values(encoding.sample(count, np.random.default_rng(0)))
    screening = oracle._bound()
    times = []
    for _ in range(6):
        started_s = time.perf_counter()
        oracle.score(0.9, screening.latencies(settings, oracle.hyperparameters))
        times.append(time.perf_counter() - started_s)
    return min(times[1:])


def suggestions(hypermodel: Cifar10, model: blsm.LatencyModel) -> tuple[float, float]:
    """Seconds of one suggestion after 100 trials: grey-box (best of 5), and KerasTuner's Bayesian one (once)."""
    landscape = Landscape(hypermodel, 0)
    oracle = oracle_of(hypermodel, model, max_trials=200, strategy="random", reference_latency_ms="auto")
    run_trials(oracle, 100, landscape)
    search = oracle._search(oracle._bound(), np.random.default_rng(0))
    grey = Bayesian()
    times = []
    for _ in range(6):
        started_s = time.perf_counter()
        grey.suggest(search)
        times.append(time.perf_counter() - started_s)
    black = keras_tuner.oracles.BayesianOptimizationOracle(
        keras_tuner.Objective("bals", "max"), max_trials=200, num_initial_points=10, seed=1
    )
    prepare(black, hypermodel)
    black.trials = oracle.trials
    started_s = time.perf_counter()
    black.populate_space("100")
    return min(times[1:]), time.perf_counter() - started_s


def overhead_ms(hypermodel: Cifar10, model: blsm.LatencyModel, count: int = 50) -> tuple[float, float]:
    """Milliseconds of a trial's bookkeeping: LatencyOracle with random search, and KerasTuner's random search."""
    ours = oracle_of(hypermodel, model, max_trials=count + 1, strategy="random", reference_latency_ms=2.0)
    plain = keras_tuner.oracles.RandomSearchOracle(keras_tuner.Objective("val_accuracy", "max"), count + 1, seed=1)
    prepare(plain, hypermodel)
    found = []
    for oracle in (ours, plain):
        run_trials(oracle, 1, lambda values: 0.5)  # the survey of the space comes once, before the first trial
        started_s = time.perf_counter()
        run_trials(oracle, count, lambda values: 0.5)
        found.append(1e3 * (time.perf_counter() - started_s) / count)
    return found[0], found[1]


def compare(
    hypermodel: Cifar10, model: blsm.LatencyModel, seeds: int, trials: int, keras_tuner_seeds: int, jobs: int
) -> dict[str, np.ndarray]:
    """Best score so far, by strategy: shape (seeds, trials)."""
    bayesian = keras_tuner.oracles.BayesianOptimizationOracle
    strategies: dict[str, tuple[Callable[[int], Any], int]] = {
        "random": (lambda seed: RandomSearch(), seeds),
        "greedy (AutoKeras)": (lambda seed: "greedy", seeds),
        "evolution": (lambda seed: "evolution", seeds),
        "Bayesian (KerasTuner, defaults)": (lambda seed: bayesian(seed=seed + 1), seeds),
        "Bayesian (KerasTuner, 10 initial)": (lambda s: bayesian(num_initial_points=10, seed=s + 1), keras_tuner_seeds),
        "Bayesian, black-box": (lambda seed: BlackBox(), seeds),
        "Bayesian, grey-box": (lambda seed: Bayesian(), seeds),
    }
    found = {}

    def search(make: Callable[[int], Any], seed: int) -> np.ndarray:
        oracle = oracle_of(
            hypermodel, model, max_trials=trials, strategy=make(seed), seed=seed, reference_latency_ms="auto"
        )
        return np.maximum.accumulate(run_trials(oracle, trials, Landscape(hypermodel, seed)))

    for name, (make, count) in strategies.items():
        started_s = time.perf_counter()
        curves = Parallel(n_jobs=jobs)(delayed(search)(make, seed) for seed in range(count))
        if curves:
            found[name] = np.array(curves)
            print(f"{name}: {time.perf_counter() - started_s:.0f} s", flush=True)
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--keras-tuner-seeds", type=int, default=1, help="of its Bayesian search, minutes each")
    parser.add_argument("--jobs", type=int, default=2, help="searches at once")
    options = parser.parse_args()
    hypermodel = Cifar10()
    model = formula_model(hypermodel)
    settings_s = score_settings(hypermodel, model, 10_000)
    grey_s, black_s = suggestions(hypermodel, model)
    ours_ms, plain_ms = overhead_ms(hypermodel, model)
    rows = [
        ("10,000 settings to scores, warm", f"{settings_s:.3f} s"),
        ("a grey-box suggestion after 100 trials", f"{grey_s:.3f} s"),
        ("one of KerasTuner's BayesianOptimizationOracle", f"{black_s:.2f} s, {black_s / grey_s:.0f} times as long"),
        ("a trial's bookkeeping, LatencyOracle", f"{ours_ms:.1f} ms"),
        ("the same, KerasTuner's RandomSearchOracle", f"{plain_ms:.1f} ms"),
    ]
    print_table(rows, ("what", "takes"))
    curves = compare(hypermodel, model, options.seeds, options.trials, options.keras_tuner_seeds, options.jobs)
    means = {name: curve.mean(axis=0) for name, curve in curves.items()}
    best = means["Bayesian, grey-box"]
    table = []
    for name, curve in curves.items():
        mean, error = means[name], curve[:, -1].std(ddof=1) / math.sqrt(len(curve)) if len(curve) > 1 else math.nan
        reached = np.flatnonzero(best >= mean[-1])
        table.append(
            {
                "strategy": name,
                "seeds": len(curve),
                "best_after_30": float(mean[min(29, options.trials - 1)]),
                "best_at_end": float(mean[-1]),
                "standard_error_at_end": float(error),
                "grey_box_trials_to_reach_it": int(reached[0]) + 1 if len(reached) else None,
                "seeds_where_grey_box_is_better_after_30": int(
                    np.sum(curves["Bayesian, grey-box"][: len(curve), :30][:, -1] > curve[:, :30][:, -1])
                ),
            }
        )
    print_table([tuple(row.values()) for row in table], tuple(table[0]))
    figures = {
        "hyperparameters": len(keras_tuner_space(hypermodel)),
        "settings_10000_s": settings_s,
        "grey_box_suggestion_s": grey_s,
        "keras_tuner_suggestion_s": black_s,
        "suggestion_ratio": black_s / grey_s,
        "trial_ms": ours_ms,
        "plain_trial_ms": plain_ms,
        "overhead_ms": ours_ms - plain_ms,
        "trials": options.trials,
        "strategies": table,
    }
    write_result("search", figures)


def keras_tuner_space(hypermodel: Cifar10) -> list[Any]:
    """The hypermodel's hyperparameters."""
    hp = keras_tuner.HyperParameters()
    hypermodel.declare_hyperparameters(hp)
    return list(hp.space)


if __name__ == "__main__":
    main()
