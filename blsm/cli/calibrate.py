"""blsm calibrate"""

from __future__ import annotations

import argparse
from pathlib import Path

from blsm.cli import common, networks

NAME = "calibrate"
HELP = "correct a latency model by a handful of random networks measured whole"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the model, the networks and the output."""
    command.add_argument("latency_model", type=Path, metavar="MODEL.blsm", help="latency model bundle")
    command.add_argument(
        "--networks", type=common.positive, default=20, metavar="N", help="networks to measure (default: 20)"
    )
    common.add_hosts(command, several=True)
    common.add_seed(command, "the networks and the order of visits")
    common.add_store(command)
    command.add_argument(
        "-o", "--output", type=Path, metavar="FILE.blsm", help="bundle to write (default: the model itself)"
    )


def run(options: argparse.Namespace) -> None:
    """Measures, calibrates, saves and prints."""
    import numpy as np

    from blsm import bundle
    from blsm.calibration import calibrate
    from blsm.metrics import HEADERS, Agreement, table_row
    from blsm.profiles import ProfileStore

    model = bundle.load(options.latency_model)
    options.device = model.device
    target = common.measured_device(options)
    networks.check_model(model, target)
    chosen = networks.of_model(model, options.networks, networks.CALIBRATION_SEED + options.seed)
    with ProfileStore(options.store, create=True) as store:
        measured_ms = networks.measure(target, store, chosen, options.seed, "measuring networks")
    before_ms = model.latencies(list(measured_ms)) if measured_ms else np.empty(0)
    model = calibrate(model, measured_ms)
    output = options.output or options.latency_model
    bundle.save(model, output)
    found = model.calibration
    assert found is not None
    common.print_table([table_row("before", Agreement.of(before_ms, list(measured_ms.values())))], HEADERS)
    cold = (
        f"what cold caches make x {found.cold:.2f}"
        if model.cold
        else f"{100 * found.cold:+.1f} % where networks last and caches are cold"
    )
    factors = ", ".join(f"{name} x {factor:.3f}" for name, factor in found.factors.items())
    print(
        f"{output}: calibrated by {len(found.networks)} networks: {factors}; {1000 * found.each_ms:+.2f} us a block; "
        f"{cold}; each network predicted from the others: MAPE {found.mape:.2f} %"
    )
