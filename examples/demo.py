"""The main job on this machine, as the commands that a user types: profile, fit, evaluate, predict, measure.

Writes the profile store, the latency model, a network, a picture and a JSON of all figures into one folder. Run again,
it continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import blsm
from blsm.cli.common import quiet


def example_network() -> list[blsm.BlockConfig]:
    """A small mobile network for 32x32 images: input scaling, stem, seven mbconv blocks, last convolution, head."""
    size, channels = 32, 16
    blocks = [
        blsm.block_family("rescale").config(height=32, width=32, in_channels=3, mode="scale"),
        blsm.block_family("conv").config(
            height=32, width=32, in_channels=3, filters=16, kernel_size=3, strides=1, activation="hard_swish"
        ),
    ]
    for filters, kernel_size, strides, expand_ratio, se_ratio in (
        (16, 3, 1, 1, 0.0),
        (24, 3, 2, 4, 0.0),
        (24, 3, 1, 3, 0.0),
        (40, 5, 2, 4, 0.25),
        (40, 5, 1, 6, 0.25),
        (80, 3, 2, 6, 0.0),
        (80, 3, 1, 3, 0.25),
    ):
        config = blsm.block_family("mbconv").config(
            height=size,
            width=size,
            in_channels=channels,
            filters=filters,
            kernel_size=kernel_size,
            strides=strides,
            expand_ratio=expand_ratio,
            se_ratio=se_ratio,
            activation="hard_swish",
        )
        blocks.append(config)
        size, _, channels = config.output_shape
    blocks += [
        blsm.block_family("conv").config(
            height=size, width=size, in_channels=80, filters=256, kernel_size=1, strides=1, activation="hard_swish"
        ),
        blsm.block_family("head").config(height=size, width=size, in_channels=256, units=10),
        blsm.block_family("output").config(in_channels=10, activation="softmax"),
    ]
    return blocks


def run_blsm(*arguments: str, capture: bool = False) -> str:
    """Runs a blsm command as typed; returns its output if captured."""
    print(f"\n$ blsm {shlex.join(arguments)}", flush=True)
    command = [sys.executable, "-m", "blsm.cli.main", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE if capture else None, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def main() -> None:
    """Runs the commands and collects their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder to write")
    parser.add_argument("--samples", type=int, default=450, help="blocks of each large family")
    parser.add_argument("--networks", type=int, default=40, help="random networks to measure")
    parser.add_argument("--budget", default="6m", help="time for profiling the large families")
    options = parser.parse_args()
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    store = ("--store", str(folder / "profiles.db"))
    bundle, network = str(folder / "edge_cpu.blsm"), str(folder / "network.keras")
    samples = str(options.samples)

    run_blsm("profile", "--block", "output,rescale", "--device", "edge_cpu", "--samples", "60", *store)
    families = "mbconv,res_v1,res_v2,conv,head"
    budget = ("--budget", options.budget)
    run_blsm("profile", "--block", families, "--device", "edge_cpu", "--samples", samples, *budget, *store)
    run_blsm("fit", "--device", "edge_cpu", *store, "-o", bundle)
    figures = {"evaluation": folder / "evaluation.json", "picture": folder / "predicted_versus_measured.png"}
    outputs = ("--json", str(figures["evaluation"]), "--figure", str(figures["picture"]))
    run_blsm("evaluate", bundle, *store, "--networks", str(options.networks), *outputs)

    with quiet():
        blsm.build_network(example_network()).save(network)
    run_blsm("predict", network, "--latency-model", bundle)
    predicted = json.loads(run_blsm("predict", network, "--latency-model", bundle, "--json", capture=True))
    measured = json.loads(run_blsm("measure", network, "--device", "edge_cpu", "--json", capture=True))
    ratio = predicted["latency_ms"] / measured["latency_ms"]
    print(
        f"{network}: predicted {predicted['latency_ms']:.4f} ms, measured {measured['latency_ms']:.4f} ms, "
        f"ratio {ratio:.3f}"
    )
    evaluation = json.loads(figures["evaluation"].read_text())
    record = {"evaluation": evaluation, "network": {"predicted": predicted, "measured": measured, "ratio": ratio}}
    (folder / "figures.json").write_text(json.dumps(record, indent=1) + "\n")
    figures["evaluation"].unlink()
    print(f"\nwritten: {', '.join(sorted(str(path) for path in folder.iterdir()))}")


if __name__ == "__main__":
    main()
