from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from blsm.errors import DeviceError
from blsm.profiling import Protocol, worker
from blsm.profiling.timer import WorkerSession
from blsm.profiling.worker import Pulse, answer_apart, available_cores, spread_threads, time_cold, time_invocations

PROTOCOL = Protocol(invocations=3, timeout_s=0.5)

#: Does what an artifact's name says.
_MISBEHAVE = """
import os, sys, time
def misbehave(artifact):
    name, _, log = artifact.partition(":")
    if name == "crash":
        print("out of luck", file=sys.stderr, flush=True)
        os.abort()
    if name == "exit":
        os._exit(3)
    if name == "hang":
        if log:
            with open(log, "w") as file:
                print(os.getpid(), file=file)
        time.sleep(60)
    if name == "busy":
        open(log, "w").close()
        while time.process_time() < 0.3:
            pass
    if name == "greed":
        taken = []
        while True:
            taken.append(b"x" * 2**24)
"""

_ODD_WORKER = f"""{_MISBEHAVE}
import json
for line in sys.stdin:
    name = json.loads(line)["artifact"]
    misbehave(name)
    if name == "noise":
        print("not json")
    if name == "apart":
        print(json.dumps({{"process": os.getpid()}}))  # which comes together with the answer
    timing = {{"samples_ns": [3, 1, 2], "cold_ns": [5, 4], "waited_s": 0.0, "disturbed": False, "started_s": 0.0}}
    print(json.dumps(timing), flush=True)
"""

#: Each artifact has a process of its own here, which has not seen another one.
_FORKING_WORKER = f"""{_MISBEHAVE}
sys.path.insert(0, {str(Path(worker.__file__).parent)!r})
import worker
seen = []
def load(artifact):
    seen.append(artifact)
    assert len(seen) == 1
    misbehave(artifact)
    return lambda: None
worker.RUNNERS["odd"], worker.FORKING["odd"] = load, lambda: None
sys.argv = ["worker", "odd"]
worker.main()
"""


#: Visits an artifact that is busy.
_VISITOR = f"""
import sys
from pathlib import Path
from blsm.profiling import Protocol
from blsm.profiling.timer import WorkerSession
with WorkerSession([sys.executable, "-c", {_ODD_WORKER!r}]) as session:
    print(session.visit(Path("busy:" + sys.argv[1]), Protocol(timeout_s=3)).minimum_ns)
"""


@pytest.fixture
def session() -> WorkerSession:
    return WorkerSession([sys.executable, "-c", _ODD_WORKER])


@pytest.fixture
def forking() -> WorkerSession:
    return WorkerSession([sys.executable, "-c", _FORKING_WORKER])


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


def test_a_visit_that_was_stopped_has_not_hung(tmp_path: Path) -> None:
    log = tmp_path / "began"
    command = [sys.executable, "-c", _VISITOR, str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        while not log.exists():
            assert process.poll() is None
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGSTOP)
        time.sleep(3.5)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.communicate(timeout=60)[0] == b"1\n"


def test_an_answer_may_come_at_once_with_what_is_said_before_it(session: WorkerSession) -> None:
    with session:
        assert session.visit(Path("apart"), PROTOCOL).minimum_ns == 1


def test_an_artifact_that_exhausts_memory_fails_and_the_next_one_does_not() -> None:
    protocol = Protocol(invocations=3, timeout_s=60)
    with WorkerSession([sys.executable, "-c", _ODD_WORKER], memory_bytes=256 * 2**20) as session:
        with pytest.raises(DeviceError, match=r"out of memory: it took \d+ MiB, 256 MiB are free for it"):
            session.visit(Path("greed"), protocol)
        assert session.visit(Path("good"), protocol).minimum_ns == 1


