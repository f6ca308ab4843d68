"""What `paper_tables.py` found on all devices, on one page, beside the paper's figures and those that we ask for.

Reads the JSON files in `benchmarks/results/` and prints Markdown; what falls short is in bold. Figures are those of
`boosted_trees`: of blocks the worst of the three families, of networks both sets of 200 (random depth, equal depth), in
the context that the blocks of the device add up in.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common import RESULTS
from paper_tables import FAMILIES, SETS
from tabulate import tabulate

from blsm.surrogates import DEFAULT_REGRESSOR

#: Share of networks that should lie within their 90 % intervals.
INSIDE = (0.87, 0.95)
#: What floating-point sums lose at most.
_LOST = 1e-9


@dataclass(frozen=True)
class Asked:
    """The least that we ask of a device; shares are of blocks or networks, MAPE is the most, in percent."""

    block_spearman: float = 0.99
    block_mape: float = 4.0
    block_within_10: float = 0.93
    spearman: tuple[float, float] = (0.95, 0.0)
    within_5: float = 0.0
    within_10: float = 0.0


_LITERT = Asked(0.998, 2.5, 0.98, (0.998, 0.98), 0.93, 0.995)
_RUNTIME = Asked(spearman=(0.985, 0.95), within_5=0.7, within_10=0.92)
ASKED = {
    "edge_cpu": _LITERT,
    "edge_cpu_int8": _LITERT,
    "cloud_cpu": _LITERT,
    "asic": Asked(block_spearman=0.998, spearman=(0.99, 0.95), within_5=0.8, within_10=0.97),
    "openvino_cpu": _RUNTIME,
    "onnx_cpu": _RUNTIME,
    "tensorflow_cpu@threads=1": Asked(),
    "tensorflow_cpu": Asked(),
    "gpu": Asked(),
}


def main() -> None:
    """Prints both tables."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found = {
        name: json.loads(path.read_text()) for name in ASKED if (path := RESULTS / f"paper_tables_{name}.json").exists()
    }
    blocks = ("device", "measured", "Spearman", "MAPE %", "within 10 %")
    _print([block_row(name, figures, ASKED[name]) for name, figures in found.items()], blocks)
    networks = (
        *("device, in context", "Spearman", "the paper", "MAPE %", "within 5 %", "within 10 %"),
        *("inside the 90 % interval", "before calibration", "measured twice, MAPE %"),
    )
    _print([network_row(name, figures, ASKED[name]) for name, figures in found.items()], networks)


def block_row(name: str, figures: Mapping[str, Any], asked: Asked) -> list[str]:
    """The worst family's figures on a device."""
    families = [figures["blocks"][DEFAULT_REGRESSOR][family] for family in FAMILIES]
    spearman = min(family["spearman"] for family in families)
    mape = max(family["mape"] for family in families)
    within = min(family["within_10"] for family in families)
    return [
        f"`{name}`",
        figures["date"][:10],
        _marked(f"{spearman:.4f}", spearman >= asked.block_spearman),
        _marked(f"{mape:.2f}", mape <= asked.block_mape),
        _share(within, asked.block_within_10),
    ]


def network_row(name: str, figures: Mapping[str, Any], asked: Asked) -> list[str]:
    """Both sets' figures on a device; means over calibrations where there are such."""
    context = figures["additivity"]["context"]
    kinds = figures["networks"][f"{DEFAULT_REGRESSOR}, {context}"]
    plain = [kinds[f"{of}, plain"] for of in SETS]
    means = figures.get("mean_of_calibrations", {})
    calibrated = [means.get(of) or kinds[f"{of}, calibrated"] for of in SETS]
    paper = figures["paper_spearman"]

    def shares(rows: list[dict[str, float]], key: str, least: float, most: float = 1.0) -> str:
        return ", ".join(_share(row[key], least, most) for row in rows)

    ranks = zip((row["spearman"] for row in plain), asked.spearman, strict=True)
    return [
        f"`{name}`, {context}",
        ", ".join(_marked(f"{rank:.4f}", rank >= least) for rank, least in ranks),
        f"{paper:.2f}" if paper else "",
        ", ".join(f"{row['mape']:.1f}" for row in calibrated),
        shares(calibrated, "within_5", asked.within_5),
        shares(calibrated, "within_10", asked.within_10),
        shares(calibrated, "inside_interval", *INSIDE),
        shares(plain, "inside_interval", *INSIDE),
        f"{figures['baselines']['measured twice']['mape']:.1f}",
    ]


def _share(share: float, least: float, most: float = 1.0) -> str:
    # Two digits: 99.47 % are not the 99.5 % that are asked for. But means of 99.5 % are, whatever a sum loses.
    return _marked(f"{share:.2%}", least - _LOST <= share <= most + _LOST)


def _marked(text: str, enough: bool) -> str:
    return text if enough else f"**{text}**"


def _print(rows: list[list[str]], headers: tuple[str, ...]) -> None:
    print(tabulate(rows, headers, tablefmt="github", disable_numparse=True), end="\n\n")


if __name__ == "__main__":
    main()
