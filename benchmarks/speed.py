"""Speed of predicting and parsing: a 20-block network warm and new, 10,000 of them cold in a fresh process, a parse."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from common import write_result

import blsm
from blsm.cli.common import print_table
from blsm.hypermodels import sample_networks
from blsm.profiles import encode_chain

COLD = """
import json, sys, time
import blsm
from blsm.profiles import decode_chain
networks = [decode_chain(text) for text in json.load(open(sys.argv[2]))]
model = blsm.load(sys.argv[1])
started = time.perf_counter()
model.latencies(networks)
print(time.perf_counter() - started)
"""


def median_s(function: Callable[[], object], runs: int) -> float:
    """Median duration of a call."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    """Times and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("latency_model", type=Path, help="a bundle with all families, e.g. demo/edge_cpu.blsm")
    parser.add_argument("--networks", type=int, default=10_000)
    options = parser.parse_args()
    networks = sample_networks(options.networks, seed=0, depth=(18, 18))
    model = blsm.load(options.latency_model)
    texts = Path("build/networks.json")
    texts.parent.mkdir(exist_ok=True)
    texts.write_text(json.dumps([encode_chain(network) for network in networks]))
    command = [sys.executable, "-c", COLD, str(options.latency_model), str(texts)]
    cold = [float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(3)]
    keras_model = blsm.build_network(networks[0])
    unseen = iter(networks[1:])
    helps = median_s(lambda: subprocess.run([sys.executable, "-m", "blsm.cli.main", "--help"], capture_output=True), 11)
    figures = {
        "blocks_per_network": len(networks[0]),
        "latency_warm_us": 1e6 * median_s(lambda: model.latency(networks[0]), 1000),
        "latency_new_ms": 1e3 * median_s(lambda: model.latency(next(unseen)), 100),
        "networks": len(networks),
        "networks_cold_s": statistics.median(cold),
        "parse_ms": 1e3 * median_s(lambda: blsm.parse(keras_model), 50),
        "help_s": helps,
    }
    print_table([(name, f"{value:.4g}") for name, value in figures.items()], ("figure", "value"))
    write_result("speed", figures)


if __name__ == "__main__":
    main()
