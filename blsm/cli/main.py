"""Entry point of the `blsm` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from blsm._version import __version__
from blsm.cli import (
    additivity,
    blocks,
    calibrate,
    check,
    compare,
    descriptor,
    devices,
    evaluate,
    export,
    feasibility,
    fit,
    measure,
    predict,
    profile,
    report,
    search,
    transfer,
)
from blsm.errors import BlsmError

_COMMANDS = (
    devices,
    blocks,
    descriptor,
    profile,
    check,
    additivity,
    export,
    measure,
    fit,
    calibrate,
    transfer,
    evaluate,
    predict,
    search,
    compare,
    feasibility,
    report,
)


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="blsm",
        description="Block-level surrogate latency models: profile blocks on a device once, predict any network.",
        epilog="Typical use: blsm profile --block all --device edge_cpu; blsm fit --device edge_cpu -o edge_cpu.blsm; "
        "blsm predict MODEL.keras --latency-model edge_cpu.blsm; blsm search --latency-model edge_cpu.blsm -o found",
    )
    top.add_argument("--version", action="version", version=f"blsm {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for module in _COMMANDS:
        command = commands.add_parser(module.NAME, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, or 2 after a user's mistake, a failure or Ctrl-C."""
    # TensorFlow's chatter hides the one line that matters.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GLOG_minloglevel", "3")
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except BlsmError as error:
        print(f"blsm: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("blsm: interrupted", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
