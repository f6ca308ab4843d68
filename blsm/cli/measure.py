"""blsm measure"""

from __future__ import annotations

import argparse
from pathlib import Path

from blsm.cli import common

NAME = "measure"
HELP = "time a whole Keras model on a device, with the protocol of `blsm profile`"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the model, the device and the protocol."""
    command.add_argument("model", type=Path, metavar="MODEL.keras", help="Keras model file")
    common.add_device(command)
    common.add_hosts(command, several=False)
    common.add_protocol(command)
    command.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """Measures and prints."""
    import json

    from blsm.network import load_keras_model
    from blsm.profiling import Protocol, measure_model

    target = common.measured_device(options)
    protocol = common.protocol(options, Protocol.of_networks())
    with common.quiet():
        visits = measure_model(load_keras_model(options.model), target, protocol)
    latency_ms = min(visit.minimum_ns for visit in visits) / 1e6
    spread = max(visit.minimum_ns for visit in visits) / 1e6 / latency_ms - 1
    invocations = sum(visit.invocations for visit in visits)
    if options.json:
        figures = {"latency_ms": latency_ms, "spread": spread, "visits": len(visits), "invocations": invocations}
        print(json.dumps({**figures, "device": target.name, "fingerprint": target.fingerprint().to_json()}, indent=1))
        return
    print(
        f"{latency_ms:.4f} ms on {target.name}: the minimum of {invocations} invocations in {len(visits)} visits, "
        f"whose minima lie within {spread:.1%}"
    )
    if spread > 0.1:
        print("that is far apart: the machine is busy; run again with more --visits")
