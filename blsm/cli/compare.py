"""blsm compare"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from blsm.cli import common
from blsm.cli.feasibility import VERDICT, measure_front, print_verdict, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from blsm.comparison import Times

NAME = "compare"
HELP = (
    "run a search by measurement and one by surrogate, alike in all else, and say whether the surrogate is good enough"
)


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds what is searched, with what, for how long."""
    command.add_argument(
        "--hypermodel", required=True, metavar="PACKAGE:NAME|FILE.py:NAME", help="e.g. blsm.hypermodels:Cifar10"
    )
    common.add_device(command)
    command.add_argument(
        "--latency-model", type=Path, metavar="FILE.blsm", help="the surrogate (default: DEVICE.blsm), see `blsm fit`"
    )
    command.add_argument("--data", default="digits", help="digits (default), cifar10, or an .npz file")
    command.add_argument("--images", type=common.positive, metavar="N", help="train on N images only")
    command.add_argument("--trials", type=common.positive, default=60, help="of each search (default: 60)")
    command.add_argument("--epochs", type=common.positive, default=20, help="of each trial at most (default: 20)")
    command.add_argument(
        "--patience", type=common.positive, default=5, help="epochs without progress that end a trial (default: 5)"
    )
    command.add_argument("--batch-size", type=common.positive, default=64, help="default: 64")
    command.add_argument("--strategy", default="bayesian", help="bayesian (default), evolution, greedy or random")
    command.add_argument(
        "--reference-latency-ms",
        type=float,
        metavar="MS",
        help="latency bound of the HA-score; slower networks are not trained (default: twice the median prediction)",
    )
    common.add_seed(command, "both searches and of training")
    command.add_argument(
        "-o", "--output", type=Path, default=Path("comparison"), metavar="DIR", help="folder (default: comparison)"
    )


def run(options: argparse.Namespace) -> None:
    """Searches twice, measures the surrogate's front, prints the verdict and writes it beside the searches."""
    import json
    import logging

    from blsm import bundle, profiling
    from blsm.accuracies import Training
    from blsm.cli.search import check_fits
    from blsm.comparison import SearchPlan, compare, reference_latency_ms
    from blsm.files import write_atomically
    from blsm.hypermodels.loading import load_hypermodel
    from blsm.images import load_images
    from blsm.latency_sources import HardwareInTheLoop

    latency_model = bundle.load(options.latency_model or Path(f"{options.device}.blsm"))
    target = profiling.device(options.device)
    with common.quiet():
        hypermodel = load_hypermodel(options.hypermodel)
        images = load_images(options.data, limit=options.images, seed=options.seed)
        check_fits(hypermodel, images)
        reference_ms = options.reference_latency_ms
        if reference_ms is None:
            reference_ms = reference_latency_ms(hypermodel, latency_model, options.seed)
    data = options.data if options.images is None else f"{options.data}, {options.images} images"
    plan = SearchPlan(
        hypermodel,
        images,
        Training(data, options.epochs, options.patience, options.seed, options.batch_size),
        options.trials,
        reference_ms,
        options.strategy,
    )
    # TensorFlow warns that each model is traced anew: in a search it must be.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with common.progress(2 * options.trials, " trials", "searching") as bar:
        found, times = compare(plan, latency_model, HardwareInTheLoop(target), options.output, bar.update)
    again = measure_front(found, options.hypermodel, options.device)
    figures = {
        **to_json(found, again),
        "hypermodel": options.hypermodel,
        "device": target.name,
        "reference_latency_ms": reference_ms,
        "times": {role: {"deciding_s": part.deciding_s, "training_s": part.training_s} for role, part in times.items()},
    }
    write_atomically(options.output / VERDICT, json.dumps(figures, indent=1).encode())
    print_verdict(found, again)
    print_times(times)
    print(f"see it: blsm report {options.output} -o report.html")


def print_times(times: Mapping[str, Times]) -> None:
    """Prints where the time of both searches went."""
    sm, hil = times["sm"], times["hil"]
    print(
        f"suggestions and latency: HIL {hil.deciding_s:.0f} s, {hil.deciding_share:.1%} of its search; SM "
        f"{sm.deciding_s:.1f} s, {sm.deciding_share:.2%} of its search"
    )
