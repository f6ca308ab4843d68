from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import blsm
from blsm.errors import DeviceError, FingerprintError, StoreError
from blsm.profiles import Chain, ProfileStore
from blsm.profiling import Campaign, Protocol, campaign
from blsm.profiling.campaign import SENTINEL
from blsm.testing import FakeDevice, fake_latency_ms

CHAINS: list[Chain] = [(config,) for config in blsm.block_family("conv").sample(40, seed=0)]
MORE: list[Chain] = [(config,) for config in blsm.block_family("head").sample(5, seed=0)]
PROTOCOL = Protocol(visits=3, invocations=20)


def test_every_chain_gets_its_visits_and_the_minimum_is_found(tmp_path: Path) -> None:
    settled = []
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        begun = Campaign(FakeDevice(), store, PROTOCOL, progress=settled.append)
        assert begun.visits_needed(CHAINS) == 120
        report = begun.run([*CHAINS, *CHAINS[:3]])
        assert (report.asked, report.complete, report.visits, report.failed) == (40, 40, 120, {})
        assert sum(settled) == 120
        for profile in store.profiles("fake"):
            assert len(profile.visits) == 3
            assert profile.latency_ms == pytest.approx(fake_latency_ms(profile.blocks), rel=0.01)
        assert len(store.sentinel_visits("fake")) >= 1
        assert begun.visits_needed(CHAINS) == 0
        assert begun.run(CHAINS).visits == 0
    assert not (tmp_path / "p.db.work").exists()


def test_visits_of_one_chain_are_spread_over_the_campaign(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        Campaign(FakeDevice(visit_s=0.001), store, PROTOCOL).run(CHAINS)
        visits = sorted((v.started_s, digest) for digest, p in enumerate(store.profiles("fake")) for v in p.visits)
    order = [chain for _, chain in visits]
    # But for the last few, which have no others left to be interleaved with.
    assert all(one != other for one, other in itertools.pairwise(order[:-20]))


def test_the_first_visit_times_a_block_with_cold_caches_too(tmp_path: Path) -> None:
    device = FakeDevice(weight_ns=5.0)
    pair: Chain = (*CHAINS[0], *MORE[0])
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        Campaign(device, store, PROTOCOL).run([*CHAINS, pair])
        for profile in store.profiles("fake"):
            assert [len(visit.cold_ns) > 0 for visit in profile.visits] == [profile.blocks != pair, False, False]
            if profile.blocks != pair:
                expected_ms = fake_latency_ms(profile.blocks) + device.excess_ms(profile.blocks)
                assert profile.cold_ms == pytest.approx(expected_ms, rel=0.05)
        assert not any(visit.cold_ns for visit in store.sentinel_visits("fake"))


def test_some_blocks_of_each_family_are_timed_with_cold_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "_COLD_BLOCKS", 3)
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        for chains in ([*CHAINS[:5], *MORE[:2]], [*CHAINS, *MORE]):
            Campaign(FakeDevice(weight_ns=5.0), store, PROTOCOL).run(chains)
        timed = [profile.blocks for profile in store.profiles("fake") if profile.cold_ms is not None]
    assert set(timed) == {*CHAINS[:3], *MORE[:3]}


def test_visits_while_the_device_is_slow_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "_SENTINEL_INTERVAL_S", 0.02)
    monkeypatch.setattr(campaign, "_SLOW_INTERVAL_S", 0.0)
    device = FakeDevice(visit_s=0.002, slow=range(20, 90))
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(device, store, Protocol(visits=1, invocations=20)).run(CHAINS)
        assert (report.complete, report.visits) == (40, 40)
        assert report.waited_s > 0
        minima = [(visit.minimum_ns, p) for p in store.profiles("fake") for visit in p.visits]
        assert any(ns > 1.9e6 * fake_latency_ms(p.blocks) for ns, p in minima)  # stored, but made again
        for profile in store.profiles("fake"):
            assert profile.latency_ms == pytest.approx(fake_latency_ms(profile.blocks), rel=0.01)


