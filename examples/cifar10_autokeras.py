"""AutoKeras: a network for CIFAR-10 that is accurate and fast, with latency from a latency model.

`blsm profile --block all` and `blsm fit` make the latency model, see the README; then

    python examples/cifar10_autokeras.py --latency-model edge_cpu.blsm

`--data digits` needs no download.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import autokeras as ak

import blsm
from blsm.hypermodels import BlockStack
from blsm.images import load_images


def main() -> None:
    """Searches, trains the best network in full, and exports it."""
    parser = argparse.ArgumentParser(description="Searches a CIFAR-10 network with AutoKeras.")
    parser.add_argument("--latency-model", type=Path, required=True, help="file that `blsm fit` wrote")
    parser.add_argument("--data", default="cifar10", help="cifar10, digits, or an .npz file")
    parser.add_argument("--images", type=int, help="train on so many images only")
    parser.add_argument("--max-trials", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("cifar10_autokeras"))
    options = parser.parse_args()

    images = load_images(options.data, limit=options.images)
    latency_model = blsm.load(options.latency_model)
    oracle = blsm.LatencyOracle(latency_model, options.max_trials, reference_latency_ms="auto")

    inputs = ak.ImageInput()
    outputs = ak.ClassificationHead()(BlockStack()(ak.Normalization()(inputs)))
    search = ak.AutoModel(inputs, outputs, tuner=oracle, directory=options.output)
    search.fit(
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
    best = search.export_model()
    best.save(options.output / "best.keras")
    print(f"best: {latency_model.latency(best).latency_ms:.4f} ms, saved as {options.output / 'best.keras'}")


if __name__ == "__main__":
    main()
