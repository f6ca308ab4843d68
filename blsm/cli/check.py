"""blsm check"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from blsm.cli import common

if TYPE_CHECKING:
    from blsm.checking import StoreCheck

NAME = "check"
HELP = "say whether the profiles of a store can be trusted, and what to run next if not"

#: How many unstable blocks to list, and into how many spans of time to divide the drift.
_LISTED, _SPANS = 5, 8


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the store."""
    command.add_argument("store", type=Path, metavar="STORE", help="file of the profile store")


def run(options: argparse.Namespace) -> None:
    """Prints the state of each device."""
    from blsm.checking import check_store
    from blsm.profiles import ProfileStore

    with ProfileStore(options.store) as store:
        checks = check_store(store)
    for check in checks:
        print_check(check, str(options.store))
    if not checks:
        print(f"{options.store} holds no profiles yet")


def print_check(check: StoreCheck, store: str) -> None:
    """Prints verdict, failures, unstable blocks, drift and the next command."""
    print(
        f"{check.device}: {check.verdict}. {len(check.measured)} measured, {len(check.failed)} failed, "
        f"{len(check.unconfirmed)} without two visits that agree, drift {check.drift:.1%}"
    )
    families = sorted({profile.blocks[0].family for profile in (*check.failed, *check.unconfirmed)})
    again = f"blsm profile --block {','.join(families)} --device {check.device} --store {store}"
    for reason, count in Counter(profile.failure for profile in check.failed).most_common(_LISTED):
        print(f"  failed {count} times: {reason}")
    if check.failed:
        print(f"  to try them again: {again} --retry-failed")
    if check.unconfirmed:
        rows = [
            (
                str(profile.blocks[0]) if len(profile.blocks) == 1 else f"network of {len(profile.blocks)} blocks",
                ", ".join(f"{visit.minimum_ns / 1e6:.4f}" for visit in profile.visits),
                "one visit" if len(profile.visits) == 1 else f"{profile.disagreement:.1%}",
            )
            for profile in check.unconfirmed[:_LISTED]
        ]
        common.print_table(rows, ("least stable", "minima of its visits, ms", "disagreement"))
        most = max(len(profile.visits) for profile in check.unconfirmed)
        print(f"  to measure again: {again} --visits {most + 1}")
    if check.sentinel:
        minima = [visit.minimum_ns for visit in check.sentinel]
        size = -(-len(minima) // _SPANS)
        spans = [min(minima[start : start + size]) for start in range(0, len(minima), size)]
        print(f"  sentinel over time, us: {' '.join(f'{value / 1e3:.1f}' for value in spans)}")
