"""blsm devices"""

from __future__ import annotations

import argparse

NAME = "devices"
HELP = "list devices and whether each is usable here, or the options of one"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the name."""
    command.add_argument("name", nargs="?", metavar="NAME", help="a device; all of them by default")


def run(options: argparse.Namespace) -> None:
    """Prints one line for each device, or for each option of one."""
    from blsm.cli.common import print_table
    from blsm.profiling import device, devices

    if options.name is None:
        rows = []
        for name, make in devices().items():
            missing = make().missing()
            usable = "yes" if missing is None else f"no: {missing}"
            rows.append((name, usable, ", ".join(make.options), make.summary))
        print_table(rows, ("device", "usable here", "options", "what it is"))
        return
    one = device(options.name)
    missing = one.missing()
    print(f"{one.key}: {one.summary}; {'usable here' if missing is None else f'not usable here: {missing}'}\n")
    choices = [(name, str(domain), str(one.defaults[name])) for name, domain in one.options.items()]
    print_table(choices, ("option", "values", "default"))
    if choices:
        name, domain = next(iter(one.options.items()))
        print(f"\nchosen as in {one.key}@{name}={domain.at(0.01)}")