@pytest.mark.parametrize(("artifact", "reason"), [("crash", "status -6: out of luck"), ("exit", "status 3")])
def test_a_process_of_an_artifact_s_own_that_dies_costs_that_artifact(
    artifact: str, reason: str, forking: WorkerSession
) -> None:
    with forking:
        for _ in range(2):
            assert forking.visit(Path("good"), Protocol()).minimum_ns > 0
        with pytest.raises(DeviceError, match=f"the measuring process died with {reason}"):
            forking.visit(Path(artifact), Protocol())
        assert forking.visit(Path("good"), Protocol()).minimum_ns > 0


def test_a_process_of_an_artifact_s_own_ends_with_the_worker(forking: WorkerSession, tmp_path: Path) -> None:
    log = tmp_path / "process"
    with forking:
        assert forking.visit(Path("good"), Protocol()).minimum_ns > 0
        with pytest.raises(DeviceError, match=r"did not end within 2 s"):
            forking.visit(Path(f"hang:{log}"), Protocol(timeout_s=2))
        deadline = time.monotonic() + 20
        while Path(f"/proc/{log.read_text().strip()}").exists():
            assert time.monotonic() < deadline, "it outlived the worker"
            time.sleep(0.05)
        assert forking.visit(Path("good"), Protocol()).minimum_ns > 0


def test_memory_is_watched_where_the_artifact_takes_it() -> None:
    with WorkerSession([sys.executable, "-c", _FORKING_WORKER], memory_bytes=256 * 2**20) as session:
        with pytest.raises(DeviceError, match=r"out of memory: it took \d+ MiB, 256 MiB are free for it"):
            session.visit(Path("greed"), Protocol())
        assert session.visit(Path("good"), Protocol()).minimum_ns > 0


def test_a_pulse_learns_from_a_visit_in_another_process() -> None:
    pulse = Pulse()
    said: list[dict[str, object]] = []

    def visit() -> dict[str, object]:
        pulse.begin()
        return {"visited by": os.getpid()}

    answer_apart(visit, pulse, said.append)
    assert said == [{"process": said[0]["process"]}, {"visited by": said[0]["process"]}]
    assert said[0]["process"] != os.getpid()
    assert pulse.latest is not None
    assert pulse.latest[1][0] > 0


def test_a_pulse_learns_nothing_where_there_was_no_visit() -> None:
    pulse = Pulse()
    pulse.learn((), [1])
    told: list[object] = []
    pulse.learn = lambda *latest: told.append(latest)  # type: ignore[method-assign]
    answer_apart(lambda: {"error": "refused"}, pulse, lambda _: None)
    assert told == []


def _counter() -> tuple[list[int], object]:
    calls: list[int] = []
    return calls, lambda: calls.append(1)


def test_invocations_are_exact_without_a_time_limit() -> None:
    calls, invoke = _counter()
    timing = time_invocations(invoke, 40, None, 40, warmup=3)  # type: ignore[arg-type]
    assert (len(timing.samples_ns), len(calls)) == (40, 43)


@pytest.mark.usefixtures("one_by_one")
def test_a_visit_out_of_time_still_has_its_least_invocations() -> None:
    calls, invoke = _counter()
    timing = time_invocations(invoke, 1000, 0.0, 5, warmup=0)  # type: ignore[arg-type]
    assert len(timing.samples_ns) == len(calls) == 5


class _Scripted(Pulse):
    """Finds the core as the script says, then fast; and undivided between pulses as the other one says, then undivided."""

    def __init__(self, script: list[bool], undivided: Sequence[bool] = ()) -> None:
        super().__init__()
        self.count = 0
        self._script = iter(script)
        self._undivided = iter(undivided)

    def is_fast(self) -> bool:
        self.count += 1
        return next(self._script, True)

    def undivided(self) -> bool:
        return next(self._undivided, True)


