"""blsm feasibility"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blsm.cli import common

if TYPE_CHECKING:
    from blsm.feasibility import Feasibility
    from blsm.remeasured import Remeasured

NAME = "feasibility"
HELP = "say whether a surrogate is good enough to search with, from a search by measurement and one by surrogate"

#: What `blsm compare` leaves beside the folders of its searches.
VERDICT = "feasibility.json"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the searches, the device and the outputs."""
    command.add_argument("hil", type=Path, metavar="HIL_DIR", help="folder of the search by measurement")
    command.add_argument("sm", type=Path, metavar="SM_DIR", help="folder of the search by surrogate")
    command.add_argument("--device", help="also measure the networks on the surrogate's front again, on this device")
    command.add_argument(
        "--hypermodel",
        metavar="PACKAGE:NAME|FILE.py:NAME",
        help="what was searched, to build these networks (default: as `blsm search` or `blsm compare` noted down)",
    )
    command.add_argument(
        "--resamples", type=common.positive, default=1000, help="of the bootstrap interval (default: 1000)"
    )
    common.add_seed(command, "the bootstrap")
    command.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a JSON file")


def run(options: argparse.Namespace) -> None:
    """Compares, measures again if asked to, and prints."""
    import json

    from blsm.feasibility import feasibility
    from blsm.files import write_atomically

    found = feasibility(options.hil, options.sm, resamples=options.resamples, seed=options.seed)
    again = None
    if options.device is not None:
        name = options.hypermodel or noted_hypermodel(options.sm)
        again = measure_front(found, name, options.device)
    print_verdict(found, again)
    if options.json is not None:
        write_atomically(options.json, json.dumps(to_json(found, again), indent=1).encode())


def noted_hypermodel(folder: Path) -> str:
    """The hypermodel that `blsm search` or `blsm compare` searched in a folder.

    Raises:
        SearchError: neither noted it down.
    """
    import json

    from blsm.errors import SearchError

    for path in (folder / "options.json", folder.resolve().parent / VERDICT):
        try:
            return str(json.loads(path.read_text())["hypermodel"])
        except (OSError, ValueError, KeyError):
            continue
    raise SearchError(
        f"{folder} does not say what was searched: name it with --hypermodel, so that the networks on its front can be "
        "built and measured"
    )


def measure_front(found: Feasibility, hypermodel: str, device: str) -> Remeasured:
    """Measures the networks on the surrogate's front.

    Raises:
        FeasibilityError: the search was for another device.
        SearchError: there is no such hypermodel.
        DeviceError: the device is not usable here.
    """
    from blsm import profiling
    from blsm.comparison import network_of
    from blsm.errors import FeasibilityError
    from blsm.hypermodels.loading import load_hypermodel
    from blsm.latency_sources import HardwareInTheLoop
    from blsm.remeasured import remeasure

    target = profiling.device(device)
    if found.sm.device and target.name != found.sm.device:
        raise FeasibilityError(
            f"{found.sm.name} is a search for {found.sm.device}: its front can't be measured on {target.name}"
        )
    with common.quiet():
        built = load_hypermodel(hypermodel)
    hil = HardwareInTheLoop(target)
    with common.progress(len(found.sm_front), " networks", f"measuring on {target.name}") as bar:

        def measure_ms(trial: Any) -> float:
            latency_ms = hil.latency(network_of(built, trial)).latency_ms
            bar.update()
            return latency_ms

        return remeasure(found, measure_ms)


def to_json(found: Feasibility, again: Remeasured | None) -> dict[str, Any]:
    """All figures as JSON data."""
    return {**found.to_json(), **({} if again is None else {"remeasured": again.to_json()})}


def print_verdict(found: Feasibility, again: Remeasured | None) -> None:
    """Prints the figures of both searches, the re-measured front, and the verdict."""
    rows = [
        (name, str(len(search.trials)), str(search.failed), str(len(front)), f"{search.best.score:.4f}", f"{area:.4g}")
        for name, search, front, area in (
            ("HIL", found.hil, found.hil_front, found.hil_hypervolume),
            ("SM", found.sm, found.sm_front, found.sm_hypervolume),
        )
    ]
    common.print_table(rows, ("search", "trials", "failed", "Pareto", "best HA-score", "hypervolume"))
    if again is not None:
        print()
        print_remeasured(again)
    print(
        f"\nW_overall {found.w_overall:.4g} (by chance up to {found.w_chance:.2g}), W_optimal {found.w_optimal:.4g}, "
        f"HNQ {found.hnq:.3f}, 90 % interval {found.low:.3f} to {found.high:.3f}"
    )
    print(found.sentence)
    if again is not None:
        print(again.sentence)


def print_remeasured(again: Remeasured) -> None:
    """Prints predicted against measured latency of the surrogate's front."""
    rows = [
        (
            trial.name,
            f"{trial.accuracy:.2%}",
            f"{trial.latency_ms:.4f}",
            f"{ms:.4f}",
            f"{trial.latency_ms / ms - 1:+.1%}",
        )
        for trial, ms in zip(again.front, again.measured_ms, strict=True)
    ]
    common.print_table(rows, ("SM front", "accuracy", "predicted, ms", "measured, ms", "error"))
