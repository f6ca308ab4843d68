"""The NPU's cycle model: configs a minute, all included, and how its latencies compare with Vela's own command.

Vela's command compiles the same quantised networks in a process of its own; its summary names the time of an inference.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import write_result

import blsm
from blsm.cli.common import print_table
from blsm.profiles import Chain, ProfileStore
from blsm.profiling import Campaign, device, measure_model
from blsm.profiling.devices.litert import convert_int8


def main() -> None:
    """Runs a campaign, then Vela on some of its chains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=int, default=300)
    parser.add_argument("--compared", type=int, default=20)
    options = parser.parse_args()
    chains: list[Chain] = [(config,) for config in blsm.block_family("mbconv").sample(options.configs, seed=2)]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ProfileStore(Path(folder) / "p.db", create=True) as store:
        report = Campaign(device("asic"), store).run(chains)
    figures = {
        "configs_per_minute": 60 * report.complete / (time.monotonic() - started),
        "complete": report.complete,
        "failed": len(report.failed),
        "compared_with_vela": min(options.compared, len(chains)),
        "largest_difference_ns": max(difference_ns(chain) for chain in chains[: options.compared]),
    }
    print_table([(name, f"{value:.4g}") for name, value in figures.items()], ("figure", "value"))
    write_result("asic", figures)


def difference_ns(chain: Chain) -> float:
    """How far the latency on the device `asic` is from Vela's summary, nanoseconds."""
    model = blsm.build_network(chain)
    latency_ns = measure_model(model, device("asic"))[0].minimum_ns
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "n.tflite").write_bytes(convert_int8(model))
        arguments = ["n.tflite", "--output-dir", ".", "--accelerator-config", "ethos-u65-512"]
        subprocess.run([sys.executable, "-m", "ethosu.vela", *arguments], cwd=folder, check=True, capture_output=True)
        (file,) = Path(folder).glob("n_summary_*.csv")
        (summary,) = csv.DictReader(file.read_text().splitlines())
    return abs(latency_ns - 1e9 * float(summary["inference_time"]))


if __name__ == "__main__":
    main()
