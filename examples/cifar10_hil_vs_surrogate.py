"""Is the surrogate good enough to search with? One search that measures each candidate, one that predicts it.

    python examples/cifar10_hil_vs_surrogate.py --latency-model edge_cpu.blsm

Run it on the machine that the latency model was profiled on. `--data digits` needs no download.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import blsm
from blsm.feasibility import feasibility
from blsm.hypermodels import Cifar10
from blsm.images import Images, load_images


def search(
    latency: blsm.LatencySource, reference_latency_ms: float | str, images: Images, options: argparse.Namespace
) -> tuple[Path, float]:
    """Searches with one source of latency; returns KerasTuner's project folder and the reference latency, ms."""
    started_s = time.monotonic()
    oracle = blsm.LatencyOracle(latency, options.max_trials, reference_latency_ms=reference_latency_ms)
    name = "sm" if isinstance(latency, blsm.LatencyModel) else "hil"
    tuner = blsm.LatencyTuner(Cifar10(), oracle=oracle, directory=options.output, project_name=name)
    tuner.search(
        images.x_train,
        images.y_train,
        validation_data=(images.x_validation, images.y_validation),
        epochs=options.epochs,
        verbose=2,
    )
    best = max(
        (result for result in oracle.results() if result.score is not None), key=lambda result: result.score or 0
    )
    print(
        f"{name}: best score {best.score:.4f}, accuracy {best.accuracy:.4f} at {best.latency_ms:.4f} ms; "
        f"{time.monotonic() - started_s:.0f} s"
    )
    return Path(tuner.project_dir), oracle.reference_latency_ms


def main() -> None:
    """Runs both searches and compares what they found."""
    parser = argparse.ArgumentParser(description="Compares a search by measurement with a search by surrogate.")
    parser.add_argument("--latency-model", type=Path, required=True, help="file that `blsm fit` wrote")
    parser.add_argument("--data", default="cifar10", help="cifar10, digits, or an .npz file")
    parser.add_argument("--images", type=int, help="train on so many images only")
    parser.add_argument("--max-trials", type=int, default=50, help="of each search")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--output", type=Path, default=Path("cifar10_hil_vs_surrogate"))
    options = parser.parse_args()

    images = load_images(options.data, limit=options.images)
    surrogate = blsm.load(options.latency_model)
    hardware = blsm.HardwareInTheLoop(surrogate.device)
    predicted, reference_latency_ms = search(surrogate, "auto", images, options)
    # Scores can be compared only if they refer to the same latency.
    measured, _ = search(hardware, reference_latency_ms, images, options)
    try:
        found = feasibility(measured, predicted)
    except blsm.FeasibilityError as error:
        print(f"no verdict: {error}")
        return
    print(f"W_overall {found.w_overall:.4f}, W_optimal {found.w_optimal:.4f}, HNQ {found.hnq:.3f}")
    print(found.sentence)


if __name__ == "__main__":
    main()
