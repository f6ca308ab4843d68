"""Two campaigns of the same 200 configs on edge_cpu, one after the other: how far apart are the latencies?"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from common import write_result
from scipy.stats import spearmanr

import blsm
from blsm.cli.common import print_table
from blsm.profiles import ProfileStore, latencies
from blsm.profiling import Campaign, device


def main() -> None:
    """Measures twice and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", type=int, default=200)
    parser.add_argument("--pause", type=float, default=120.0, help="seconds between the campaigns")
    options = parser.parse_args()
    chains = [(config,) for config in blsm.block_family("mbconv").sample(options.configs, seed=5)]
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(2):
            time.sleep(options.pause * number)
            with ProfileStore(Path(folder) / f"{number}.db", create=True) as store:
                Campaign(device("edge_cpu"), store, seed=number).run(chains)
                measured = latencies(store.profiles("edge_cpu"))
            runs.append(np.array([measured[chain] for chain in chains]))
    difference = np.abs(runs[1] / runs[0] - 1)
    figures = {
        "configs": len(chains),
        "spearman": float(spearmanr(*runs).statistic),
        "median_difference_percent": 100 * float(np.median(difference)),
        "p95_difference_percent": 100 * float(np.quantile(difference, 0.95)),
    }
    print_table([(name, f"{value:.5g}") for name, value in figures.items()], ("figure", "value"))
    write_result("repeatability", figures)


if __name__ == "__main__":
    main()
