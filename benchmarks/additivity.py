"""How blocks add up to networks on each device: sums of truly measured blocks, alone and in chains, over the network.

Measures 20 networks whole and in parts; one to five minutes a device on 2 cores, and resumable (a store per device in
--folder). Devices whose extra is missing are left out with a message.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import write_result

from blsm.cli.additivity import study
from blsm.cli.common import print_table
from blsm.profiles import ProfileStore
from blsm.profiling import device

DEVICES = ("edge_cpu", "edge_cpu_int8", "cloud_cpu", "tensorflow_cpu", "openvino_cpu", "onnx_cpu", "asic")
FAMILIES = ("mbconv", "res_v1", "res_v2")


def main() -> None:
    """Studies each device and prints the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", nargs="+", default=list(DEVICES))
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("build/additivity"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows, figures = [], {}
    for name in options.devices:
        target = device(name)
        if (lacking := target.missing()) is not None:
            print(f"{name} is left out: {lacking}")
            continue
        with ProfileStore(options.folder / f"{name}.db", create=True) as store:
            verdict = study(target, store, list(FAMILIES), options.networks, options.seed)
        figures[name] = {"context": verdict.context, "sums": verdict.to_json()}
        for context, sums in verdict.sums.items():
            said = "recommended" if context == verdict.context else ""
            ratios = f"{sums.low:.2f} to {sums.high:.2f}", f"{sums.median:.2f}", f"{100 * sums.deviation:.1f} %"
            rows.append((name, context, *ratios, f"{sums.spearman:.4f}", said))
    print_table(rows, ("device", "context", "sum / network", "median", "s.d.", "Spearman", ""))
    write_result("additivity", {"networks": options.networks, "seed": options.seed, "figures": figures})


if __name__ == "__main__":
    main()
