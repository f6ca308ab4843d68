"""What several commands share: arguments, argument types, campaigns with a progress bar, tables."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from blsm.profiles import Chain, ProfileStore
    from blsm.profiling import CampaignReport, Device, Protocol

DEFAULT_DEVICE = "edge_cpu"
DEFAULT_STORE = Path("profiles.db")


def add_device(command: argparse.ArgumentParser) -> None:
    """Adds --device."""
    command.add_argument(
        "--device", default=DEFAULT_DEVICE, help=f"device name, see `blsm devices` (default: {DEFAULT_DEVICE})"
    )


def add_hosts(command: argparse.ArgumentParser, several: bool) -> None:
    """Adds --host and --ssh-config."""
    command.add_argument(
        "--host",
        metavar="ssh://[USER@]HOST[:PORT][?python=PATH]" + ("[,ssh://...]" if several else ""),
        help="measure on another machine, which needs a login by key, Python, numpy and the runtime"
        + ("; several equal ones share the work" if several else ""),
    )
    command.add_argument("--ssh-config", type=Path, metavar="FILE", help="in place of your own ssh configuration")


def measured_device(options: argparse.Namespace) -> Device:
    """The device that --device and --host ask for."""
    from blsm.profiling import RemoteDevice, device

    target = device(options.device)
    return target if options.host is None else RemoteDevice(target, options.host, options.ssh_config)


def add_store(command: argparse.ArgumentParser) -> None:
    """Adds --store."""
    command.add_argument(
        "--store", type=Path, default=DEFAULT_STORE, help=f"file of the profile store (default: {DEFAULT_STORE})"
    )


def add_seed(command: argparse.ArgumentParser, of: str) -> None:
    """Adds --seed."""
    command.add_argument("--seed", type=int, default=0, help=f"of {of} (default: 0)")


def add_protocol(command: argparse.ArgumentParser) -> None:
    """Adds --visits and --invocations."""
    command.add_argument(
        "--visits",
        type=positive,
        default=3,
        help="visits of each block, in turn with others; more where they disagree (default: 3)",
    )
    command.add_argument(
        "--invocations",
        type=positive,
        help="invocations of each visit, exactly; by default about 160, more of short and fewer of long ones",
    )


def protocol(options: argparse.Namespace, usual: Protocol | None = None) -> Protocol:
    """The protocol that --visits and --invocations ask for; in all else the usual one."""
    from blsm.profiling import Protocol

    asked = replace(usual or Protocol(), visits=options.visits)
    if options.invocations is None:
        return asked
    return replace(asked, invocations=options.invocations, max_visit_s=None, min_invocations=options.invocations)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return number


def duration(text: str) -> float:
    """Seconds of a duration such as 90s, 20m, 1h or 1h30m."""
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", text)
    if not match or not any(match.groups()):
        raise argparse.ArgumentTypeError(f"must be a duration such as 90s, 20m or 1h30m, got {text!r}")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 3600.0 * hours + 60.0 * minutes + seconds


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps off the screen what native code writes to standard error: TensorFlow's chatter has no other switch."""
    sys.stderr.flush()
    screen = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(screen, 2)
        os.close(screen)


def print_table(rows: Iterable[Sequence[Any]], headers: Sequence[str]) -> None:
    """Prints a table to standard output."""
    from tabulate import tabulate

    # Numbers come formatted: the table must not format them again.
    print(tabulate(list(rows), headers=list(headers), disable_numparse=True))


def progress(total: int, unit: str, description: str) -> Any:
    """A progress bar on standard error; none where that is no terminal."""
    from tqdm import tqdm

    return tqdm(total=total, unit=unit, desc=description, disable=None, file=sys.stderr, leave=False)


def run_campaign(
    device: Device,
    store: ProfileStore,
    chains: Sequence[Chain],
    *,
    protocol: Protocol,
    seed: int,
    budget_s: float | None = None,
    description: str,
) -> CampaignReport:
    """Runs a campaign with a progress bar."""
    from blsm.profiling import Campaign

    campaign = Campaign(device, store, protocol, seed)
    with progress(campaign.visits_needed(chains), " visits", description) as bar:
        campaign.progress = bar.update
        return campaign.run(chains, budget_s)
