"""Profiling throughput on edge_cpu, all included, against converting and measuring one block after the other.

Both start from nothing (imports included) and make the same visits of the same mbconv configs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import write_result

import blsm
from blsm.cli.common import print_table
from blsm.profiles import ProfileStore
from blsm.profiling import Campaign, device

NAIVE = """
import sys
import tensorflow as tf
import blsm
from pathlib import Path
from blsm.profiling import Protocol, device
count, folder = int(sys.argv[1]), Path(sys.argv[2])
protocol = Protocol()
with device("edge_cpu").open() as session:
    for number, config in enumerate(blsm.block_family("mbconv").sample(count, seed=2)):
        model = blsm.block_family("mbconv").build(config)
        artifact = folder / f"{number}.tflite"
        artifact.write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
        for _ in range(protocol.visits):
            session.visit(artifact, protocol)
"""


def main() -> None:
    """Runs both and compares configs a minute."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=int, default=400)
    parser.add_argument("--naive-configs", type=int, default=60)
    options = parser.parse_args()
    chains = [(config,) for config in blsm.block_family("mbconv").sample(options.configs, seed=2)]
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        with ProfileStore(Path(folder) / "p.db", create=True) as store:
            report = Campaign(device("edge_cpu"), store).run(chains)
        ours = 60 * report.complete / (time.monotonic() - started)
        started = time.monotonic()
        command = [sys.executable, "-c", NAIVE, str(options.naive_configs), folder]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        naive = 60 * options.naive_configs / (time.monotonic() - started)
    figures = {
        "configs_per_minute": ours,
        "naive_configs_per_minute": naive,
        "ratio": ours / naive,
        "measuring_share": report.measuring_s / report.total_s,
        "idle_share": report.idle_share,
    }
    print_table([(name, f"{value:.3g}") for name, value in figures.items()], ("figure", "value"))
    write_result("throughput", figures)


if __name__ == "__main__":
    main()
