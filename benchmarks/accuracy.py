"""Accuracy on edge_cpu: held-out blocks per family, and random networks measured whole, without calibration.

Profiles 1,715 configs of each family, so that 1,200 are for training, then 200 networks: half an hour on 2 cores, and
resumable (run it again with the same --store).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from common import write_result

from blsm.checking import drift_of
from blsm.cli import common
from blsm.cli.evaluate import measure_networks, to_json
from blsm.cli.profile import sample_chains, summary
from blsm.evaluation import Comparison, compare_blocks
from blsm.fitting import fit_latency_model
from blsm.metrics import HEADERS, table_row
from blsm.profiles import ProfileStore
from blsm.profiling import Protocol, device
from blsm.report.figures import predicted_versus_measured

REGRESSORS = ("boosted_trees", "plain_boosted_trees", "roofline")
FAMILIES = "mbconv,res_v1,res_v2,conv,head"


def main() -> None:
    """Measures, fits with every regressor on the same split, compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, default=Path("build/accuracy.db"))
    parser.add_argument("--samples", type=int, default=1715)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path, default=Path("docs/accuracy.png"))
    options = parser.parse_args()
    options.store.parent.mkdir(parents=True, exist_ok=True)
    target = device("edge_cpu")
    with ProfileStore(options.store, create=True) as store:
        chains = sample_chains(FAMILIES, options.samples, options.seed)
        report = common.run_campaign(
            target, store, chains, protocol=Protocol(), seed=options.seed, description="profiling"
        )
        print(summary(report, target.name, str(options.store)))
        figures = {}
        rows = []
        for regressor in REGRESSORS:
            model = fit_latency_model(store, target.name, regressor=regressor, seed=options.seed)
            comparisons: dict[str, Comparison] = compare_blocks(model, store)
            comparisons["networks"] = measure_networks(model, store, options.networks, options.seed)
            figures[regressor] = to_json(model, comparisons)["figures"]
            rows += [(regressor, *table_row(name, c.agreement)) for name, c in comparisons.items()]
            if regressor == REGRESSORS[0]:
                predicted_versus_measured(comparisons, options.figure, "edge_cpu, not seen in fitting")
        drift = drift_of(store.sentinel_visits(target.name))
    common.print_table(rows, ("regressor", *HEADERS))
    print(f"inside the 90 % interval: {figures[REGRESSORS[0]]['networks']['inside_interval']:.1%} of the networks")
    write_result(
        "accuracy",
        {
            "samples_per_family": options.samples,
            "seed": options.seed,
            "sentinel_drift": drift,
            "fingerprint": target.fingerprint().to_json(),
            "figures": figures,
        },
    )


if __name__ == "__main__":
    main()
