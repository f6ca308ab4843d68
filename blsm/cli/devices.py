"""blsm devices"""

from __future__ import annotations

import argparse

NAME = "devices"
HELP = "list devices, whether each is usable here and, if not, what to install"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """It has none."""


def run(options: argparse.Namespace) -> None:
    """Prints one line for each device."""
    from blsm.cli.common import print_table
    from blsm.profiling import devices

    rows = []
    for name, make in devices().items():
        missing = make().missing()
        choices = ", ".join(f"{option}: {domain}" for option, domain in make.options.items())
        rows.append((name, "yes" if missing is None else f"no: {missing}", choices, make.summary))
    print_table(rows, ("device", "usable here", "options", "what it is"))
