from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import blsm
from blsm.errors import FingerprintError, StoreError
from blsm.profiles import Fingerprint, Profile, ProfileStore, Visit, decode_chain, digest, encode_chain, latencies

MACHINE = Fingerprint({"cpu": "A", "threads": 1}, {"kernel": "6"})


def _chain(number: int = 0) -> tuple[blsm.BlockConfig, ...]:
    return (blsm.block_family("conv").sample(number + 1, seed=0)[number],)


def test_a_visit_keeps_the_order_statistics() -> None:
    visit = Visit.from_samples(list(range(1000, 2000)), started_s=5.0)
    assert (visit.minimum_ns, visit.quantiles_ns[4], visit.quantiles_ns[-1]) == (1000, 1499, 1999)
    assert visit.invocations == 1000


def test_latency_is_the_minimum_over_all_visits() -> None:
    profile = Profile(_chain(), tuple(Visit.from_samples([n, 2 * n]) for n in (3_000_000, 2_000_000, 2_500_000)))
    assert profile.latency_ms == 2.0
    assert profile.spread == 0.5


def test_chains_survive_text(network: list[blsm.BlockConfig]) -> None:
    chain = tuple(network)
    assert decode_chain(encode_chain(chain)) == chain
    assert digest(chain) == digest(decode_chain(encode_chain(chain))) != digest(chain[1:])


def test_what_was_stored_is_read_back(tmp_path: Path, network: list[blsm.BlockConfig]) -> None:
    visits = [Visit.from_samples([5, 6, 7], 1.0), Visit.from_samples([4, 9], 2.0)]
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        store.register_device("edge_cpu", MACHINE)
        for visit in visits:
            store.add_visit("edge_cpu", tuple(network), visit)
        store.add_failure("edge_cpu", _chain(), "it broke")
        store.add_sentinel_visit("edge_cpu", visits[0])
    with ProfileStore(tmp_path / "p.db") as store:
        assert store.devices() == {"edge_cpu": MACHINE}
        assert store.profiles("edge_cpu") == [
            Profile(tuple(network), tuple(visits)),
            Profile(_chain(), (), "it broke"),
        ]
        assert store.sentinel_visits("edge_cpu") == visits[:1]
        assert latencies(store.profiles("edge_cpu")) == {tuple(network): 4e-6}
        assert store.clear_failures("edge_cpu") == 1
        assert store.profiles("edge_cpu")[1].failure is None


def test_another_machine_is_refused_with_what_differs(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        store.register_device("edge_cpu", MACHINE)
        store.register_device("edge_cpu", Fingerprint(MACHINE.identity, {"kernel": "7"}))  # a note may differ
        with pytest.raises(FingerprintError, match=r"cpu: 'B' against 'A'.*--store"):
            store.register_device("edge_cpu", Fingerprint({"cpu": "B", "threads": 1}))
        assert store.fingerprint("edge_cpu") == MACHINE
        with pytest.raises(StoreError, match=r"no profiles of 'gpu'; it holds edge_cpu"):
            store.fingerprint("gpu")


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "an empty file"), (b"hello " * 1000, "damaged or no profile store")]
)
def test_files_that_are_no_stores(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=message):
        ProfileStore(path)


def test_missing_foreign_truncated_and_newer_stores(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="make one with `blsm profile"):
        ProfileStore(tmp_path / "missing.db")
    with pytest.raises(StoreError, match="folder does not exist"):
        ProfileStore(tmp_path / "no" / "p.db", create=True)
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE songs (name)")
    foreign.close()
    with pytest.raises(StoreError, match="another program"):
        ProfileStore(tmp_path / "foreign.db", create=True)

    with ProfileStore(tmp_path / "p.db", create=True) as store:
        store.register_device("edge_cpu", MACHINE)
        for number in range(20):
            store.add_visit("edge_cpu", _chain(number), Visit.from_samples([1]))
    content = (tmp_path / "p.db").read_bytes()
    (tmp_path / "cut.db").write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match="damaged"), ProfileStore(tmp_path / "cut.db") as cut:
        cut.profiles("edge_cpu")
    newer = sqlite3.connect(tmp_path / "p.db")
    newer.execute("PRAGMA user_version = 99")
    newer.close()
    with pytest.raises(StoreError, match="schema 99.*upgrade blsm"):
        ProfileStore(tmp_path / "p.db")


def test_a_store_of_schema_1_is_upgraded_and_keeps_its_profiles(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    with ProfileStore(path, create=True) as store:
        store.register_device("edge_cpu", MACHINE)
        store.add_visit("edge_cpu", _chain(0), Visit.from_samples([3, 1, 2], 5.0))
        (before,) = store.profiles("edge_cpu")
    former = sqlite3.connect(path)
    former.executescript("ALTER TABLE visits DROP COLUMN cold_ns; PRAGMA user_version = 1;")
    former.close()
    with ProfileStore(path) as store:
        assert store.profiles("edge_cpu") == [before]
        assert before.cold_ms is None
        store.add_visit("edge_cpu", _chain(0), Visit.from_samples([2], 6.0, [40, 10, 20, 30]))
        (after,) = store.profiles("edge_cpu")
    assert after.latency_ms == before.latency_ms
    assert after.cold_ms == pytest.approx(10e-6)


_WRITER = """
import sys
import blsm
from blsm.profiles import *
chains = [(config,) for config in blsm.block_family("conv").sample(400, seed=0)]
with ProfileStore(sys.argv[1], create=True) as store:
    store.register_device("edge_cpu", Fingerprint({"cpu": "A"}))
    done = {profile.blocks for profile in store.profiles("edge_cpu")}
    print("ready", flush=True)
    for chain in chains:
        if chain not in done:
            store.add_visit("edge_cpu", chain, Visit.from_samples([1, 2, 3], 0.0))
            print("stored", flush=True)
"""


def test_a_kill_at_any_moment_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    path = tmp_path / "p.db"
    stored = 0
    for pause in (0.001, 0.004, 0.013, 0.03):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        stored += process.communicate()[0].count("stored\n")
        with ProfileStore(path) as store:
            profiles = store.profiles("edge_cpu")
        # A visit may have been stored and not yet said so; never the other way round, and none twice.
        assert stored <= len(profiles) <= stored + 4
        assert all(len(profile.visits) == 1 for profile in profiles)
        stored = len(profiles)


def test_a_full_disk_says_so_and_keeps_what_was_stored(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        store.register_device("edge_cpu", MACHINE)
        store.add_visit("edge_cpu", _chain(0), Visit.from_samples([1]))
        (pages,) = store._db.execute("PRAGMA page_count").fetchone()
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match="disk is full.*what was stored before is safe"):
            for number in range(1, 200):
                store.add_visit("edge_cpu", _chain(number), Visit.from_samples([1]))
        before = len(store.profiles("edge_cpu"))
    with ProfileStore(tmp_path / "p.db") as store:
        assert len(store.profiles("edge_cpu")) == before >= 1


def test_visits_that_come_together_are_stored_all_or_none(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        store.register_device("edge_cpu", MACHINE)
        store.add_visits("edge_cpu", [(_chain(number % 2), Visit.from_samples([number + 1])) for number in range(4)])
        stored = {
            profile.blocks: [visit.minimum_ns for visit in profile.visits] for profile in store.profiles("edge_cpu")
        }
        assert stored == {_chain(0): [1, 3], _chain(1): [2, 4]}
        with pytest.raises(AttributeError):
            store.add_visits("edge_cpu", [(_chain(2), Visit.from_samples([1])), (_chain(3), None)])  # type: ignore[list-item]
        assert len(store.profiles("edge_cpu")) == 2