class _Clock:
    """A clock that only invocations move, each by the same time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, invocation_ns: int) -> None:
        self.now_ns = 0
        self._invocation_ns = invocation_ns
        monkeypatch.setattr(worker.time, "perf_counter_ns", lambda: self.now_ns)

    def invoke(self) -> None:
        self.now_ns += self._invocation_ns


def test_short_invocations_follow_each_other_in_bursts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pulse = _Clock(monkeypatch, 2_000), _Scripted([True, True, False, True, True])
    timing = time_invocations(clock.invoke, 60, 1.0, 5, warmup=0, patience_s=1.0, pulse=pulse)
    # 25 invocations take 50 us. The second burst ends on a slow core and the third begins there.
    assert (len(timing.samples_ns), timing.waited_ns, pulse.count) == (75, 100_000, 6)


def test_long_invocations_have_a_pulse_each(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, pulse = _Clock(monkeypatch, 60_000), _Scripted([])
    timing = time_invocations(clock.invoke, 60, 1.0, 5, warmup=0, patience_s=1.0, pulse=pulse)
    assert (len(timing.samples_ns), pulse.count) == (60, 61)


@pytest.mark.parametrize(("invocation_ns", "samples", "pulses"), [(60_000, 100, 3), (5_000_000, 60, 31)])
def test_where_several_cores_compute_pulses_are_rarer(
    invocation_ns: int, samples: int, pulses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, pulse = _Clock(monkeypatch, invocation_ns), _Scripted([])
    monkeypatch.setattr(pulse, "take_ns", lambda: [0])
    timing = time_invocations(clock.invoke, 60, 1.0, 5, warmup=0, patience_s=1.0, pulse=pulse, cores=[0, 1])
    # One every 3 ms, that is 50 invocations of 60 us, but no more often than every two invocations.
    assert (len(timing.samples_ns), pulse.count) == (samples, pulses)


@pytest.mark.parametrize(("max_visit_s", "count"), [(1.0, 5000), (None, 160)])
def test_short_invocations_fill_a_visit_unless_their_number_is_exact(
    max_visit_s: float | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = _Clock(monkeypatch, 2_000)
    timing = time_invocations(clock.invoke, 160, max_visit_s, 5, warmup=0, min_visit_s=0.01)
    assert len(timing.samples_ns) == count


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """No invocation is short."""
    monkeypatch.setattr(worker, "_BURST_NS", 0)


@pytest.mark.usefixtures("one_by_one")
def test_invocations_count_between_two_pulses_of_a_fast_core() -> None:
    calls, invoke = _counter()
    # The core is slow before the first two invocations, fast for one, and disturbed in the next.
    pulse = _Scripted([False, False, True, True, False, True])
    timing = time_invocations(invoke, 10, None, 3, warmup=0, patience_s=60.0, pulse=pulse)  # type: ignore[arg-type]
    assert (len(timing.samples_ns), len(calls)) == (10, 14)
    assert timing.waited_ns > 0
    assert not timing.disturbed


@pytest.mark.usefixtures("one_by_one")
def test_invocations_count_while_nothing_else_has_the_core() -> None:
    calls, invoke = _counter()
    pulse = _Scripted([], [True, False, False, True])
    timing = time_invocations(invoke, 10, None, 3, warmup=0, patience_s=60.0, pulse=pulse)  # type: ignore[arg-type]
    assert (len(timing.samples_ns), len(calls)) == (10, 12)
    assert timing.waited_ns > 0


@pytest.mark.usefixtures("one_by_one")
def test_a_visit_whose_patience_ends_is_content_with_its_least_invocations() -> None:
    calls, invoke = _counter()
    pulse = _Scripted([True, True, True, True, *[False] * 100])
    timing = time_invocations(invoke, 10, None, 3, warmup=0, patience_s=1e-9, pulse=pulse)  # type: ignore[arg-type]
    assert (len(timing.samples_ns), len(calls), timing.disturbed) == (3, 4, False)


@pytest.mark.usefixtures("one_by_one")
def test_a_visit_that_has_too_few_by_then_takes_what_it_gets_and_says_so() -> None:
    calls, invoke = _counter()
    pulse = _Scripted([True, True, *[False] * 100])
    timing = time_invocations(invoke, 10, None, 3, warmup=0, patience_s=1e-9, pulse=pulse)  # type: ignore[arg-type]
    assert (len(timing.samples_ns), len(calls), timing.disturbed) == (10, 12, True)


def test_cold_invocations_count_where_nothing_disturbed_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "empty_caches", lambda cores: None)
    calls, invoke = _counter()
    some = _Scripted([True, True, False, True, False, True, True, True, True, True, True])
    assert len(time_cold(invoke, 4, some)) == 4  # type: ignore[arg-type]
    assert len(calls) == 6
    assert len(time_cold(invoke, 4, _Scripted([True, True, *[False] * 14]))) == 1  # type: ignore[arg-type]
    assert time_cold(invoke, 4, _Scripted([True, *[False] * 15])) == []  # type: ignore[arg-type]
    assert len(time_cold(invoke, 4, _Scripted([], [True, *[False] * 7]))) == 1  # type: ignore[arg-type]


def test_waking_the_threads_of_several_cores_is_no_part_of_a_cold_invocation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Emptying caches takes a millisecond here, and a computation 100 us, 30 more if data and 7 more if threads are gone."""
    now_ns, gone = 0, {"data": False, "threads": False}

    def empty(cores: object) -> None:
        nonlocal now_ns
        now_ns += 1_000_000
        gone.update(data=True, threads=True)

    def read_s() -> float:
        nonlocal now_ns
        now_ns += 300_000
        gone["threads"] = True
        return now_ns / 1e9

    def invoke() -> None:
        nonlocal now_ns
        now_ns += 100_000 + 30_000 * gone["data"] + 7_000 * gone["threads"]
        gone.update(data=False, threads=False)

    monkeypatch.setattr(worker, "empty_caches", empty)
    monkeypatch.setattr(worker.time, "perf_counter", read_s)
    monkeypatch.setattr(worker.time, "perf_counter_ns", lambda: now_ns)
    pulse = _Scripted([])
    monkeypatch.setattr(pulse, "take_ns", lambda: [0])
    assert time_cold(invoke, 3, pulse, [0, 1], 100_000) == [130_000] * 3


