"""Active campaigns, for `blsm profile --active`: measure a batch, choose the next by what is known, measure again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blsm.blocks import BlockConfig
    from blsm.profiles import Chain, ProfileStore
    from blsm.profiling import CampaignReport

#: Measures chains within the seconds that are left, if there is a limit.
Measure = Callable[[Sequence["Chain"], float | None], "CampaignReport"]


def run_active(
    store: ProfileStore,
    device: str,
    pool: Sequence[Chain],
    samples: int,
    seed: int,
    *,
    budget_s: float | None,
    measure: Measure,
) -> CampaignReport:
    """Measures batch after batch until there are enough configs of each family.

    What the store holds counts: run again, it continues.

    Args:
        store: keeps the visits.
        device: name of the device.
        pool: chains of one block to choose from.
        samples: configs of each family to measure in all.
        seed: of the choice.
        budget_s: stop cleanly after this many seconds.
        measure: runs a campaign.
    """
    reports: list[CampaignReport] = []
    while True:
        begun, batch = _plan(store, device, pool, samples, seed)
        if reports and (not batch or reports[-1].stopped):
            return _together(reports)
        left_s = None if budget_s is None else max(0.0, budget_s - sum(report.total_s for report in reports))
        reports.append(measure([*begun, *batch], left_s))


def _plan(
    store: ProfileStore, device: str, pool: Sequence[Chain], samples: int, seed: int
) -> tuple[list[Chain], list[Chain]]:
    """The chains that were begun already, some of them perhaps unfinished, and the next batch."""
    from blsm.active import next_batch
    from blsm.profiles import DISPATCH_PROBE, latencies
    from blsm.sampling import in_turn

    families: dict[str, list[BlockConfig]] = {}
    for chain in pool:
        if chain != DISPATCH_PROBE:
            families.setdefault(chain[0].family, []).append(chain[0])
    profiles = store.profiles(device) if device in store.devices() else []
    begun = [
        profile.blocks for profile in profiles if len(profile.blocks) == 1 and profile.blocks[0].family in families
    ]
    measured = latencies(profile for profile in profiles if len(profile.blocks) == 1)
    failed = {profile.blocks[0] for profile in profiles if profile.failure is not None}
    batches = []
    for family, configs in families.items():
        known = {
            chain[0]: ms for chain, ms in measured.items() if chain[0].family == family and chain != DISPATCH_PROBE
        }
        count = sum(chain[0].family == family and chain != DISPATCH_PROBE for chain in begun)
        untried = [config for config in configs if config not in failed]
        batches.append([(config,) for config in next_batch(known, untried, count, samples, seed)])
    return list(dict.fromkeys([DISPATCH_PROBE, *begun])), in_turn(batches)


def _together(reports: Sequence[CampaignReport]) -> CampaignReport:
    """One report of campaigns that followed each other, each of which asked for all that the one before did."""
    last = reports[-1]
    return replace(
        last,
        visits=sum(report.visits for report in reports),
        lost=[reason for report in reports for reason in report.lost],
        compiling_s=sum(report.compiling_s for report in reports),
        transfer_s=sum(report.transfer_s for report in reports),
        waited_s=sum(report.waited_s for report in reports),
        measuring_s=sum(report.measuring_s for report in reports),
        idle_s=sum(report.idle_s for report in reports),
        total_s=sum(report.total_s for report in reports),
    )
