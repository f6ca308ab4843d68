"""Two campaigns of the same 200 configs: how far apart are the latencies?

By visits that wait for fast cores, as they do by default, and by visits that take them as they are, in turn. On a
machine of one's own both are alike, on one that shares its cores with others they are not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from common import write_result
from scipy.stats import spearmanr

import blsm
from blsm.cli.common import print_table
from blsm.profiles import Chain, ProfileStore, latencies
from blsm.profiling import Campaign, Protocol, device

PROTOCOLS = {"on a fast core": Protocol(), "on any core": Protocol(patience_s=0.0)}


def campaign(name: str, chains: list[Chain], protocol: Protocol, seed: int) -> tuple[np.ndarray[Any, Any], float]:
    """Latencies of the chains on a device in milliseconds, shape (chains,), and how many seconds it took."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ProfileStore(Path(folder) / "p.db", create=True) as store:
        Campaign(device(name), store, protocol, seed=seed).run(chains)
        measured = latencies(store.profiles(name))
    return np.array([measured[chain] for chain in chains]), time.monotonic() - started


def main() -> None:
    """Measures twice each way and compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="edge_cpu")
    parser.add_argument("--configs", type=int, default=200)
    parser.add_argument("--pause", type=float, default=60.0, help="seconds between campaigns")
    parser.add_argument("--name", default="repeatability", help="of the JSON")
    options = parser.parse_args()
    chains = [(config,) for config in blsm.block_family("mbconv").sample(options.configs, seed=5)]
    runs: dict[str, list[tuple[np.ndarray[Any, Any], float]]] = {name: [] for name in PROTOCOLS}
    for number, (seed, name) in enumerate(product(range(2), PROTOCOLS)):
        time.sleep(options.pause if number else 0.0)
        runs[name].append(campaign(options.device, chains, PROTOCOLS[name], seed))
    figures = {}
    for name, ((first_ms, first_s), (second_ms, second_s)) in runs.items():
        difference = np.abs(second_ms / first_ms - 1)
        figures[name] = {
            "spearman": float(spearmanr(first_ms, second_ms).statistic),
            "median_difference_percent": 100 * float(np.median(difference)),
            "p95_difference_percent": 100 * float(np.quantile(difference, 0.95)),
            "campaign_s": (first_s + second_s) / 2,
        }
    rows = [(name, *(f"{value:.5g}" for value in found.values())) for name, found in figures.items()]
    print_table(rows, ("visits", "Spearman", "median difference %", "95th percentile %", "seconds a campaign"))
    write_result(options.name, {"device": options.device, "configs": len(chains), "figures": figures})


if __name__ == "__main__":
    main()
