"""blsm fit"""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path

from blsm.cli import common

NAME = "fit"
HELP = "fit one surrogate per profiled block family and save them as a latency model"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the profiles, the regressor and the output."""
    common.add_device(command)
    common.add_store(command)
    command.add_argument("-o", "--output", type=Path, required=True, help="bundle to write, e.g. edge_cpu.blsm")
    command.add_argument(
        "--regressor",
        default="boosted_trees",
        metavar="NAME",
        help="boosted_trees (on a roofline base, default), roofline, or the paper's: plain_boosted_trees, "
        "tfdf_boosted_trees, random_forest, linear, dense_nas",
    )
    command.add_argument(
        "--features",
        choices=("vector", "costs"),
        help="what it sees of a block: its config vector alone, as in the paper, or its analytic costs too (default: "
        "costs, but for plain_boosted_trees)",
    )
    command.add_argument(
        "--context",
        choices=("isolated", "chain", "auto"),
        default="auto",
        help="add networks up from isolated blocks, from what blocks add in a chain, or as `blsm additivity` "
        "recommends (auto, default; where it was not run: in chains if pairs of blocks were profiled)",
    )
    common.add_seed(command, "the split and the regressor")


def run(options: argparse.Namespace) -> None:
    """Fits, saves, and prints the figures of the test split."""
    from blsm import bundle
    from blsm.fitting import fit_latency_model
    from blsm.metrics import HEADERS, Agreement, table_row
    from blsm.profiles import ProfileStore
    from blsm.surrogates import regressor_class

    quiet = common.quiet() if regressor_class(options.regressor).chatty else nullcontext()
    with ProfileStore(options.store) as store, common.progress(0, " families", "fitting") as bar, quiet:
        model = fit_latency_model(
            store,
            options.device,
            regressor=options.regressor,
            features=options.features,
            context=options.context,
            seed=options.seed,
            progress=lambda family: bar.set_postfix_str(family) or bar.update(),
        )
    bundle.save(model, options.output)
    rows = [table_row(name, Agreement.from_json(surrogate.metrics)) for name, surrogate in model.surrogates.items()]
    common.print_table(rows, ("block family", *HEADERS[1:]))
    print(
        f"{options.output}: {options.regressor} of {model.device}, context {model.context}, figures of the test split, "
        f"dispatch cost {1000 * model.dispatch_ms:.2f} us"
    )
    for name, joined in model.joined.items():
        print(f"{name} after other blocks: {joined.count} pairs, held-out ones off by {joined.deviation:.1%}")
    if model.cold:
        counted = "count" if model.cold_share else "don't count, as networks were seen not to find them"
        print(f"cold caches {counted}: timed for {', '.join(model.cold)}")
    if (factor := f"{model.sums_factor:.3f}") != "1.000":
        print(f"networks count {factor} times what their blocks add, as those of `blsm additivity` do")
