from __future__ import annotations

from pathlib import Path

import pytest

import blsm
from blsm.checking import check_store, drift_of
from blsm.cli.main import main
from blsm.profiles import Fingerprint, ProfileStore, Visit

CHAINS = [(config,) for config in blsm.block_family("conv").sample(5, seed=0)]


def _fill(path: Path, sentinel_ns: list[int]) -> None:
    with ProfileStore(path, create=True) as store:
        store.register_device("edge_cpu", Fingerprint({"cpu": "A"}))
        for chain in CHAINS[:3]:
            for minimum in (1000, 1010, 1500):
                store.add_visit("edge_cpu", chain, Visit.from_samples([minimum], 0.0))
        for minimum in (1000, 1400):
            store.add_visit("edge_cpu", CHAINS[3], Visit.from_samples([minimum], 0.0))
        store.add_failure("edge_cpu", CHAINS[4], "it crashed")
        for number, minimum in enumerate(sentinel_ns):
            store.add_sentinel_visit("edge_cpu", Visit.from_samples([minimum], float(number)))


def test_failures_unstable_blocks_and_drift_are_found(tmp_path: Path) -> None:
    _fill(tmp_path / "p.db", [100, 101, 150, 150])
    with ProfileStore(tmp_path / "p.db") as store:
        (check,) = check_store(store)
    assert [profile.blocks for profile in check.unconfirmed] == [CHAINS[3]]
    assert [profile.failure for profile in check.failed] == ["it crashed"]
    assert (len(check.measured), check.drift) == (4, pytest.approx(0.5))
    assert check.verdict == "unstable, drifting, has failures"


def test_a_quiet_store_is_good(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        store.register_device("edge_cpu", Fingerprint({"cpu": "A"}))
        for minimum in (1000, 1001):
            store.add_visit("edge_cpu", CHAINS[0], Visit.from_samples([minimum], 0.0))
        (check,) = check_store(store)
    assert (check.verdict, check.unconfirmed, check.drift) == ("good", (), 0.0)


def test_one_slow_visit_in_forty_is_no_drift() -> None:
    fast, slow = Visit.from_samples([1000], 0.0), Visit.from_samples([2000], 0.0)
    assert drift_of([slow, *[fast] * 39]) == 0.0
    assert drift_of([slow, slow, slow, *[fast] * 37]) == pytest.approx(1.0)
    assert drift_of([]) == 0.0


def test_the_command_names_what_to_run_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _fill(tmp_path / "p.db", [100, 101, 150, 150])
    assert main(["check", str(tmp_path / "p.db")]) == 0
    out = capsys.readouterr().out
    assert "edge_cpu: unstable, drifting, has failures. 4 measured, 1 failed, 1 without two visits that agree" in out
    again = f"blsm profile --block conv --device edge_cpu --store {tmp_path / 'p.db'}"
    assert f"{again} --retry-failed" in out
    assert f"{again} --visits 3" in out
    assert "failed 1 times: it crashed" in out