def test_more_is_read_than_caches_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number, size in enumerate(("32K", "1024K", "4096K")):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}/size").write_text(f"{size}\n")
    for caches, found_mib in ((tmp_path, (8, 2)), (tmp_path / "none", (16, 16))):
        worker._elsewhere.cache_clear()
        monkeypatch.setattr(worker, "_CACHES", caches)
        assert tuple(read.nbytes / 2**20 for read in worker._elsewhere()) == found_mib
    worker._elsewhere.cache_clear()


def test_emptying_caches_leaves_a_thread_the_cores_that_it_had() -> None:
    cores = available_cores()
    worker.empty_caches(cores)
    assert available_cores() == cores


@pytest.fixture
def beats(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the next pulse takes, nanoseconds."""
    took_ns = [100]
    monkeypatch.setattr(worker, "_beat_ns", lambda: took_ns[0])
    return took_ns


def _is_fast(pulse: Pulse, beats: list[int], took_ns: int) -> bool:
    """Of a visit that finds its core like that throughout."""
    beats[0] = took_ns
    pulse.begin()
    return pulse.is_fast()


def test_a_pulse_knows_a_disturbed_core_by_those_before(beats: list[int]) -> None:
    pulse = Pulse()
    assert _is_fast(pulse, beats, 100)
    assert _is_fast(pulse, beats, 115)
    assert not _is_fast(pulse, beats, 170)
    assert _is_fast(pulse, beats, 105)


def test_a_few_lucky_visits_do_not_make_a_core_look_slow(beats: list[int]) -> None:
    pulse = Pulse()
    for took_ns in [100] * 90 + [70] * 10:
        _is_fast(pulse, beats, took_ns)
    assert _is_fast(pulse, beats, 100)


def test_a_core_that_is_slow_for_good_is_as_fast_as_it_can_be(beats: list[int]) -> None:
    pulse = Pulse()
    found = [_is_fast(pulse, beats, took_ns) for took_ns in [100] * 100 + [170] * 110]
    assert not any(found[100:180])
    assert all(found[190:])


needs_two_cores = pytest.mark.skipif(len(available_cores()) < 2, reason="needs two cores")


@pytest.fixture
def pulse_of_cores() -> Iterator[Pulse]:
    """Of two cores, in a visit."""
    with contextlib.closing(Pulse(available_cores()[:2])) as pulse:
        pulse.begin(available_cores()[:2])
        yield pulse


@needs_two_cores
def test_cores_are_timed_together_and_the_calling_thread_stays_where_it_may_be(pulse_of_cores: Pulse) -> None:
    cores = os.sched_getaffinity(0)
    for _ in range(20):
        took_ns = pulse_of_cores.take_ns()
        assert len(took_ns) == 3  # this core's loop, the other one's answer and loop
        assert all(0 < ns <= 20_000_000 for ns in took_ns)
    assert os.sched_getaffinity(0) == cores


@needs_two_cores
@pytest.mark.parametrize("slow", range(3))
def test_cores_are_fast_if_each_is_and_they_answer_soon(
    slow: int, pulse_of_cores: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    took_ns = [1] * 3  # less than anything takes
    monkeypatch.setattr(pulse_of_cores, "take_ns", lambda: list(took_ns))
    assert pulse_of_cores.is_fast()
    took_ns[slow] = 2
    assert not pulse_of_cores.is_fast()


@needs_two_cores
def test_a_core_that_does_not_answer_is_not_fast(pulse_of_cores: Pulse) -> None:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    newest = int(children[-1])
    os.kill(newest, signal.SIGSTOP)
    try:
        assert not pulse_of_cores.is_fast()
    finally:
        os.kill(newest, signal.SIGCONT)


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the kernel does not tell who waits for a core")
def test_a_pulse_notices_another_process_on_its_core() -> None:
    cores = available_cores()
    with contextlib.closing(Pulse()) as pulse, subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            os.sched_setaffinity(0, cores[:1])
            os.sched_setaffinity(other.pid, cores[:1])
            pulse.begin()
            while pulse.undivided():  # it has to start first
                pulse.is_fast()
                sum(range(500_000))
        finally:
            os.sched_setaffinity(0, cores)
            other.kill()


def test_where_the_kernel_keeps_no_account_cores_count_as_undivided(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(worker.os, "open", refuse)
    with contextlib.closing(Pulse()) as pulse:
        pulse.begin()
        sum(range(500_000))
        assert pulse.undivided()


@needs_two_cores
def test_processes_that_answer_end_with_the_one_that_asks() -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(worker.__file__).parent)!r})
import worker
pulse = worker.Pulse(worker.available_cores()[:2])
print("ready", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        assert process.stdout.read() == b""  # which ends only when nobody holds it any more


@needs_two_cores
def test_threads_that_compute_get_a_core_each() -> None:
    cores = available_cores()
    data = bytes(1 << 20)  # hashing it lets other threads run
    threads: dict[int, None] = {}

    def compute() -> None:
        threads[threading.get_native_id()] = None
        hashlib.sha256(data).digest()

    # Each with work of its own: of one pool, a busy machine may leave all of it to one thread.
    with ThreadPoolExecutor(1) as first, ThreadPoolExecutor(1) as second:

        def invoke() -> None:
            for future in [pool.submit(compute) for pool in (first, second) * 4]:
                future.result()

        invoke()
        assert len(threads) == 2
        for thread in threads:
            os.sched_setaffinity(thread, cores[:1])
        found = spread_threads(invoke, cores)
        placed = [os.sched_getaffinity(thread) for thread in threads]
        os.sched_setaffinity(0, cores)
    assert [len(mask) for mask in placed] == [1, 1]
    assert placed[0] != placed[1]
    assert sorted(core for mask in placed for core in mask) == found