def test_visits_on_a_disturbed_core_are_made_again(tmp_path: Path) -> None:
    device = FakeDevice(disturbed={*range(1, 20), *range(40, 60)})
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(device, store, Protocol(visits=1, invocations=20, patience_s=0.01)).run(CHAINS)
        assert (report.complete, report.visits) == (40, 40)
        assert report.waited_s >= 39 * 0.01
        for profile in store.profiles("fake"):
            assert profile.latency_ms == pytest.approx(fake_latency_ms(profile.blocks), rel=0.01)


def test_a_core_that_is_disturbed_for_good_is_measured_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "_PATIENCE_S", 0.1)
    device = FakeDevice(disturbed=range(10, 100_000))
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(device, store, Protocol(visits=1, invocations=20, patience_s=0.02)).run(CHAINS)
        minima = [(visit.minimum_ns, p) for p in store.profiles("fake") for visit in p.visits]
    assert report.complete == 40
    assert report.waited_s >= 0.1
    assert any(ns > 1.9e6 * fake_latency_ms(p.blocks) for ns, p in minima)


def test_a_lucky_spell_does_not_make_the_device_look_slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "_SENTINEL_INTERVAL_S", 0.02)
    lucky = range(300, 312)
    device = FakeDevice(visit_s=0.002, slow=set(range(10_000)).difference(lucky))
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(device, store, Protocol(visits=10, invocations=20)).run(CHAINS)
    assert (report.complete, report.waited_s) == (40, 0.0)


def test_a_device_that_is_slow_for_good_is_measured_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "_SENTINEL_INTERVAL_S", 0.02)
    monkeypatch.setattr(campaign, "_SLOW_INTERVAL_S", 0.0)
    monkeypatch.setattr(campaign, "_PATIENCE_S", 0.1)
    device = FakeDevice(visit_s=0.002, slow=range(20, 100_000))
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        assert Campaign(device, store, PROTOCOL).run(CHAINS).complete == 40
        assert Campaign(FakeDevice(slow=range(1000)), store, PROTOCOL).run(MORE).complete == len(MORE)


def test_failures_are_recorded_and_the_campaign_goes_on(tmp_path: Path) -> None:
    device = FakeDevice(fails=[CHAINS[1]], crashes=[CHAINS[2]])
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(device, store, PROTOCOL).run(CHAINS)
        assert report.complete == 38
        assert report.failed == {CHAINS[1]: "the fake compiler refused it", CHAINS[2]: "the fake runtime crashed"}
        again = Campaign(FakeDevice(), store, PROTOCOL).run(CHAINS)
        assert (again.visits, again.failed) == (0, report.failed)
        store.clear_failures("fake")
        assert Campaign(FakeDevice(), store, PROTOCOL).run(CHAINS).complete == 40


