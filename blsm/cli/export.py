"""blsm export"""

from __future__ import annotations

import argparse
from pathlib import Path

from blsm.cli import common

NAME = "export"
HELP = "write the profiles of a store as Parquet or CSV, one row a block or network"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the store and the output."""
    common.add_store(command)
    command.add_argument("-o", "--output", type=Path, required=True, help="file to write, .parquet or .csv")


def run(options: argparse.Namespace) -> None:
    """Writes the file."""
    from blsm.export import export
    from blsm.profiles import ProfileStore

    with ProfileStore(options.store) as store:
        rows = export(store, options.output)
    print(f"{rows} rows in {options.output}")
