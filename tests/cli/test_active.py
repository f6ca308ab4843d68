from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import blsm
from blsm.cli.active import run_active
from blsm.profiles import DISPATCH_PROBE, Chain, ProfileStore
from blsm.profiling import CampaignReport
from blsm.testing import fill_store

POOL: list[Chain] = [
    DISPATCH_PROBE,
    *((config,) for name in ("conv", "head") for config in blsm.block_family(name).sample(240, seed=0)),
]


class _Campaigns:
    """Measures at once, and remembers what it was asked for; ends early on the `stops`-th time."""

    def __init__(self, store: ProfileStore, stops: int = 0) -> None:
        self.store = store
        self.stops = stops
        self.asked: list[list[Chain]] = []
        self.budgets: list[float | None] = []

    def __call__(self, chains: Sequence[Chain], budget_s: float | None) -> CampaignReport:
        self.asked.append(list(chains))
        self.budgets.append(budget_s)
        known = {profile.blocks for profile in self.store.profiles("fake")} if self.store.devices() else set()
        new = [chain for chain in chains if chain not in known]
        if len(self.asked) == self.stops:
            fill_store(self.store, new[: len(new) // 2])
            return CampaignReport(len(chains), visits=len(new) // 2, total_s=2.0, stopped="budget")
        fill_store(self.store, new)
        return CampaignReport(len(chains), complete=len(chains), visits=len(new), total_s=2.0)


def _count(store: ProfileStore, family: str) -> int:
    return sum(p.blocks[0].family == family for p in store.profiles("fake") if p.blocks != DISPATCH_PROBE)


def test_batches_follow_until_there_are_enough_of_each_family(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        campaigns = _Campaigns(store)
        report = run_active(store, "fake", POOL, 150, seed=0, budget_s=10.0, measure=campaigns)
        assert _count(store, "conv") == _count(store, "head") == 150
    assert [len(chains) for chains in campaigns.asked] == [201, 281, 301]
    assert campaigns.budgets == [10.0, 8.0, 6.0]
    assert report.visits == report.asked == report.complete == 301
    assert report.total_s == 6.0


def test_a_second_run_continues_from_what_the_store_holds(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        stopped = run_active(store, "fake", POOL, 120, seed=0, budget_s=None, measure=_Campaigns(store, stops=2))
        assert stopped.stopped == "budget"
        begun = {profile.blocks for profile in store.profiles("fake")}
        assert 201 < len(begun) < 241
        campaigns = _Campaigns(store)
        report = run_active(store, "fake", POOL, 120, seed=0, budget_s=None, measure=campaigns)
        assert begun <= set(campaigns.asked[0])
        assert report.visits == 241 - len(begun)
        assert _count(store, "conv") == _count(store, "head") == 120
        idle = run_active(store, "fake", POOL, 120, seed=0, budget_s=None, measure=campaigns)
        assert (idle.visits, idle.complete) == (0, 241)


def test_what_failed_is_not_tried_again(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        fill_store(store, [])
        store.add_failure("fake", POOL[1], "refused")
        run_active(store, "fake", POOL, 30, seed=0, budget_s=None, measure=_Campaigns(store))
        assert _count(store, "conv") == _count(store, "head") == 30
        (failed,) = [profile for profile in store.profiles("fake") if profile.failure]
        assert failed.blocks == POOL[1]
