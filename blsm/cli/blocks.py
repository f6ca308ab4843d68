"""blsm blocks"""

from __future__ import annotations

import argparse

NAME = "blocks"
HELP = "list block families, or the parameters and domains of one"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the name."""
    command.add_argument("name", nargs="?", metavar="NAME", help="a block family; all of them by default")


def run(options: argparse.Namespace) -> None:
    """Prints one line for each family, or for each parameter of one."""
    import inspect

    from blsm.blocks import block_families, block_family
    from blsm.cli.common import print_table

    if options.name is None:
        rows = [(name, ", ".join(family.parameters), family.summary) for name, family in block_families().items()]
        print_table(rows, ("family", "parameters", "what it is"))
        return
    family = block_family(options.name)
    print(f"{family.name}: {inspect.getdoc(family.config_class)}\n")
    space = family.space()
    print_table(
        [(name, str(domain), str(space[name])) for name, domain in family.parameters.items()],
        ("parameter", "domain", "sampled from"),
    )
