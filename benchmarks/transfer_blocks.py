"""Few-shot transfer of block surrogates: each device of a pool in turn is the new one, the others are known.

Spearman correlation, shares within 5 and 10 %, and share inside the 90 % interval of methods that say how far they may
be off, of blocks that the known devices were profiled on but the new one was not, and of unseen blocks, a quarter that
no device was; and of networks, where the stores hold some, as sums of their blocks. Mean of the seeds, which draw the
blocks. Fill the stores with `blsm profile`, with the same --block, --samples and --seed on every device, e.g. several
`asic@accelerator=...`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import write_result

from blsm._types import Array
from blsm.blocks import BlockConfig
from blsm.cli.common import print_table
from blsm.evaluation import compare_networks
from blsm.intervals import DEFAULT_LEVEL
from blsm.latency_model import BlockSurrogate, LatencyModel
from blsm.metrics import Agreement
from blsm.profiles import DISPATCH_PROBE, Chain, Fingerprint, ProfileStore, latencies
from blsm.surrogates import Regressor
from blsm.transfer import transfer_method
from blsm.transfer.blocks import BlockPools, BlockTransfer, Transferred, known_surrogates, learned_together, read_pool

METHODS = ("nearest_device", "known_devices", "from_scratch", "block_prior")
FIGURES = ("spearman", "within_5", "within_10", "inside_interval")
#: One of so many blocks is unseen.
_UNSEEN = 4


@dataclass(frozen=True)
class Networks:
    """What a device takes for networks, milliseconds.

    Attributes:
        measured: network -> latency.
        dispatch_ms: of an almost empty model.
    """

    measured: Mapping[Chain, float]
    dispatch_ms: float

    def judge(self, transferred: Adapted) -> dict[str, float] | None:
        """Sums of predicted blocks against networks; None where too few consist of these families."""
        regressors = transferred.regressors
        chains = [chain for chain in self.measured if all(block.family in regressors for block in chain)]
        if len(chains) < 10:
            return None
        if transferred.surrogates:
            model = LatencyModel("new", Fingerprint({}), transferred.surrogates, self.dispatch_ms)
            found = compare_networks(model, {chain: self.measured[chain] for chain in chains})
            return figures_of(found.predicted_ms, found.measured_ms, found.inside)
        blocks = list(dict.fromkeys(block for chain in chains for block in chain))
        added_ms: dict[BlockConfig, float] = {}
        for family, regressor in regressors.items():
            if members := [block for block in blocks if block.family == family]:
                added_ms |= zip(members, np.maximum(regressor.predict(members) - self.dispatch_ms, 0.0), strict=True)
        sums_ms = [self.dispatch_ms + sum(added_ms[block] for block in chain) for chain in chains]
        return figures_of(sums_ms, [self.measured[chain] for chain in chains], None)


@dataclass(frozen=True)
class Adapted:
    """What is known of a new device after samples.

    Attributes:
        regressors: of each family.
        surrogates: likewise with intervals; none if the method does not say how far it may be off.
        sampled: the blocks that were measured.
        seconds: that adapting took.
    """

    regressors: Mapping[str, Regressor]
    surrogates: Mapping[str, BlockSurrogate]
    sampled: set[BlockConfig]
    seconds: float

    def judge(self, family: str, measured: Mapping[BlockConfig, float]) -> dict[str, float]:
        """Predictions of other blocks of a family against what they take."""
        predicted_ms, measured_ms = self.regressors[family].predict(list(measured)), np.array(list(measured.values()))
        inside = None
        if family in self.surrogates:
            margin = self.surrogates[family].margin(DEFAULT_LEVEL, in_domain=True)
            inside = float((np.abs(np.log(measured_ms / predicted_ms)) <= margin).mean())
        return figures_of(predicted_ms, measured_ms, inside)


def figures_of(
    predicted_ms: Sequence[float] | Array, measured_ms: Sequence[float] | Array, inside: float | None
) -> dict[str, float]:
    """`FIGURES`, not a number for intervals that there are none of."""
    found = Agreement.of(predicted_ms, measured_ms).to_json() | {
        "inside_interval": math.nan if inside is None else inside
    }
    return {name: found[name] for name in FIGURES}


class Remembered:
    """A known device's surrogate that predicts a block once: it is asked again for each new device.

    Args:
        regressor: the surrogate.
        known_ms: block -> milliseconds that are not predicted, because they were measured.
    """

    def __init__(self, regressor: Regressor | None, known_ms: Mapping[BlockConfig, float] | None = None) -> None:
        self._regressor = regressor
        self._known_ms = dict(known_ms or {})

    def predict(self, configs: Sequence[BlockConfig]) -> Array:
        """Milliseconds, shape (n,)."""
        if new := [config for config in dict.fromkeys(configs) if config not in self._known_ms]:
            assert self._regressor is not None
            self._known_ms |= zip(new, self._regressor.predict(new), strict=True)
        return np.array([self._known_ms[config] for config in configs])


def read_networks(paths: Sequence[Path]) -> dict[str, Networks]:
    """The networks in stores, by device: chains of three blocks or more."""
    found = {}
    for path in paths:
        with ProfileStore(path) as store:
            for device in store.devices():
                measured = latencies(store.profiles(device))
                networks = {chain: ms for chain, ms in measured.items() if len(chain) > 2}
                if networks and DISPATCH_PROBE in measured:
                    found[device] = Networks(networks, measured[DISPATCH_PROBE])
    return found


def divide(pools: BlockPools, most: int, seed: int) -> tuple[BlockPools, BlockPools]:
    """At most so many blocks of each family: those that are known, and those that are unseen."""
    known: BlockPools = {}
    unseen: BlockPools = {}
    for family, devices in pools.items():
        # Those that most devices have come first, so that they are the same ones.
        blocks = sorted({block for found in devices.values() for block in found}, key=str)
        np.random.default_rng(seed).shuffle(blocks)
        blocks.sort(key=lambda block: -sum(block in found for found in devices.values()))
        hidden = set(blocks[:most:_UNSEEN])
        for device, found in devices.items():
            mine = {block: found[block] for block in blocks[:most] if block in found}
            known.setdefault(family, {})[device] = {block: ms for block, ms in mine.items() if block not in hidden}
            unseen.setdefault(family, {})[device] = {block: ms for block, ms in mine.items() if block in hidden}
    return known, unseen


def measured_by_all(pools: BlockPools) -> BlockPools:
    """The blocks that every device was profiled on."""
    found: BlockPools = {}
    for family, devices in pools.items():
        common = set.intersection(*(set(blocks) for blocks in devices.values()))
        for device, blocks in devices.items():
            found.setdefault(family, {})[device] = {block: ms for block, ms in blocks.items() if block in common}
    return found


def main() -> None:
    """Leaves out each device once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=Path, nargs="+", help="profile stores")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--block", metavar="NAME[,NAME...]", help="families; all by default")
    parser.add_argument("--new", nargs="+", metavar="DEVICE", help="devices to leave out; each of them by default")
    parser.add_argument("--most", type=int, default=800, help="blocks of a family, a quarter of them unseen")
    parser.add_argument(
        "--measured",
        action="store_true",
        help="go by what known devices were measured to take, not by their surrogates: the transfer alone errs",
    )
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--name", default="transfer_blocks", help="of the JSON")
    options = parser.parse_args()
    found = read_pool(options.stores)
    wanted = list(found) if options.block is None else options.block.split(",")
    if missing := [family for family in wanted if family not in found]:
        parser.error(f"no two devices of these stores have enough profiles of {', '.join(missing)}")
    found = {family: found[family] for family in wanted}
    if options.measured:
        found = measured_by_all(found)
    networks = {} if options.measured else read_networks(options.stores)
    devices = list(dict.fromkeys(device for family in found.values() for device in family))
    runs: dict[tuple[str, str, str, str], list[dict[str, float]]] = {}
    adapting: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        pools, unseen = divide(found, options.most, seed)
        if options.measured:
            surrogates = {
                family: {device: Remembered(None, blocks) for device, blocks in devices.items()}
                for family, devices in found.items()
            }
        else:
            surrogates = {
                family: {device: Remembered(regressor) for device, regressor in devices.items()}
                for family, devices in known_surrogates(pools, seed).items()
            }
        for method in options.methods:
            for new in options.new or devices:
                found_out = adapted(pools, surrogates, method, new, options.samples, seed)
                adapting.setdefault(method, []).append(found_out.seconds)
                for family in found_out.regressors:
                    others = {block: ms for block, ms in pools[family][new].items() if block not in found_out.sampled}
                    for kind, measured in {"profiled": others, "unseen": unseen[family][new]}.items():
                        runs.setdefault((method, new, family, kind), []).append(found_out.judge(family, measured))
                if new in networks and (whole := networks[new].judge(found_out)) is not None:
                    runs.setdefault((method, new, "networks", "whole"), []).append(whole)
    rows, figures = [], {}
    for key, judged in with_means(runs).items():
        values = {name: float(np.mean([found[name] for found in judged])) for name in FIGURES}
        values = {name: value for name, value in values.items() if not math.isnan(value)}
        figures[" ".join(key)] = values
        rows.append((*key, *(f"{values[name]:.3f}" if name in values else "" for name in FIGURES)))
    print_table(rows, ("method", "new device", "family", "blocks", *FIGURES))
    counts = {family: {name: len(blocks) for name, blocks in devices.items()} for family, devices in pools.items()}
    write_result(
        options.name,
        {
            "samples": options.samples,
            "seeds": options.seeds,
            "known_devices": "measured" if options.measured else "predicted",
            "known_blocks": counts,
            "adapt_s": {method: float(np.mean(seconds)) for method, seconds in adapting.items()},
            "figures": figures,
        },
    )


