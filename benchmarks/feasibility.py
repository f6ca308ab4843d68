"""The paper's Table 5: HNQ of surrogates on devices, from searches by measurement and by surrogate on the digits.

For each device it profiles the blocks that the hypermodel reaches and fits two surrogates: boosted trees on a roofline
base, calibrated by some whole networks, and the paper's linear regression; then, for each seed, one search by
measurement and one by each surrogate. All searches of a seed, of whatever device, share their trainings: at most 540 a
device. One took 14 s on one core, at which rate a device takes 2 hours.

Kill it at any moment: run again with the same --folder, it goes on. Two processes may share the folder, such as one for
each device; where they meet, one waits. What is not deterministic (`edge_cpu`) needs a machine to itself. `--quick`
shows that everything works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import digits
from common import write_result

from blsm import bundle
from blsm.accuracies import Accuracies, Training
from blsm.calibration import calibrate
from blsm.cli import common, networks
from blsm.cli.main import main as run_blsm
from blsm.comparison import SearchPlan, Times, network_of, reference_latency_ms
from blsm.feasibility import feasibility
from blsm.fitting import fit_latency_model
from blsm.hypermodels import list_blocks
from blsm.hypermodels.reach import random_settings
from blsm.latency_model import LatencyModel
from blsm.latency_sources import HardwareInTheLoop
from blsm.profiles import ProfileStore
from blsm.profiling import Device, device
from blsm.remeasured import remeasure
from blsm.searches import FinishedSearch, SearchTrial, read_search

HYPERMODEL = f"{digits.__file__}:hypermodel"
REGRESSORS = ("boosted_trees", "linear")


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Waits until no other process is here."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def surrogates(target: Device, options: argparse.Namespace) -> dict[str, Path]:
    """The bundles of a device by regressor; profiles and fits unless that was done."""
    paths = {regressor: options.folder / f"{target.key}-{regressor}.blsm" for regressor in REGRESSORS}
    with alone(options.folder / f"{target.key}.lock"):
        if not all(path.exists() for path in paths.values()):
            for regressor, model in fitted(target, options).items():
                bundle.save(model, paths[regressor])
    return paths


def fitted(target: Device, options: argparse.Namespace) -> dict[str, LatencyModel]:
    """The surrogates of a device by regressor; the first adds blocks up as is best on the device."""
    path = options.folder / f"{target.key}.db"
    profile = ("profile", "--hypermodel", HYPERMODEL, "--device", target.name, "--context", "auto")
    if run_blsm([*profile, "--samples", str(options.samples), "--store", str(path)]) != 0:
        raise SystemExit("profiling failed, see above")
    settings = random_settings(digits.hypermodel(), networks.CALIBRATION_SEED)
    whole = [list_blocks(digits.hypermodel(), next(settings)) or () for _ in range(options.networks)]
    with ProfileStore(path) as store:
        whole_ms = networks.measure(target, store, whole, 0, f"measuring networks on {target.name}")
        trees = fit_latency_model(store, target.name, regressor="boosted_trees")
        # The paper's, as it is.
        linear = fit_latency_model(store, target.name, regressor="linear", context="isolated")
    return {"boosted_trees": calibrate(trees, whole_ms), "linear": linear}


def search(
    name: str, latency_model: Path | None, folder: Path, reference_ms: float, seed: int, options: argparse.Namespace
) -> Times:
    """One search, by surrogate or, without one, by measurement."""
    images = digits.images(options.images, seed, options.batch_size)
    data = f"{len(images.x_train)} digits at {images.shape}"
    training = Training(data, options.epochs, options.patience, seed, options.batch_size)
    plan = SearchPlan(digits.hypermodel(), images, training, options.trials, reference_ms, options.strategy)
    # TensorFlow warns that each model is traced anew: in a search it must be.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    source = HardwareInTheLoop(name) if latency_model is None else bundle.load(latency_model)
    accuracies = Accuracies(options.folder / f"accuracies-{seed}.sqlite", training)
    with common.progress(options.trials, " trials", f"{name}, seed {seed}, {folder.name}") as bar:
        return plan.run(source, folder, accuracies, bar.update)


def searches(
    target: Device, bundles: dict[str, Path], seed: int, options: argparse.Namespace
) -> dict[str, tuple[FinishedSearch, Times]]:
    """The search by measurement, `hil`, and those by surrogate, by regressor."""
    reference_ms = reference_latency_ms(digits.hypermodel(), bundle.load(bundles[REGRESSORS[0]]))
    parent = options.folder / f"{target.key}-{seed}"
    parent.mkdir(exist_ok=True)
    found = {}
    sources: dict[str, Path | None] = {"hil": None, **bundles}
    with alone(parent / "lock"):
        for name, latency_model in sources.items():
            # Each in a process of its own: TensorFlow keeps some memory of every model that it trained.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                job = process.submit(search, target.name, latency_model, parent / name, reference_ms, seed, options)
                times = job.result()
            found[name] = read_search(parent / name), times
    return found


def compared(target: Device, found: dict[str, tuple[FinishedSearch, Times]], seed: int) -> list[dict[str, Any]]:
    """One row a regressor."""
    hypermodel = digits.hypermodel()
    hardware = HardwareInTheLoop(target)

    def measure_ms(trial: SearchTrial) -> float:
        return hardware.latency(network_of(hypermodel, trial)).latency_ms

    hil, hil_times = found["hil"]
    rows = []
    for regressor in REGRESSORS:
        sm, sm_times = found[regressor]
        judged = feasibility(hil, sm)
        rows.append(
            {
                "device": target.name,
                "regressor": regressor,
                "seed": seed,
                "reference_latency_ms": sm.reference_latency_ms,
                **judged.to_json(),
                "remeasured": remeasure(judged, measure_ms).to_json(),
                "hil_deciding_s": hil_times.deciding_s,
                "hil_training_s": hil_times.training_s,
                "sm_deciding_s": sm_times.deciding_s,
                "sm_training_s": sm_times.training_s,
                "sm_deciding_share": sm_times.deciding_share,
            }
        )
    return rows


def shown(value: float | None) -> str:
    """A figure of the JSON data, where infinity is None."""
    return "inf" if value is None else f"{value:.2f}"


def table_row(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """One line of the printed table: a device and regressor over all seeds."""

    def median(*path: str) -> float:
        values = []
        for row in rows:
            value: Any = row
            for key in path:
                value = value[key]
            values.append(float("inf") if value is None else value)
        return statistics.median(values)

    return (
        rows[0]["device"],
        rows[0]["regressor"],
        f"{median('hnq'):.3f}",
        ", ".join(f"{shown(row['hnq_low'])} to {shown(row['hnq_high'])}" for row in rows),
        ", ".join(row["verdict"] for row in rows),
        f"{median('w_overall'):.4f} / {median('w_chance'):.4f}",
        f"{median('remeasured', 'hypervolume_ratio'):.3f}",
        f"{median('remeasured', 'mean_absolute_error'):.1%}",
        f"{median('hil_deciding_s'):.0f} / {median('sm_deciding_s'):.1f}",
        f"{median('sm_deciding_share'):.2%}",
    )


def main() -> None:
    """Searches, compares, prints; writes a file for each device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/feasibility"), help="of stores and searches")
    parser.add_argument("--devices", default="asic,edge_cpu")
    parser.add_argument("--seeds", type=int, default=3, help="0 up to this; more of them reuse those that are done")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--strategy", default="bayesian")
    parser.add_argument("--samples", type=int, default=400, help="blocks of each family to profile")
    parser.add_argument("--networks", type=int, default=40, help="whole networks to calibrate with")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--patience", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--images", type=int, help="train on so many images only")
    parser.add_argument("--quick", action="store_true", help="one seed, 6 trials, 100 images, 1 epoch, 40 blocks")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.trials, options.samples, options.networks = 1, 6, 40, 6
        options.epochs, options.images, options.folder = 1, 100, options.folder / "quick"
    options.folder.mkdir(parents=True, exist_ok=True)
    settings = {key: str(value) for key, value in vars(options).items() if key not in ("folder", "devices", "quick")}
    table = []
    for name in options.devices.split(","):
        target = device(name)
        if (lacking := target.missing()) is not None:
            print(f"{name} is left out, it is not usable here: {lacking}")
            continue
        bundles = surrogates(target, options)
        rows = [
            row
            for seed in range(options.seeds)
            for row in compared(target, searches(target, bundles, seed, options), seed)
        ]
        table += [table_row([row for row in rows if row["regressor"] == regressor]) for regressor in REGRESSORS]
        if not options.quick:
            write_result(f"feasibility_{target.key}", {"settings": settings, "searches": rows})
    headers = (
        "device",
        "regressor",
        "HNQ, median",
        "90 % intervals",
        "verdicts",
        "W_overall / by chance",
        "hypervolume, SM / HIL",
        "error of the front",
        "deciding, HIL / SM, s",
        "SM's share",
    )
    common.print_table(table, headers)


if __name__ == "__main__":
    main()
