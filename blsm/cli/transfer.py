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
    from blsm.transfer import Method
    from blsm.transfer.blocks import BlockTransfer
    from blsm.transfer.descriptor import Descriptor

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
    command.add_argument(
        "--descriptor",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="for --method maple: what `blsm descriptor` wrote of the known devices and of the new one; without them "
        "it estimates operator latencies from the measured blocks",
    )
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
    from blsm.transfer.blocks import BlockTransfer, known_surrogates, learned_together, read_pool

    make = transfer_method(options.method)
    target = common.measured_device(options)
    descriptors = _descriptors(options, target.name)
    pools = read_pool(options.pool, without=target.name)
    if options.block is not None:
        wanted = list(dict.fromkeys(name.strip() for name in options.block.split(",")))
        if lacking := [name for name in wanted if name not in pools]:
            raise FitError(f"the pool has {', '.join(pools)}, not {', '.join(lacking)}: profile them on two devices")
        pools = {name: pools[name] for name in wanted}
    with common.progress(len(pools), " families", "fitting the known devices") as bar:
        known = known_surrogates(pools, options.seed, lambda family: bar.update())
    transfers = []
    with common.progress(len(pools), " families", f"learning with {options.method}") as bar:
        for together in learned_together(pools, make):
            transfers.append(BlockTransfer.learn(together, known, _method(options, descriptors)))
            bar.update(len(together))
    asked = [transfer.references(options.samples) for transfer in transfers]
    with ProfileStore(options.store, create=True) as store:
        report = common.run_campaign(
            target,
            store,
            [DISPATCH_PROBE, *((config,) for configs in asked for config in configs)],
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
        for transfer, configs in zip(transfers, asked, strict=True):
            if descriptors is not None:
                transfer = _described(transfer, descriptors, store, target.name)
            surrogates |= transfer.adapt({config: measured_ms[config] for config in configs if config in measured_ms})
        model = LatencyModel(target.name, store.fingerprint(target.name), surrogates, dispatch_ms)
    bundle.save(model, options.output)
    rows = [table_row(name, Agreement.from_json(surrogate.metrics)) for name, surrogate in surrogates.items()]
    common.print_table(rows, ("block family", *HEADERS[1:]))
    names = ", ".join(dict.fromkeys(device for measured in pools.values() for device in measured))
    print(
        f"{options.output}: {options.method} of {target.name} from {names} and {report.complete} measured blocks; "
        "figures of samples predicted from the other samples"
    )


def _descriptors(options: argparse.Namespace, device: str) -> dict[str, Descriptor] | None:
    """Device -> descriptor of --descriptor; None without it."""
    from blsm.errors import DomainError, FitError
    from blsm.transfer.descriptor import Descriptor

    if options.descriptor is None:
        return None
    if options.method != "maple":
        raise DomainError(f"--descriptor is for --method maple, got --method {options.method}")
    found = {descriptor.device: descriptor for descriptor in map(Descriptor.load, options.descriptor)}
    if device not in found:
        raise FitError(
            f"--descriptor has {', '.join(found)}, not the new device: run `blsm descriptor --device {device} -o FILE`"
        )
    return found


def _method(options: argparse.Namespace, descriptors: dict[str, Descriptor] | None) -> Method:
    from blsm.transfer import Maple, transfer_method
    from blsm.transfer.descriptor import descriptor_vectors

    if descriptors is None:
        return transfer_method(options.method)(seed=options.seed)
    method: Method = Maple(seed=options.seed, descriptors=descriptor_vectors(descriptors.values()))
    return method


def _described(
    transfer: BlockTransfer, descriptors: dict[str, Descriptor], store: ProfileStore, device: str
) -> BlockTransfer:
    """The transfer with a method that knows the new device's descriptor."""
    from dataclasses import replace

    from blsm.errors import FingerprintError
    from blsm.transfer import Maple
    from blsm.transfer.descriptor import descriptor_vectors

    if different := descriptors[device].fingerprint.differences(store.fingerprint(device)):
        raise FingerprintError(
            f"the descriptor of {device} is of another machine or software ({'; '.join(different)}): run "
            f"`blsm descriptor --device {device} -o FILE` again"
        )
    assert isinstance(transfer.method, Maple)
    return replace(transfer, method=transfer.method.of_device(descriptor_vectors(descriptors.values())[device]))


def _measured(store: ProfileStore, device: str) -> dict[BlockConfig, float]:
    """The isolated blocks of a device, in milliseconds."""
    from blsm.profiles import latencies

    return {chain[0]: ms for chain, ms in latencies(store.profiles(device)).items() if len(chain) == 1}