def adapted(
    pools: BlockPools,
    surrogates: Mapping[str, Mapping[str, Remembered]],
    method: str,
    new: str,
    samples: int,
    seed: int,
) -> Adapted:
    """Samples a new device and adapts the method to it."""
    make = transfer_method(method)
    known = {
        family: {device: blocks for device, blocks in devices.items() if device != new}
        for family, devices in pools.items()
        if new in devices
    }
    known = {family: devices for family, devices in known.items() if len(devices) > 1}
    regressors: dict[str, Regressor] = {}
    with_intervals: dict[str, BlockSurrogate] = {}
    sampled: set[BlockConfig] = set()
    seconds = 0.0
    for together in learned_together(known, make):
        transfer = BlockTransfer.learn(together, surrogates, make(seed=seed))  # type: ignore[arg-type]
        # Blocks that the new device has no profile of, because it refused them, are no samples.
        chosen = [block for block in transfer.references(samples) if block in pools[block.family][new]]
        latency_ms = np.array([pools[block.family][new][block] for block in chosen])
        encodings = transfer.encoder.encode(chosen).values
        started = time.perf_counter()
        predictor = transfer.method.adapt(encodings, latency_ms)
        seconds += time.perf_counter() - started
        sampled |= set(chosen)
        regressors |= {family: Transferred.of(transfer.encoder, predictor, method) for family in together}
        if predictor.log_deviations(encodings) is not None:
            with_intervals |= transfer.adapt(dict(zip(chosen, latency_ms.tolist(), strict=True)))
    return Adapted(regressors, with_intervals, sampled, seconds)


def with_means(
    runs: Mapping[tuple[str, str, str, str], list[dict[str, float]]],
) -> dict[tuple[str, str, str, str], list[dict[str, float]]]:
    """The same, and for each method all devices and families together."""
    found = dict(runs)
    for (method, _, family, kind), judged in runs.items():
        every = "networks" if family == "networks" else "all families"
        found.setdefault((method, "all devices", every, kind), []).extend(judged)
    return found


if __name__ == "__main__":
    main()
