"""blsm evaluate"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blsm.cli import common, networks

if TYPE_CHECKING:
    from blsm.evaluation import Comparison
    from blsm.latency_model import LatencyModel
    from blsm.profiles import ProfileStore

NAME = "evaluate"
HELP = "compare a latency model with held-out blocks, and with random networks measured whole"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the model, the store and the outputs."""
    command.add_argument("latency_model", type=Path, metavar="MODEL.blsm", help="latency model bundle")
    common.add_store(command)
    command.add_argument(
        "--networks",
        type=common.positive,
        metavar="N",
        help="also build and measure N random networks on this machine; the store keeps them",
    )
    common.add_seed(command, "the random networks")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a JSON file")
    command.add_argument("--figure", type=Path, metavar="FILE.png", help="draw predicted against measured")


def run(options: argparse.Namespace) -> None:
    """Compares and prints; measures networks first if asked to."""
    import json

    from blsm import bundle
    from blsm.evaluation import compare_blocks
    from blsm.files import write_atomically
    from blsm.metrics import HEADERS, table_row
    from blsm.profiles import ProfileStore

    model = bundle.load(options.latency_model)
    with ProfileStore(options.store) as store:
        comparisons = compare_blocks(model, store)
        if options.networks is not None:
            comparisons["networks"] = measure_networks(model, store, options.networks, options.seed)
    common.print_table([table_row(name, c.agreement) for name, c in comparisons.items()], HEADERS)
    judged = comparisons.get("networks")
    if judged is not None:
        print(f"{judged.inside:.1%} of the networks lie within their 90 % interval")
    if options.json is not None:
        figures = to_json(model, comparisons)
        write_atomically(options.json, json.dumps(figures, indent=1).encode())
    if options.figure is not None:
        from blsm.report.figures import predicted_versus_measured

        predicted_versus_measured(comparisons, options.figure, f"{model.device}: predicted and measured latency")


def measure_networks(model: LatencyModel, store: ProfileStore, count: int, seed: int) -> Comparison:
    """Measures random networks of the model's families, or takes them from the store, and compares.

    Raises:
        BlsmError: fewer than 2 networks could be measured.
        CoverageError: the model lacks the stem, the head, or all families between them.
    """
    from blsm.errors import BlsmError
    from blsm.evaluation import compare_networks
    from blsm.profiling import device

    chosen = networks.of_model(model, count, seed)
    found = networks.measure(device(model.device), store, chosen, seed, "measuring networks")
    if len(found) < 2:
        raise BlsmError(f"{len(found)} of {count} networks could be measured, at least 2 are needed")
    return compare_networks(model, found)


def to_json(model: LatencyModel, comparisons: dict[str, Comparison]) -> dict[str, Any]:
    """All figures, and the points that `blsm report` draws, as JSON data."""
    return {
        "device": model.device,
        "fingerprint": model.fingerprint.to_json(),
        "dispatch_ms": model.dispatch_ms,
        "figures": {
            name: {**c.agreement.to_json(), **({} if c.inside is None else {"inside_interval": c.inside})}
            for name, c in comparisons.items()
        },
        "points": {
            name: {"predicted_ms": c.predicted_ms.tolist(), "measured_ms": c.measured_ms.tolist()}
            for name, c in comparisons.items()
        },
    }
