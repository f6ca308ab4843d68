"""Few-shot transfer: every method on every task, 10 and 20 measurements of the new device, mean of five seeds.

Spearman correlation on the 1,000 queries, untrimmed and trimmed to each device's middle 80 % by latency (HELP's
protocol), and the share within 5 and 10 %. Every measurement on the new device counts as a sample. Each
(task, method, samples, seed) is stored once it is done: run again to continue.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from common import write_result
from scipy.stats import spearmanr
from transfer_tasks import DEFAULT_DATA, SPLITS, Task, load_task

from blsm._types import Array
from blsm.cli.common import print_table
from blsm.files import write_atomically
from blsm.transfer import transfer_method

METHODS = ("median", "from_scratch", "nearest_device", "known_devices", "multi_predict", "help", "maple", "block_prior")
FIGURES = ("spearman", "trimmed", "within_5", "within_10", "adapt_s")


def judge(predicted_ms: Array, measured_ms: Array) -> dict[str, float]:
    """The figures of one new device."""
    error = np.abs(predicted_ms / measured_ms - 1)
    low, high = np.quantile(measured_ms, (0.1, 0.9))
    middle = (measured_ms >= low) & (measured_ms <= high)
    return {
        "spearman": _spearman(predicted_ms, measured_ms),
        "trimmed": _spearman(predicted_ms[middle], measured_ms[middle]),
        "within_5": float((error <= 0.05).mean()),
        "within_10": float((error <= 0.10).mean()),
    }


def _spearman(one: Array, other: Array) -> float:
    """0 where one side is constant and there is no rank."""
    return float(spearmanr(one, other).statistic) if np.ptp(one) and np.ptp(other) else 0.0


def run(task: Task, name: str, samples: list[int], seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Samples -> new device -> figures, of one fit."""
    method = transfer_method(name)(seed=seed)
    started = time.perf_counter()
    method.fit(task.pool)
    fit_s = time.perf_counter() - started
    found: dict[str, dict[str, dict[str, float]]] = {}
    for count in samples:
        rows = method.references(task.pool, count)
        for device, samples_ms in task.samples_ms.items():
            started = time.perf_counter()
            predictor = method.adapt(task.pool.encodings[rows], samples_ms[rows])
            adapt_s = time.perf_counter() - started
            figures = judge(predictor.predict(task.queries), task.queries_ms[device])
            found.setdefault(str(count), {})[device] = {**figures, "adapt_s": adapt_s, "fit_s": fit_s}
    return found


def mean(runs: list[dict[str, dict[str, float]]], figure: str) -> float:
    """Mean of a figure over runs (seeds) and devices."""
    return float(np.mean([device[figure] for found in runs for device in found.values()]))


def main() -> None:
    """Runs what is not stored yet, and prints everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help=f"folder of the data (default: {DEFAULT_DATA})")
    parser.add_argument("--tasks", nargs="+", default=list(SPLITS), choices=list(SPLITS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="see blsm.transfer.transfer_methods()")
    parser.add_argument("--samples", nargs="+", type=int, default=[10, 20])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--state", type=Path, default=Path("build/transfer.json"), help="what is done so far")
    options = parser.parse_args()
    options.state.parent.mkdir(parents=True, exist_ok=True)
    done = json.loads(options.state.read_text()) if options.state.exists() else {}
    for name in options.tasks:
        task = load_task(name, options.data)
        for method in options.methods:
            for seed in range(options.seeds):
                missing = [n for n in options.samples if f"{name} {method} {n} {seed}" not in done]
                if not missing:
                    continue
                for count, found in run(task, method, missing, seed).items():
                    done[f"{name} {method} {count} {seed}"] = found
                write_atomically(options.state, json.dumps(done).encode())
    rows = []
    figures: dict[str, dict[str, float]] = {}
    for key in dict.fromkeys(key.rpartition(" ")[0] for key in done):
        runs = [found for other, found in done.items() if other.rpartition(" ")[0] == key]
        figures[key] = {figure: mean(runs, figure) for figure in FIGURES} | {"seeds": len(runs)}
        rows.append((*key.split(), *(f"{figures[key][figure]:.3f}" for figure in FIGURES), str(len(runs))))
    rows.sort(key=lambda row: (list(SPLITS).index(row[0]), int(row[2]), row[1]))
    print_table(rows, ("task", "method", "samples", *FIGURES, "seeds"))
    write_result("transfer", {"figures": figures, "runs": done})


if __name__ == "__main__":
    main()
