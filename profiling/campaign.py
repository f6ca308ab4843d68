"""A campaign: compiles and visits many chains on one device, in any order, until all have their visits."""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import random
import shutil
import threading
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from blsm.blocks import block_family
from blsm.errors import DeviceError, HostError, StoreError
from blsm.profiles import Chain, Profile, ProfileStore, Visit
from blsm.profiling import machine
from blsm.profiling.compiler import CompileProcess
from blsm.profiling.devices.base import Device, Protocol, Session

logger = logging.getLogger(__name__)

#: A block of middling size that is visited over and over: its latency changes only if the device itself does.
SENTINEL: Chain = (
    block_family("mbconv").config(
        height=16, width=16, in_channels=32, filters=32, kernel_size=3, strides=1, expand_ratio=4
    ),
)
_SENTINEL_INTERVAL_S = 5.0
#: Slower by more than this than the fastest tenth of its visits that were not, the device itself is slow: it shares its
#: cores with others, say, or is hot. Noise of a quiet machine stays below.
_SLOW, _FAST_SHARE = 1.25, 0.1
#: Then only the sentinel is visited, this often, until the device is fast again; but in all no longer than it measured
#: and this: a device that is slow for good is measured as it is.
_SLOW_INTERVAL_S, _PATIENCE_S = 1.0, 20.0
#: Visits wait for their core, in all, so many times as long as it measured and `_PATIENCE_S`. A core that is slow for
#: good they take as it is.
_CORE_PATIENCE = 10.0
#: Chains compiled ahead and not yet finished: it spreads the visits of a chain over minutes, and bounds disk use.
_WINDOW = 512
#: Seconds between two visits of one chain, at least, while there are others to visit. A machine has slow spells, and
#: small blocks a slow mode that lasts for seconds; visits closer together would all fall into the same.
_REST_S = 10.0
#: Tasks that a session holds: the one it visits, and the next ones, so that it need not wait while visits are stored:
#: on a busy disk that takes longer than the visits of some small blocks.
_AHEAD = 5
#: Invocations with nothing in the caches, and how many blocks of a family are timed so: a roofline learns it from few.
_COLD_INVOCATIONS, _COLD_BLOCKS = 12, 200
#: How often to look at the clock while nothing happens.
_POLL_S = 0.5
#: How long a running visit may take to end by itself when the campaign ends.
_LAST_VISIT_S = 1.0


@dataclass
class CampaignReport:
    """How a campaign went.

    Attributes:
        asked: chains that were asked for.
        complete: those that have all their visits now, earlier runs included.
        failed: chain -> reason, of those that can't be compiled or run.
        visits: visits made in this run, that count.
        lost: what happened to hosts that could not be used, or were lost on the way.
        compiling_s: time of all compilers together, seconds.
        transfer_s: time for moving artifacts to other machines, of all of them together, seconds.
        waited_s: time that sessions waited for their device to be fast again, seconds.
        measuring_s: time in visits, of all measuring cores together, seconds.
        idle_s: time that the measuring cores did neither, e.g. because nothing was compiled yet, seconds.
        total_s: time of this run, seconds.
        stopped: why it ended early: `budget` or `interrupted`; None if it did not.
    """

    asked: int
    complete: int = 0
    failed: dict[Chain, str] = field(default_factory=dict)
    visits: int = 0
    lost: list[str] = field(default_factory=list)
    compiling_s: float = 0.0
    transfer_s: float = 0.0
    waited_s: float = 0.0
    measuring_s: float = 0.0
    idle_s: float = 0.0
    total_s: float = 0.0
    stopped: str | None = None

    @property
    def idle_share(self) -> float:
        """Share of the measuring cores' time that they idled."""
        spent = self.measuring_s + self.transfer_s + self.idle_s
        return self.idle_s / spent if spent else 0.0


@dataclass(eq=False)
class _Task:
    """A chain on its way through the campaign.

    Attributes:
        timed_cold: whether no further visit has to time it with cold caches.
    """

    blocks: Chain
    artifact: Path
    minima_ns: list[int] = field(default_factory=list)
    timed_cold: bool = False
    rested_at: float = 0.0
    compiling_s: float = 0.0
    error: str | None = None


