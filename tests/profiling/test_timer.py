from __future__ import annotations

import hashlib
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blsm.errors import DeviceError
from blsm.profiling import Protocol
from blsm.profiling.timer import WorkerSession
from blsm.profiling.worker import available_cores, spread_threads, time_invocations

PROTOCOL = Protocol(invocations=3, timeout_s=0.5)

#: A worker that does what the artifact's name says.
_ODD_WORKER = """
import json, os, sys, time
for line in sys.stdin:
    name = json.loads(line)["artifact"]
    if name == "crash":
        print("out of luck", file=sys.stderr, flush=True)
        os.abort()
    if name == "hang":
        time.sleep(60)
    if name == "greed":
        taken = []
        while True:
            taken.append(b"x" * 2**24)
    if name == "noise":
        print("not json")
    print(json.dumps({"samples_ns": [3, 1, 2], "started_s": 0.0}), flush=True)
"""


@pytest.fixture
def session() -> WorkerSession:
    return WorkerSession([sys.executable, "-c", _ODD_WORKER])


@pytest.mark.parametrize(
    ("artifact", "reason"),
    [("crash", "died with status -6: out of luck"), ("hang", "did not end within 0.5 s"), ("noise", "died")],
)
def test_a_worker_that_goes_wrong_is_replaced(artifact: str, reason: str, session: WorkerSession) -> None:
    with session:
        assert session.visit(Path("good"), PROTOCOL).minimum_ns == 1
        with pytest.raises(DeviceError, match=reason):
            session.visit(Path(artifact), PROTOCOL)
        assert session.visit(Path("good"), PROTOCOL).minimum_ns == 1


def test_an_artifact_that_exhausts_memory_fails_and_the_next_one_does_not() -> None:
    protocol = Protocol(invocations=3, timeout_s=60)
    with WorkerSession([sys.executable, "-c", _ODD_WORKER], memory_bytes=256 * 2**20) as session:
        with pytest.raises(DeviceError, match=r"out of memory: it took \d+ MiB, 256 MiB are free for it"):
            session.visit(Path("greed"), protocol)
        assert session.visit(Path("good"), protocol).minimum_ns == 1


def _counter() -> tuple[list[int], object]:
    calls: list[int] = []
    return calls, lambda: calls.append(1)


def test_invocations_are_exact_without_a_time_limit() -> None:
    calls, invoke = _counter()
    samples = time_invocations(invoke, 40, None, 40, warmup=3)  # type: ignore[arg-type]
    assert (len(samples), len(calls)) == (40, 43)


def test_a_visit_out_of_time_still_has_its_least_invocations() -> None:
    calls, invoke = _counter()
    samples = time_invocations(invoke, 1000, 0.0, 5, warmup=0)  # type: ignore[arg-type]
    assert len(samples) == len(calls) == 5


@pytest.mark.skipif(len(available_cores()) < 2, reason="needs two cores")
def test_threads_that_compute_get_a_core_each() -> None:
    cores = available_cores()
    data = bytes(1 << 20)  # hashing it lets other threads run
    threads: dict[int, None] = {}

    def compute() -> None:
        threads[threading.get_native_id()] = None
        hashlib.sha256(data).digest()

    with ThreadPoolExecutor(2) as pool:

        def invoke() -> None:
            for future in [pool.submit(compute) for _ in range(8)]:
                future.result()

        invoke()
        assert len(threads) == 2
        for thread in threads:
            os.sched_setaffinity(thread, cores[:1])
        spread_threads(invoke, cores)
        placed = [os.sched_getaffinity(thread) for thread in threads]
        os.sched_setaffinity(0, cores)
    assert [len(mask) for mask in placed] == [1, 1]
    assert placed[0] != placed[1]
