"""Few-shot transfer of block surrogates: each device of a pool in turn is the new one, the others are known.

Spearman correlation and the share within 10 %, on the new device's blocks that no method asked for; mean of the seeds.
Fill the stores with `blsm profile`, with the same --block, --samples and --seed on every device, e.g. several
`asic@accelerator=...`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from common import write_result

from blsm.cli.common import print_table
from blsm.metrics import Agreement
from blsm.transfer import transfer_method
from blsm.transfer.blocks import BlockPools, FamilyTransfer, read_pool

METHODS = ("nearest_device", "known_devices", "from_scratch", "block_prior")
FIGURES = ("spearman", "within_5", "within_10")


def judge(pools: BlockPools, method: str, new: str, samples: int, seed: int) -> dict[str, Agreement]:
    """The figures of each family that the new device was profiled on."""
    found = {}
    for family, devices in pools.items():
        known = {device: blocks for device, blocks in devices.items() if device != new}
        if new not in devices or len(known) < 2:
            continue
        transfer = FamilyTransfer.learn(known, transfer_method(method)(seed=seed), seed)
        # Blocks that the new device has no profile of, because it refused them, are no samples.
        references = [config for config in transfer.references(2 * samples) if config in devices[new]][:samples]
        surrogate = transfer.adapt({config: devices[new][config] for config in references})
        unseen = {config: ms for config, ms in devices[new].items() if config not in references}
        predicted_ms = surrogate.regressor.predict(list(unseen))
        found[family] = Agreement.of(predicted_ms, list(unseen.values()))
    return found


def main() -> None:
    """Leaves out each device once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", type=Path, nargs="+", help="profile stores")
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    pools = read_pool(options.stores)
    devices = sorted({device for found in pools.values() for device in found})
    figures: dict[str, dict[str, float]] = {}
    rows = []
    for method in options.methods:
        runs: dict[str, list[Agreement]] = {}
        for new in devices:
            for seed in range(options.seeds):
                for family, agreement in judge(pools, method, new, options.samples, seed).items():
                    runs.setdefault(f"{new} {family}", []).append(agreement)
        runs["mean of all"] = [agreement for found in list(runs.values()) for agreement in found]
        for key, found in runs.items():
            figures[f"{method} {key}"] = {name: float(np.mean([getattr(a, name) for a in found])) for name in FIGURES}
            rows.append(
                (method, *key.split(" ", 1), *(f"{value:.3f}" for value in figures[f"{method} {key}"].values()))
            )
    print_table(rows, ("method", "new device", "family", *FIGURES))
    counts = {family: {device: len(blocks) for device, blocks in found.items()} for family, found in pools.items()}
    write_result(
        "transfer_blocks", {"samples": options.samples, "seeds": options.seeds, "blocks": counts, "figures": figures}
    )


if __name__ == "__main__":
    main()