class Campaign:
    """Profiles chains on a device into a store.

    Chains are compiled on the other cores while one core measures. Each visit is stored at once; chains that the store
    holds already are not measured again. A visit counts if the sentinel block is as fast as usual before and after it:
    while it is not, the campaign waits, and visits what was visited then once more.

    Args:
        device: measures there.
        store: keeps the visits.
        protocol: how to time.
        seed: of the order of visits.
        progress: called with the number of planned visits settled since the last call.
    """

    def __init__(
        self,
        device: Device,
        store: ProfileStore,
        protocol: Protocol | None = None,
        seed: int = 0,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.device = device
        self.store = store
        self.protocol = protocol or Protocol()
        self.progress = progress
        if device.deterministic:
            self.protocol = replace(self.protocol, visits=1)
        self._random = random.Random(seed)
        #: Held while something runs that must not share the machine.
        self._machine: AbstractContextManager[Any] = threading.Lock() if device.exclusive else nullcontext()

    def run(self, chains: Iterable[Chain], budget_s: float | None = None) -> CampaignReport:
        """Visits every chain until it has its visits.

        Args:
            chains: what to profile; repeated ones count once.
            budget_s: stop cleanly after this many seconds.

        Returns:
            The report; `stopped` tells of a budget that ran out, or of Ctrl-C.

        Raises:
            StoreError: the store can't be written, or another campaign uses it.
            FingerprintError: the store's profiles of this device are another machine's, or several hosts differ.
            DeviceError: the device is not usable here.
            HostError: no host can be used at the start, or the last one was lost on the way.
        """
        chains = list(dict.fromkeys(chains))
        if (lacking := self.device.missing()) is not None:
            raise DeviceError(f"{self.device.name} is not usable here: {lacking}")
        self.store.register_device(self.device.name, self.device.fingerprint())
        report = CampaignReport(asked=len(chains))
        started = time.monotonic()
        deadline = float("inf") if budget_s is None else started + budget_s
        try:
            with _work_folder(self.store.path) as folder:
                if tasks := self._tasks(chains, folder, report):
                    self._run(tasks, folder, report, deadline)
        except KeyboardInterrupt:
            report.stopped = "interrupted"
        report.total_s = time.monotonic() - started
        return report

    def visits_needed(self, chains: Iterable[Chain]) -> int:
        """Visits that are still to be made; there can be more, where visits disagree."""
        known = {profile.blocks: profile for profile in self.store.profiles(self.device.name)}
        return sum(self._visits_left(known.get(chain)) for chain in dict.fromkeys(chains))

    def _visits_left(self, profile: Profile | None) -> int:
        if profile is not None and profile.failure is not None:
            return 0
        return self.protocol.visits_left([visit.minimum_ns for visit in profile.visits] if profile else [])

    def _tasks(self, chains: list[Chain], folder: Path, report: CampaignReport) -> list[_Task]:
        """The chains that lack visits; the report counts the others."""
        known = {profile.blocks: profile for profile in self.store.profiles(self.device.name)}
        cold = Counter(profile.blocks[0].family for profile in known.values() if profile.cold_ms is not None)
        tasks = []
        for number, blocks in enumerate(chains):
            profile = known.get(blocks)
            if profile is not None and profile.failure is not None:
                report.failed[blocks] = profile.failure
            elif self._visits_left(profile):
                minima_ns = [visit.minimum_ns for visit in profile.visits] if profile else []
                is_timed = profile is not None and profile.cold_ms is not None
                timed_cold = len(blocks) > 1 or is_timed or cold[blocks[0].family] >= _COLD_BLOCKS
                cold[blocks[0].family] += not timed_cold
                tasks.append(_Task(blocks, folder / f"{number}{self.device.suffix}", minima_ns, timed_cold))
        report.complete = len(chains) - len(tasks) - len(report.failed)
        return tasks

    def _run(self, tasks: list[_Task], folder: Path, report: CampaignReport, deadline: float) -> None:
        core, others = machine.split_cores()
        cores = others if self.device.here else machine.available_cores()
        arrived: _Arrived = queue.SimpleQueue()
        compilers = _Compilers(self.device, cores, folder / "compiler.log", self._machine, arrived)
        sentinel = _Task(SENTINEL, folder / f"sentinel{self.device.suffix}", timed_cold=True)
        ready: list[_Task] = []
        with compilers, _Measurers(self.device.sessions(core), self.protocol, self._machine, arrived) as measurers:
            report.lost += self.device.unusable
            if len(measurers.alive) == 1:  # of several hosts, each has a speed of its own
                known_ns = sorted(visit.minimum_ns for visit in self.store.sentinel_visits(self.device.name))
                measurers.alive[0].fast_ns = [ns for ns in known_ns if not _is_slow(ns, known_ns)]
            try:
                compilers.compile_now(sentinel)
                report.compiling_s += sentinel.compiling_s
                compilers.start(tasks)
                while True:
                    if over := time.monotonic() > deadline:
                        report.stopped = "budget"
                    else:
                        self._hand_out(ready, sentinel, measurers, report, bool(compilers.pending))
                    busy = any(measurer.tasks for measurer in measurers.alive)
                    if not busy and (over or not (ready or compilers.pending)):
                        for measurer in measurers.alive:
                            self._count(measurer, ready, compilers, report)
                        return
                    self._settle(arrived, sentinel, ready, compilers, measurers, report)
            finally:
                measurers.close()
                measurers.account(report)

    def _hand_out(
        self, ready: list[_Task], sentinel: _Task, measurers: _Measurers, report: CampaignReport, more: bool
    ) -> None:
        """Gives sessions that have too little to do the sentinel if it is due, or else the next task."""
        for measurer in measurers.alive:
            while len(measurer.tasks) < _AHEAD:
                if time.monotonic() >= measurer.sentinel_due:
                    interval_s = _SENTINEL_INTERVAL_S if measurer.slow_since is None else _SLOW_INTERVAL_S
                    measurer.sentinel_due = time.monotonic() + interval_s
                    measurer.give(sentinel)
                elif measurer.slow_since is not None:
                    break
                elif (chosen := self._choose(ready, more)) is not None:
                    ready.remove(chosen)
                    measurer.give(chosen)
                elif measurer.uncounted and not (measurer.tasks or more):
                    measurer.sentinel_due = 0.0
                else:
                    break

    def _settle(
        self,
        arrived: _Arrived,
        sentinel: _Task,
        ready: list[_Task],
        compilers: _Compilers,
        measurers: _Measurers,
        report: CampaignReport,
    ) -> None:
        """Waits for what happens next, and records it with all that happened meanwhile."""
        try:
            events = [arrived.get(timeout=_POLL_S)]
        except queue.Empty:
            return
        while not arrived.empty():
            events.append(arrived.get())
        visits = [
            (event.task.blocks, event.outcome)
            for event in events
            if isinstance(event, _Visited) and isinstance(event.outcome, Visit) and event.task is not sentinel
        ]
        if visits:
            # In one transaction: what a disk needs for each is as long as the visit took.
            self.store.add_visits(self.device.name, visits)
        for event in events:
            self._settle_one(event, sentinel, ready, compilers, measurers, report)

    def _settle_one(
        self,
        event: _Task | _Visited | BaseException,
        sentinel: _Task,
        ready: list[_Task],
        compilers: _Compilers,
        measurers: _Measurers,
        report: CampaignReport,
    ) -> None:
        if isinstance(event, BaseException):
            raise event
        if isinstance(event, _Visited):
            task, measurer = event.task, event.measurer
            measurer.tasks.remove(task)
            if isinstance(event.outcome, Visit):
                measurer.account(event.outcome)
            if isinstance(event.outcome, HostError):
                lost = [task, *measurer.tasks, *(task for task, _ in measurer.uncounted)]
                measurers.lose(measurer, event.outcome, report)
                ready.extend(task for task in lost if task is not sentinel)
            elif task is sentinel:
                if isinstance(event.outcome, DeviceError):
                    raise event.outcome
                if event.outcome.disturbed:
                    measurer.sentinel_due = 0.0  # it says nothing of the device
                    return
                self.store.add_sentinel_visit(self.device.name, event.outcome)
                if measurer.was_fast(event.outcome.minimum_ns):
                    self._count(measurer, ready, compilers, report)
                else:
                    ready.extend(task for task, _ in measurer.uncounted)
                    measurer.uncounted.clear()
            elif isinstance(event.outcome, DeviceError):
                self._fail(task, str(event.outcome), report)
                compilers.release(task)
            elif event.outcome.disturbed:
                ready.append(task)
            else:
                measurer.uncounted.append((task, event.outcome))
            return
        compilers.pending -= 1
        report.compiling_s += event.compiling_s
        if event.error is None:
            ready.append(event)
        else:
            self._fail(event, event.error, report)
            compilers.release(event)

    def _choose(self, ready: list[_Task], more: bool) -> _Task | None:
        """The next task to visit, at random among those not visited just now; None to wait for more."""
        now = time.monotonic()
        rested = [task for task in ready if task.rested_at <= now]
        if rested:
            return self._random.choice(rested)
        return None if more or not ready else min(ready, key=lambda task: task.rested_at)

    def _count(self, measurer: _Measurer, ready: list[_Task], compilers: _Compilers, report: CampaignReport) -> None:
        """Counts visits that the device was fast at; they are stored already."""
        for task, visit in measurer.uncounted:
            planned = len(task.minima_ns) < self.protocol.visits
            task.minima_ns.append(visit.minimum_ns)
            task.timed_cold |= bool(visit.cold_ns)
            task.rested_at = time.monotonic() + _REST_S
            report.visits += 1
            self.progress(int(planned))
            if self.protocol.visits_left(task.minima_ns) == 0:
                report.complete += 1
                compilers.release(task)
            else:
                ready.append(task)
        measurer.uncounted.clear()

    def _fail(self, task: _Task, reason: str, report: CampaignReport) -> None:
        logger.info("%s failed: %s", task.blocks, reason)
        self.store.add_failure(self.device.name, task.blocks, reason)
        report.failed[task.blocks] = reason
        self.progress(self.protocol.visits_left(task.minima_ns))


def _is_slow(sentinel_ns: int, others_ns: Sequence[int]) -> bool:
    """Whether the sentinel took longer than its other visits, ascending, allow for."""
    # Not the very fastest of them: one lucky visit would make all others slow.
    return bool(others_ns) and sentinel_ns > _SLOW * others_ns[int(_FAST_SHARE * len(others_ns))]


class _Measurer:
    """One session, served by a thread of its own.

    Attributes:
        tasks: what it was given and has not answered yet.
        sentinel_due: when it is to visit the sentinel next, monotonic seconds.
        fast_ns: what the sentinel took while the device was fast, nanoseconds, ascending.
        slow_since: since when the device is slow, monotonic seconds; None while it is not.
        uncounted: visits since the sentinel's last one, which will tell whether they count.
    """

    def __init__(
        self, session: Session, protocol: Protocol, machine: AbstractContextManager[Any], arrived: _Arrived
    ) -> None:
        self.tasks: list[_Task] = []
        self.sentinel_due = 0.0
        self.fast_ns: list[int] = []
        self.slow_since: float | None = None
        self._slow_before_s = self._core_waited_s = 0.0
        self.uncounted: list[tuple[_Task, Visit]] = []
        self.session = session
        self.measuring_s = 0.0
        self.ended: float | None = None
        self._protocol = protocol
        self._machine = machine
        self._arrived = arrived
        self._given: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def give(self, task: _Task) -> None:
        """Has a task visited; the outcome arrives in the campaign's queue."""
        self.tasks.append(task)
        self._given.put(task)

    def account(self, visit: Visit) -> None:
        """Notes how long a visit waited for its core."""
        if self.slow_since is None:  # else it is part of that
            self._core_waited_s += visit.waited_s

    def was_fast(self, sentinel_ns: int) -> bool:
        """Whether the device was fast since the sentinel's visit before, now that it took so long."""
        was_slow = self.slow_since is not None
        if _is_slow(sentinel_ns, self.fast_ns):
            if self._slow_s <= self.measuring_s + _PATIENCE_S:
                if self.slow_since is None:
                    self.slow_since = time.monotonic()
                return False
            self.fast_ns.clear()  # from now on it is like that
        insort(self.fast_ns, sentinel_ns)
        self._slow_before_s, self.slow_since = self._slow_s, None
        return not was_slow

    @property
    def waited_s(self) -> float:
        """How long it waited for the device or its core to be fast, seconds."""
        return self._core_waited_s + self._slow_s

    @property
    def _slow_s(self) -> float:
        since = self.slow_since
        return self._slow_before_s + (0.0 if since is None else (self.ended or time.monotonic()) - since)

    def _work(self) -> None:
        while (task := self._given.get()) is not None and not self._closing.is_set():
            try:
                with self._machine:
                    outcome = self._visit(task)
            except BaseException as error:  # noqa: BLE001  # raised again by the thread that waits
                self._arrived.put(error)
                return
            self._arrived.put(_Visited(self, task, outcome))
            if isinstance(outcome, HostError):
                return

    def _visit(self, task: _Task) -> Visit | DeviceError:
        began, transferred_s = time.monotonic(), self.session.transfer_s
        protocol = self._protocol
        if self.waited_s > _CORE_PATIENCE * self.measuring_s + _PATIENCE_S:
            protocol = replace(protocol, patience_s=0.0)
        if not task.timed_cold:
            protocol = replace(protocol, cold_invocations=_COLD_INVOCATIONS)
        waited_s = 0.0
        try:
            visit = self.session.visit(task.artifact, protocol)
            waited_s = visit.waited_s
            return visit
        except DeviceError as error:
            return error
        finally:
            if self.slow_since is None:  # else it is part of waiting
                self.measuring_s += time.monotonic() - began - waited_s - (self.session.transfer_s - transferred_s)

    def close(self) -> None:
        """Lets a running visit end if it ends soon, then ends the session."""
        if self.ended is None:
            self._closing.set()
            self._given.put(None)
            self._thread.join(_LAST_VISIT_S)
            self.ended = time.monotonic()
            self.session.close()


@dataclass(frozen=True)
class _Visited:
    """A visit that ended one way or the other."""

    measurer: _Measurer
    task: _Task
    outcome: Visit | DeviceError


#: What a campaign waits for: tasks that were compiled, or could not be; visits; errors that end the campaign.
_Arrived = queue.SimpleQueue[_Task | _Visited | BaseException]


class _Measurers:
    """The sessions of a campaign.

    Attributes:
        alive: those that were not lost.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        protocol: Protocol,
        machine: AbstractContextManager[Any],
        arrived: _Arrived,
    ) -> None:
        self._began = time.monotonic()
        self._all = [_Measurer(session, protocol, machine, arrived) for session in sessions]
        self.alive = list(self._all)

    def lose(self, measurer: _Measurer, error: HostError, report: CampaignReport) -> None:
        """Goes on without a session; raises HostError if it was the last."""
        report.lost.append(str(error))
        logger.warning("%s", error)
        self.alive.remove(measurer)
        measurer.close()
        if not self.alive:
            raise HostError(
                f"{'; '.join(report.lost)}; no host is left: what was measured is stored, run again to continue"
            )

    def account(self, report: CampaignReport) -> None:
        """Adds up where the time of the sessions went."""
        for measurer in self._all:
            spent = (measurer.ended or time.monotonic()) - self._began
            report.measuring_s += measurer.measuring_s
            report.transfer_s += measurer.session.transfer_s
            report.waited_s += measurer.waited_s
            used = measurer.measuring_s + measurer.session.transfer_s + measurer.waited_s
            report.idle_s += max(0.0, spent - used)

    def close(self) -> None:
        """Ends all sessions."""
        for measurer in self._all:
            measurer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Compilers:
    """Compiles tasks on threads, each with a process of its own, a bounded number ahead of the measuring."""

    def __init__(
        self,
        device: Device,
        cores: Sequence[int],
        log: Path,
        machine: AbstractContextManager[Any],
        arrived: _Arrived,
    ) -> None:
        self._machine = machine
        self._arrived = arrived
        self._processes = [CompileProcess(device, cores, log) for _ in range(max(1, len(cores)))]
        self._threads: list[threading.Thread] = []
        self._waiting: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._places = threading.Semaphore(_WINDOW)
        self._closing = threading.Event()
        #: Tasks that have not arrived yet; the campaign counts them down.
        self.pending = 0

    def compile_now(self, task: _Task) -> None:
        """Compiles one task and waits for it; raises DeviceError where it fails."""
        self._compile(self._processes[0], task)

    def start(self, tasks: Iterable[_Task]) -> None:
        """Starts compiling these tasks in order."""
        for task in tasks:
            self._waiting.put(task)
            self.pending += 1
        for process in self._processes:
            thread = threading.Thread(target=self._work, args=(process,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _work(self, process: CompileProcess) -> None:
        while True:
            self._places.acquire()
            try:
                task = self._waiting.get_nowait()
            except queue.Empty:
                return
            if self._closing.is_set():
                return
            try:
                with self._machine:
                    self._compile(process, task)
            except DeviceError as error:
                task.error = str(error)
            except BaseException as error:  # noqa: BLE001  # raised again by the thread that waits
                self._arrived.put(error)
                return
            self._arrived.put(task)

    def _compile(self, process: CompileProcess, task: _Task) -> None:
        began = time.monotonic()
        try:
            process.compile(task.blocks, task.artifact)
        finally:
            task.compiling_s = time.monotonic() - began

    def release(self, task: _Task) -> None:
        """Says that a task is settled: its artifact goes, and another one may be compiled."""
        task.artifact.unlink(missing_ok=True)
        self._places.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        for process in self._processes:
            process.close()


@contextmanager
def _work_folder(store: Path) -> Iterator[Path]:
    """A folder beside the store for artifacts; also the lock that keeps a second campaign out."""
    folder = store.with_name(store.name + ".work")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StoreError(f"cannot make the work folder {folder}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StoreError(f"another campaign is running on {store}; wait for it to end") from None
    try:
        for left in folder.iterdir():  # by a campaign that was killed
            left.unlink()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
