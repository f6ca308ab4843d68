"""blsm transfer"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from blsm.cli import common

if TYPE_CHECKING:
    from blsm.blocks import BlockConfig
    from blsm.latency_model import BlockSurrogate
    from blsm.profiles import ProfileStore

NAME = "transfer"
HELP = "a latency model of a new device from a few measured blocks and the profiles of other devices"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the method, the pool, the new device and the output."""
    command.add_argument(
        "--method",
        default="block_prior",
        help="block_prior (default), help, multi_predict, maple, or a baseline: nearest_device, known_devices, "
        "from_scratch, median",
    )
    command.add_argument(
        "--pool", type=Path, nargs="+", required=True, metavar="STORE", help="profile stores of the known devices"
    )
    common.add_device(command)
    common.add_hosts(command, several=True)
    command.add_argument(
        "--samples", type=common.positive, default=10, help="blocks of each family to measure (default: 10)"
    )
    command.add_argument("--block", metavar="NAME[,NAME...]", help="block families; all that the pool has by default")
    common.add_store(command)
    command.add_argument("-o", "--output", type=Path, required=True, help="bundle to write, e.g. new.blsm")
    common.add_seed(command, "the method and the order of visits")
    common.add_protocol(command)


def run(options: argparse.Namespace) -> None:
    """Learns the pool, measures the blocks that the method asks for, adapts, saves."""
    from blsm import bundle
    from blsm.errors import FitError
    from blsm.latency_model import LatencyModel
    from blsm.metrics import HEADERS, Agreement, table_row
    from blsm.profiles import DISPATCH_PROBE, ProfileStore
    from blsm.transfer import transfer_method
    from blsm.transfer.blocks import FamilyTransfer, read_pool

    make = transfer_method(options.method)
    target = common.measured_device(options)
    pools = read_pool(options.pool, without=target.name)
    if options.block is not None:
        wanted = list(dict.fromkeys(name.strip() for name in options.block.split(",")))
        if lacking := [name for name in wanted if name not in pools]:
            raise FitError(f"the pool has {', '.join(pools)}, not {', '.join(lacking)}: profile them on two devices")
        pools = {name: pools[name] for name in wanted}
    families = {}
    with common.progress(len(pools), " families", f"learning with {options.method}") as bar:
        for name, measured in pools.items():
            families[name] = FamilyTransfer.learn(measured, make(seed=options.seed), options.seed)
            bar.update()
    asked = {name: family.references(options.samples) for name, family in families.items()}
    with ProfileStore(options.store, create=True) as store:
        report = common.run_campaign(
            target,
            store,
            [DISPATCH_PROBE, *((config,) for configs in asked.values() for config in configs)],
            protocol=common.protocol(options),
            seed=options.seed,
            description=f"measuring on {target.name}",
        )
        if report.failed:
            chain, reason = next(iter(report.failed.items()))
            print(f"{len(report.failed)} of the blocks failed on {target.name}, e.g. {chain[0]}: {reason}")
        measured_ms = _measured(store, target.name)
        dispatch_ms = measured_ms.get(DISPATCH_PROBE[0])
        if dispatch_ms is None:
            raise FitError(f"the dispatch cost of {target.name} could not be measured: run the same command again")
        surrogates: dict[str, BlockSurrogate] = {}
        for name, family in families.items():
            samples = {config: measured_ms[config] for config in asked[name] if config in measured_ms}
            surrogates[name] = family.adapt(samples)
        model = LatencyModel(target.name, store.fingerprint(target.name), surrogates, dispatch_ms)
    bundle.save(model, options.output)
    rows = [table_row(name, Agreement.from_json(surrogate.metrics)) for name, surrogate in surrogates.items()]
    common.print_table(rows, ("block family", *HEADERS[1:]))
    known = ", ".join(dict.fromkeys(device for measured in pools.values() for device in measured))
    print(
        f"{options.output}: {options.method} of {target.name} from {known} and {report.complete} measured blocks; "
        "figures of samples predicted from the other samples"
    )


def _measured(store: ProfileStore, device: str) -> dict[BlockConfig, float]:
    """The isolated blocks of a device, in milliseconds."""
    from blsm.profiles import latencies

    return {chain[0]: ms for chain, ms in latencies(store.profiles(device)).items() if len(chain) == 1}
