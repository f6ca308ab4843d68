"""The paper's Table 5: HNQ of surrogates on devices, from searches by measurement and by surrogate on the digits.

For each device it profiles the blocks that the hypermodel reaches and fits two surrogates: boosted trees on a roofline
base, calibrated by some whole networks, and the paper's linear regression; then, for each seed, one search by
measurement and one by each surrogate. All searches of a seed share their trainings. Hours on 2 cores; run it again with
the same --folder, and it goes on. `--quick` shows that everything works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from common import write_result

from blsm import bundle
from blsm.accuracies import Accuracies, Training
from blsm.calibration import calibrate
from blsm.cli import common
from blsm.cli.profile import hypermodel_chains
from blsm.comparison import SearchPlan, Times, median_latency_ms, network_of
from blsm.feasibility import feasibility, remeasure
from blsm.fitting import fit_latency_model
from blsm.hypermodels import list_blocks
from blsm.hypermodels.loading import load_hypermodel
from blsm.hypermodels.reach import random_settings
from blsm.images import load_images
from blsm.latency_model import LatencyModel
from blsm.latency_sources import HardwareInTheLoop
from blsm.profiles import ProfileStore, latencies
from blsm.profiling import Device, Protocol, device
from blsm.searches import FinishedSearch, SearchTrial, read_search

HYPERMODEL = "blsm.hypermodels:Cifar10"
REGRESSORS = ("boosted_trees", "linear")
#: Settings of this seed are measured whole to calibrate; searches have other seeds.
_CALIBRATION_SEED = 1_000_000


def fitted(target: Device, options: argparse.Namespace) -> dict[str, LatencyModel]:
    """The surrogates of a device by regressor; profiles what is not in the store yet."""
    hypermodel = load_hypermodel(HYPERMODEL)
    chains = hypermodel_chains(HYPERMODEL, options.samples, 0)
    settings = random_settings(hypermodel, _CALIBRATION_SEED)
    networks = [list_blocks(hypermodel, next(settings)) or () for _ in range(options.networks)]
    with ProfileStore(options.folder / f"{target.key}.db", create=True) as store:
        for wanted, what in ((chains, "profiling"), (networks, "measuring networks")):
            common.run_campaign(
                target, store, wanted, protocol=Protocol(), seed=0, description=f"{what} on {target.name}"
            )
        measured = latencies(store.profiles(target.name))
        whole = {network: measured[network] for network in networks if network in measured}
        trees, linear = (fit_latency_model(store, target.name, regressor=regressor) for regressor in REGRESSORS)
    # The linear one is the paper's, as it is.
    return {"boosted_trees": calibrate(trees, whole), "linear": linear}


def search(
    name: str, latency_model: Path | None, folder: Path, reference_ms: float, seed: int, options: argparse.Namespace
) -> Times:
    """One search, by surrogate or, without one, by measurement."""
    training = Training("digits", options.epochs, options.patience, seed)
    images = load_images("digits", limit=options.images, seed=seed)
    plan = SearchPlan(load_hypermodel(HYPERMODEL), images, training, options.trials, reference_ms, options.strategy)
    source = HardwareInTheLoop(name) if latency_model is None else bundle.load(latency_model)
    accuracies = Accuracies(options.folder / f"accuracies-{seed}.json", training)
    with common.progress(options.trials, " trials", f"{name}, seed {seed}, {folder.name}") as bar:
        return plan.run(source, folder, accuracies, bar.update)


def searches(
    target: Device, models: dict[str, LatencyModel], seed: int, options: argparse.Namespace
) -> dict[str, tuple[FinishedSearch, Times]]:
    """The search by measurement, `hil`, and those by surrogate, by regressor."""
    reference_ms = 2 * median_latency_ms(load_hypermodel(HYPERMODEL), models[REGRESSORS[0]])
    parent = options.folder / f"{target.key}-{seed}"
    parent.mkdir(exist_ok=True)
    bundles: dict[str, Path | None] = {"hil": None}
    for regressor, model in models.items():
        path = options.folder / f"{target.key}-{regressor}.blsm"
        bundle.save(model, path)
        bundles[regressor] = path
    found = {}
    for name, latency_model in bundles.items():
        # Each in a process of its own: TensorFlow keeps some memory of every model that it trained.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            job = process.submit(search, target.name, latency_model, parent / name, reference_ms, seed, options)
            times = job.result()
        found[name] = read_search(parent / name), times
    return found


def compared(target: Device, found: dict[str, tuple[FinishedSearch, Times]], seed: int) -> list[dict[str, Any]]:
    """One row a regressor."""
    hypermodel = load_hypermodel(HYPERMODEL)
    hardware = HardwareInTheLoop(target)

    def measure_ms(trial: SearchTrial) -> float:
        return hardware.latency(network_of(hypermodel, trial)).latency_ms

    hil, hil_times = found["hil"]
    rows = []
    for regressor in REGRESSORS:
        sm, sm_times = found[regressor]
        verdict = feasibility(hil, sm)
        rows.append(
            {
                "device": target.name,
                "regressor": regressor,
                "seed": seed,
                "reference_latency_ms": sm.reference_latency_ms,
                **verdict.to_json(),
                "remeasured": remeasure(verdict, measure_ms).to_json(),
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
        f"{median('remeasured', 'hypervolume_ratio'):.3f}",
        f"{median('remeasured', 'mean_absolute_error'):.1%}",
        f"{median('hil_deciding_s'):.0f} / {median('sm_deciding_s'):.1f}",
        f"{median('sm_deciding_share'):.2%}",
    )


def main() -> None:
    """Searches, compares, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/feasibility"), help="of stores and searches")
    parser.add_argument("--devices", default="edge_cpu,asic")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--strategy", default="bayesian")
    parser.add_argument("--samples", type=int, default=600, help="blocks of each family to profile")
    parser.add_argument("--networks", type=int, default=40, help="whole networks to calibrate with")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--patience", type=int, default=3)
    parser.add_argument("--images", type=int, help="train on so many images only")
    parser.add_argument("--quick", action="store_true", help="one seed, 6 trials, 100 images, 1 epoch, 40 blocks")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.trials, options.samples, options.networks = 1, 6, 40, 6
        options.epochs, options.images = 1, 100
    options.folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    table = []
    for name in options.devices.split(","):
        target = device(name)
        if (lacking := target.missing()) is not None:
            print(f"{name} is left out, it is not usable here: {lacking}")
            continue
        models = fitted(target, options)
        of_device = [
            row
            for seed in range(options.seeds)
            for row in compared(target, searches(target, models, seed, options), seed)
        ]
        table += [table_row([row for row in of_device if row["regressor"] == regressor]) for regressor in REGRESSORS]
        rows += of_device
    headers = (
        "device",
        "regressor",
        "HNQ, median",
        "90 % intervals",
        "verdicts",
        "hypervolume, SM / HIL",
        "error of the front",
        "deciding, HIL / SM, s",
        "SM's share",
    )
    common.print_table(table, headers)
    if not options.quick:
        settings = {key: str(value) for key, value in vars(options).items() if key not in ("folder", "quick")}
        write_result("feasibility", {"settings": settings, "searches": rows})


if __name__ == "__main__":
    main()
