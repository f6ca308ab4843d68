"""Does the timing protocol find the minimum? Against the paper's 10,000 invocations in a row, on the same blocks.

Visits of ours lie before and after the long series of each block, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from common import write_result

import blsm
from blsm.cli.common import print_table
from blsm.profiling import Protocol, device, machine

PAPER_INVOCATIONS = 10_000


def main() -> None:
    """Times every block both ways and compares the minima."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    target, ours = device("edge_cpu"), Protocol()
    paper = Protocol(visits=1, invocations=PAPER_INVOCATIONS, max_visit_s=None, timeout_s=3600)
    chains = [(config,) for config in blsm.block_family("mbconv").sample(options.configs, options.seed)]
    core, _ = machine.split_cores()
    order = np.random.default_rng(options.seed)
    minima: list[list[int]] = [[] for _ in chains]
    invocations = [0] * len(chains)
    reference = [0] * len(chains)
    with tempfile.TemporaryDirectory() as folder, target.open(core) as session:
        artifacts = [Path(folder) / f"{number}.tflite" for number in range(len(chains))]
        for chain, artifact in zip(chains, artifacts, strict=True):
            target.compile_blocks(chain, artifact)

        def visit_all() -> None:
            for number in order.permutation(len(chains)):
                visit = session.visit(artifacts[number], ours)
                minima[number].append(visit.minimum_ns)
                invocations[number] += visit.invocations + ours.warmup

        visit_all()
        for number in order.permutation(len(chains)):
            reference[number] = session.visit(artifacts[number], paper).minimum_ns
        for _ in range(ours.visits - 1):
            visit_all()
    ratio = np.array([min(found) for found in minima]) / np.array(reference)
    share = np.array(invocations) / PAPER_INVOCATIONS
    figures = {
        "configs": len(chains),
        "share_within_2_percent": float((np.abs(ratio - 1) <= 0.02).mean()),
        "share_at_most_2_percent_above": float((ratio <= 1.02).mean()),
        "median_ratio": float(np.median(ratio)),
        "largest_ratio": float(ratio.max()),
        "smallest_ratio": float(ratio.min()),
        "mean_share_of_invocations": float(share.mean()),
        "largest_share_of_invocations": float(share.max()),
    }
    print_table([(name, f"{value:.4g}") for name, value in figures.items()], ("figure", "value"))
    rows = [(r, m, f) for r, m, f in zip(reference, minima, invocations, strict=True)]
    write_result(
        "protocol", {**figures, "rows": [{"paper_ns": r, "visits_ns": m, "invocations": i} for r, m, i in rows]}
    )


if __name__ == "__main__":
    main()
