"""blsm descriptor"""

from __future__ import annotations

import argparse
from pathlib import Path

from blsm.cli import common

NAME = "descriptor"
HELP = "describe a device by what primitive operations take on it, in time and performance counters"


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Adds the device and where to write to."""
    command.add_argument("--visits", type=common.positive, default=3, help="visits of each operation (default: 3)")
    common.add_device(command)
    command.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="file to write the descriptor to")
    command.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> None:
    """Measures, writes and prints."""
    import json

    from blsm.profiling import Protocol, device
    from blsm.transfer.descriptor import describe

    target = device(options.device)
    with common.quiet():
        descriptor = describe(target, protocol=Protocol(visits=options.visits))
    if options.output is not None:
        descriptor.save(options.output)
    if options.json:
        print(json.dumps(descriptor.to_json(), indent=1))
        return
    records = descriptor.operations.values()
    rows = [("ms", *(f"{record.latency_ms:.4f}" for record in records))]
    for counter in descriptor.counters:
        if counter not in descriptor.missing:
            rows.append((counter, *(_text(record.counters[counter]) for record in records)))
    common.print_table(rows, ("an invocation", *descriptor.operations))
    reasons: dict[str, list[str]] = {}
    for counter, reason in descriptor.missing.items():
        reasons.setdefault(reason, []).append(counter)
    for reason, counters in reasons.items():
        print(f"not available: {', '.join(counters)}: {reason}")
    if options.output is not None:
        print(f"written to {options.output}")


def _text(count: float | None) -> str:
    if count is None:
        return "-"
    return f"{count:,.0f}" if count >= 100 else f"{count:.3g}"
