"""blsm additivity"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from blsm.cli import common, networks

if TYPE_CHECKING:
    from blsm.additivity import Additivity
    from blsm.profiles import ProfileStore
    from blsm.profiling import Device

NAME = "additivity"
HELP = "measure how well the blocks of a device add up to networks, and recommend the context to profile them in"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the device, what to study, and where to write the verdict."""
    common.add_device(command)
    common.add_hosts(command, several=True)
    command.add_argument(
        "--networks", type=common.positive, default=20, help="networks to measure whole and in parts (default: 20)"
    )
    command.add_argument(
        "--block",
        default="mbconv,res_v1,res_v2",
        metavar="NAME[,NAME...]",
        help="families of their blocks (default: mbconv,res_v1,res_v2)",
    )
    common.add_seed(command, "the networks and the order of visits")
    common.add_store(command)
    command.add_argument(
        "--latency-model", type=Path, metavar="FILE.blsm", help="also write the verdict into this bundle"
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """Studies, prints, and writes the verdict into a bundle if one is given."""
    import json
    from dataclasses import replace

    from blsm import bundle
    from blsm.profiles import ProfileStore

    target = common.measured_device(options)
    model = None if options.latency_model is None else bundle.load(options.latency_model)
    if model is not None:
        networks.check_model(model, target)
    with ProfileStore(options.store, create=True) as store:
        verdict = study(target, store, options.block.split(","), options.networks, options.seed)
    if model is not None:
        bundle.save(replace(model, additivity=verdict), options.latency_model)
    if options.json:
        print(json.dumps({"device": target.name, "context": verdict.context, "sums": verdict.to_json()}, indent=1))
        return
    rows = [
        (
            *(name, str(sums.networks), f"{sums.low:.3f}", f"{sums.median:.3f}", f"{sums.high:.3f}"),
            *(f"{100 * sums.deviation:.1f} %", f"{sums.spearman:.4f}"),
            {None: "not timed", True: "counted", False: "not found"}[sums.cold],
            f"{verdict.factor(name):.3f}",
        )
        for name, sums in verdict.sums.items()
    ]
    common.print_table(
        rows,
        ("context", "networks", "least sum / network", "median", "most", "s.d.", "Spearman", "cold caches", "factor"),
    )
    print(f"{target.name}: profile and fit with --context {verdict.context}")
    if model is not None and model.context != verdict.context:
        print(
            f"{options.latency_model} was fitted in the context {model.context}: run `blsm profile --context "
            f"{verdict.context}` and fit again"
        )


def study(target: Device, store: ProfileStore, families: list[str], count: int, seed: int) -> Additivity:
    """Measures networks whole, their blocks and their pairs of neighbours; says how they add up.

    Raises:
        FitError: too few of them could be measured.
    """
    from blsm.additivity import CONTEXTS, parts
    from blsm.blocks import block_family
    from blsm.fitting import fit_cold, judge_sums
    from blsm.hypermodels import sample_networks

    known = [block_family(name.strip()).name for name in families]
    whole = sample_networks(count, networks.STUDY_SEED + seed, families=known)
    wanted = dict.fromkeys([*(part for context in CONTEXTS for part in parts(whole, context)), *whole])
    measured = networks.measure(target, store, list(wanted), seed, "measuring networks and their parts")
    return judge_sums(measured, fit_cold(store.profiles(target.name)))
