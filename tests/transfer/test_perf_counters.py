"""Performance counters: read where the kernel has them, named with a reason where not."""

from __future__ import annotations

import errno
import subprocess
import sys
from itertools import pairwise

import pytest

from blsm.transfer import perf_counters
from blsm.transfer.perf_counters import HARDWARE_COUNTERS, SOFTWARE_COUNTERS, PerfCounters, counts_between

ALL = {*HARDWARE_COUNTERS, *SOFTWARE_COUNTERS}


def test_the_ten_counters_of_maple() -> None:
    assert len(HARDWARE_COUNTERS) == len(set(HARDWARE_COUNTERS.values())) == 10
    # perf_event_open(2): cache | operation << 8 | result << 16
    assert HARDWARE_COUNTERS["llc_store_misses"] == (3, 2 | 1 << 8 | 1 << 16)
    assert HARDWARE_COUNTERS["l1d_loads"] == (3, 0)


def test_a_counter_is_read_or_missing_with_a_reason() -> None:
    with PerfCounters() as counters:
        assert counters.read().keys() | counters.missing.keys() == ALL
        assert not counters.read().keys() & counters.missing.keys()
        assert all(counters.missing.values())


def test_what_a_child_does_is_counted() -> None:
    with PerfCounters() as counters:
        if "task_clock_ns" in counters.missing:
            pytest.skip(counters.missing["task_clock_ns"])
        start = counters.read()
        code = "import sys; sum(range(int(sys.argv[1])))"
        readings = [start]
        for size in ("1", "20000000"):
            subprocess.run([sys.executable, "-c", code, size], check=True)
            readings.append(counters.read())
    idle, busy = (counts_between(*pair)["task_clock_ns"] for pair in pairwise(readings))
    assert idle is not None
    assert busy is not None
    assert busy - idle > 20e6


def test_a_shared_counter_is_scaled_and_one_that_never_ran_is_none() -> None:
    before = {"cycles": (100, 10, 10), "instructions": (0, 10, 10)}
    after = {"cycles": (200, 30, 20), "instructions": (0, 30, 10)}
    assert counts_between(before, after) == {"cycles": 200.0, "instructions": None}


def test_kernel_events_are_missing_where_only_user_mode_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_counter(kind: int, config: int, *, user_only: bool) -> int:
        if not user_only:
            raise PermissionError(errno.EACCES, "Permission denied")
        raise OSError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(perf_counters, "_open", open_counter)
    with PerfCounters() as counters:
        assert counters.missing.keys() == ALL
        assert "perf_event_paranoid" in counters.missing["context_switches"]


def test_another_system_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(perf_counters.platform, "system", lambda: "Darwin")
    with PerfCounters() as counters:
        assert counters.missing.keys() == ALL
        assert "Darwin" in counters.missing["cycles"]
        assert counters.read() == {}
