"""KerasTuner: a network for CIFAR-10 that is accurate and fast, with latency from a latency model.

Make the latency model first, on the device that it is for:

    blsm profile --hypermodel blsm.hypermodels:Cifar10 --device edge_cpu
    blsm fit --device edge_cpu -o edge_cpu.blsm

then search, on any machine:

    python examples/cifar10_keras_tuner.py --latency-model edge_cpu.blsm

Run again with the same folder, it continues where it stopped. `--data digits` needs no download.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import blsm
from blsm.hypermodels import Cifar10
from blsm.images import load_images


def main() -> None:
    """Searches, and prints the networks that no other beats in both accuracy and latency."""
    parser = argparse.ArgumentParser(description="Searches a CIFAR-10 network with KerasTuner.")
    parser.add_argument("--latency-model", type=Path, required=True, help="file that `blsm fit` wrote")
    parser.add_argument("--data", default="cifar10", help="cifar10, digits, or an .npz file")
    parser.add_argument("--images", type=int, help="train on so many images only")
    parser.add_argument("--max-trials", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("cifar10_keras_tuner"))
    options = parser.parse_args()

    images = load_images(options.data, limit=options.images)
    latency_model = blsm.load(options.latency_model)
    oracle = blsm.LatencyOracle(latency_model, options.max_trials, reference_latency_ms="auto")
    tuner = blsm.LatencyTuner(Cifar10(), oracle=oracle, directory=options.output)
    tuner.search(
        images.x_train,
        images.y_train,
        validation_data=(images.x_validation, images.y_validation),
        epochs=options.epochs,
        verbose=2,
    )

    for result in map(oracle.result, oracle.pareto_front()):
        print(
            f"trial {result.trial_id}: accuracy {result.accuracy:.4f}, {result.latency_ms:.4f} ms, "
            f"score {result.score:.4f}"
        )
    best = tuner.get_best_models(1)[0]
    best.save(options.output / "best.keras")
    print(f"best: {latency_model.latency(best).latency_ms:.4f} ms, saved as {options.output / 'best.keras'}")


if __name__ == "__main__":
    main()
