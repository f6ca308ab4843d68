"""blsm predict"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from blsm.cli import common

if TYPE_CHECKING:
    from blsm.latency_model import LatencyEstimate

_INPUT_SHAPE = ("height", "width", "in_channels")

NAME = "predict"
HELP = "predict the latency of a Keras model, block by block, without the device"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the model and the latency model."""
    command.add_argument("model", type=Path, metavar="MODEL.keras", help="Keras model file")
    command.add_argument("--latency-model", type=Path, required=True, metavar="FILE.blsm", help="see `blsm fit`")
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument(
        "--interval", type=float, default=0.9, metavar="LEVEL", help="share of measurements in intervals (default: 0.9)"
    )
    command.add_argument(
        "--allow-partial", action="store_true", help="predict what is covered, even where parts of the network are not"
    )


def run(options: argparse.Namespace) -> None:
    """Predicts and prints."""
    import json

    from blsm import bundle
    from blsm.estimates import estimate_to_json
    from blsm.network import load_keras_model

    latency_model = bundle.load(options.latency_model)
    with common.quiet():
        model = load_keras_model(options.model)
        estimate = latency_model.latency(model, allow_partial=options.allow_partial, interval=options.interval)
    if options.json:
        figures = {"interval": options.interval, "device": latency_model.device, **estimate_to_json(estimate)}
        print(json.dumps(figures, indent=1))
    else:
        print_estimate(estimate, latency_model.device, options.interval)


def print_estimate(estimate: LatencyEstimate, device: str, level: float) -> None:
    """Prints the per-block table and the total, with an interval of this level."""
    rows = [
        (
            str(number),
            block.config.family,
            "x".join(map(str, block.config.input_shape)),
            " ".join(f"{k}={v}" for k, v in block.config.to_dict().items() if k not in _INPUT_SHAPE),
            f"{block.latency_ms:.4f}",
            f"{block.latency_ms / estimate.latency_ms:.1%}",
            "" if block.in_domain else "outside the profiled domain",
        )
        for number, block in enumerate(estimate.blocks, start=1)
    ]
    rows.append(("", "dispatch", "", "", f"{estimate.dispatch_ms:.4f}", "", ""))
    common.print_table(rows, ("", "block", "input", "parameters", "ms", "share", ""))
    print(
        f"\n{estimate.latency_ms:.4f} ms on {device}, {100 * level:g} % interval {estimate.low_ms:.4f} to "
        f"{estimate.high_ms:.4f} ms, coverage {estimate.coverage:.0%}"
    )
    if estimate.unmatched:
        print(f"not covered, counted as 0 ms: {', '.join(map(str, estimate.unmatched))}")