def test_a_device_that_cannot_run_the_sentinel_is_an_error_not_a_heap_of_failures(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        with pytest.raises(DeviceError, match="refused"):
            Campaign(FakeDevice(fails=[SENTINEL]), store, PROTOCOL).run(CHAINS)
        assert store.profiles("fake") == []


def test_a_budget_stops_cleanly_and_the_next_run_continues(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(FakeDevice(visit_s=0.05), store, PROTOCOL).run(CHAINS, budget_s=2.5)
        assert report.stopped == "budget"
        assert report.visits == sum(len(profile.visits) for profile in store.profiles("fake")) < 120
        rest = Campaign(FakeDevice(), store, PROTOCOL).run(CHAINS)
        assert rest.visits == 120 - report.visits
        assert {len(profile.visits) for profile in store.profiles("fake")} == {3}


def test_another_machine_or_a_second_campaign_is_refused(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        Campaign(FakeDevice(), store, PROTOCOL).run(CHAINS[:2])
        with pytest.raises(FingerprintError, match="'other' against 'formula'"):
            Campaign(FakeDevice(cpu="other"), store, PROTOCOL).run(CHAINS)

        class Reentrant(FakeDevice):
            def open(self, core: int | None = None) -> object:  # type: ignore[override]
                with ProfileStore(tmp_path / "p.db") as same:
                    return Campaign(FakeDevice(), same, PROTOCOL).run(CHAINS)

        with pytest.raises(StoreError, match="another campaign is running"):
            Campaign(Reentrant(), store, PROTOCOL).run(CHAINS)


_CAMPAIGN = """
import signal
import sys
import blsm
from blsm.profiles import ProfileStore
from blsm.profiling import Campaign, Protocol
from blsm.testing import FakeDevice
if __name__ == "__main__":
    # Where tests run in the background of a shell, it is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    chains = [(config,) for config in blsm.block_family("conv").sample(40, seed=0)]
    with ProfileStore(sys.argv[1], create=True) as store:
        device = FakeDevice(visit_s=0.01)
        report = Campaign(device, store, Protocol(visits=3, invocations=20), progress=lambda n: print(n, flush=True)).run(chains)
        # On a line of its own: the progress before it may be cut short in the middle of one.
        print("\\nstopped", report.stopped, flush=True)
"""


def _start(script: Path, store: Path) -> subprocess.Popen[str]:
    script.write_text(_CAMPAIGN)
    return subprocess.Popen([sys.executable, str(script), str(store)], stdout=subprocess.PIPE, text=True)


def test_killed_again_and_again_a_campaign_still_ends_with_nothing_lost_or_double(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    acknowledged = 0
    for visits in (1, 17, 30):
        process = _start(tmp_path / "campaign.py", path)
        assert process.stdout is not None
        for _ in range(visits):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        acknowledged += visits
        with ProfileStore(path) as store:
            stored = [len(profile.visits) for profile in store.profiles("fake")]
        assert sum(stored) >= acknowledged
        assert max(stored) <= 3
        acknowledged = sum(stored)
    process = _start(tmp_path / "campaign.py", path)
    said = process.communicate(timeout=120)[0].split()
    assert said[-2:] == ["stopped", "None"]
    with ProfileStore(path) as store:
        assert Counter(len(profile.visits) for profile in store.profiles("fake")) == {3: 40}


def test_ctrl_c_ends_a_campaign_cleanly(tmp_path: Path) -> None:
    process = _start(tmp_path / "campaign.py", tmp_path / "p.db")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[0].split()[-2:] == ["stopped", "interrupted"]
    assert not (tmp_path / "p.db.work").exists()


def test_children_end_when_the_campaign_is_killed(tmp_path: Path) -> None:
    process = _start(tmp_path / "campaign.py", tmp_path / "p.db")
    assert process.stdout is not None
    process.stdout.readline()
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    # Children of other threads too: the compiler is started by the thread that uses it.
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        children += (task / "children").read_text().split()
    assert children
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a child outlived the campaign"
        time.sleep(0.05)


def test_a_minimum_needs_a_second_visit_that_agrees() -> None:
    protocol = Protocol(visits=3, agreement=0.03)
    assert protocol.visits_left([]) == 3
    assert protocol.visits_left([100, 100]) == 1
    assert protocol.visits_left([150, 102, 100]) == 0
    assert protocol.visits_left([150, 140, 100]) == 1
    assert protocol.visits_left([150, 140, 100, 130, 120, 110]) == 0
    assert Protocol(visits=1).visits_left([100]) == 0


def test_chains_whose_visits_disagree_are_visited_again(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(FakeDevice(noise=2.0), store, Protocol(visits=3, invocations=1)).run(CHAINS)
        visits = [len(profile.visits) for profile in store.profiles("fake")]
    assert report.complete == 40
    assert max(visits) > 3
    assert min(visits) >= 3
