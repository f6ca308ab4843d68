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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from blsm.profiling import machine
from blsm.profiling.compiler import CompileProcess
from blsm.profiling.devices.base import Device, Protocol, Session

from blsm.blocks import block_family
from blsm.errors import DeviceError, StoreError
from blsm.profiles import Chain, Profile, ProfileStore

logger = logging.getLogger(__name__)

#: A block of middling size that is visited over and over: its latency changes only if the device itself does.
SENTINEL: Chain = (
    block_family("mbconv").config(
        height=16, width=16, in_channels=32, filters=32, kernel_size=3, strides=1, expand_ratio=4
    ),
)
_SENTINEL_INTERVAL_S = 20.0
#: Chains compiled ahead and not yet finished: it spreads the visits of a chain over minutes, and bounds disk use.
_WINDOW = 512
#: Visits of other chains between two visits of one: a quarter of a minute or more. A machine has slow spells, and small
#: blocks a slow mode that lasts for seconds; visits closer together would all fall into the same.
_GAP = 300
#: How often to look at the clock while nothing is compiled yet.
_POLL_S = 0.5


@dataclass
class CampaignReport:
    """How a campaign went.

    Attributes:
        asked: chains that were asked for.
        complete: those that have all their visits now, earlier runs included.
        failed: chain -> reason, of those that can't be compiled or run.
        visits: visits made in this run.
        measuring_s: time in visits, seconds.
        waiting_s: time that the device idled because nothing was compiled yet, seconds.
        total_s: time of this run, seconds.
        stopped: why it ended early: `budget` or `interrupted`; None if it did not.
    """

    asked: int
    complete: int = 0
    failed: dict[Chain, str] = field(default_factory=dict)
    visits: int = 0
    measuring_s: float = 0.0
    waiting_s: float = 0.0
    total_s: float = 0.0
    stopped: str | None = None


@dataclass(eq=False)
class _Task:
    """A chain on its way through the campaign."""

    blocks: Chain
    artifact: Path
    minima_ns: list[int] = field(default_factory=list)
    last_visit: int = -_GAP
    error: str | None = None


class Campaign:
    """Profiles chains on a device into a store.

    Chains are compiled on the other cores while one core measures. Each visit is stored at once; chains that the store
    holds already are not measured again.

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
            FingerprintError: the store's profiles of this device are another machine's.
            DeviceError: the device is not usable here.
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
        tasks = []
        for number, blocks in enumerate(chains):
            profile = known.get(blocks)
            if profile is not None and profile.failure is not None:
                report.failed[blocks] = profile.failure
            elif self._visits_left(profile):
                minima_ns = [visit.minimum_ns for visit in profile.visits] if profile else []
                tasks.append(_Task(blocks, folder / f"{number}{self.device.suffix}", minima_ns))
        report.complete = len(chains) - len(tasks) - len(report.failed)
        return tasks

    def _run(self, tasks: list[_Task], folder: Path, report: CampaignReport, deadline: float) -> None:
        core, others = machine.split_cores()
        compilers = _Compilers(self.device, others, folder / "compiler.log", self._machine)
        sentinel = _Task(SENTINEL, folder / f"sentinel{self.device.suffix}")
        sentinel_due = 0.0
        ready: list[_Task] = []
        with compilers, self.device.open(core) as session:
            compilers.compile_now(sentinel)
            compilers.start(tasks)
            while ready or compilers.pending:
                now = time.monotonic()
                if now > deadline:
                    report.stopped = "budget"
                    return
                if now >= sentinel_due:
                    with self._machine:
                        visit = session.visit(sentinel.artifact, self.protocol)
                    self.store.add_sentinel_visit(self.device.name, visit)
                    sentinel_due = now + _SENTINEL_INTERVAL_S
                task = self._choose(ready, report.visits, bool(compilers.pending))
                if task is not None and self._visit(session, task, report):
                    ready.remove(task)
                    compilers.release(task)
                before = time.monotonic()
                compiled = compilers.wait(_POLL_S if task is None else 0)
                report.waiting_s += time.monotonic() - before
                if compiled is None:
                    continue
                if compiled.error is None:
                    ready.append(compiled)
                else:
                    self._fail(compiled, compiled.error, report)
                    compilers.release(compiled)

    def _choose(self, ready: list[_Task], now: int, more: bool) -> _Task | None:
        """The next task to visit, at random among those not visited just now; None to wait for more."""
        rested = [task for task in ready if now - task.last_visit >= _GAP]
        if rested:
            return self._random.choice(rested)
        return None if more or not ready else min(ready, key=lambda task: task.last_visit)

    def _visit(self, session: Session, task: _Task, report: CampaignReport) -> bool:
        """Visits a task; returns whether it is settled, by its last visit or by failing."""
        before = time.monotonic()
        try:
            with self._machine:
                visit = session.visit(task.artifact, self.protocol)
        except DeviceError as error:
            self._fail(task, str(error), report)
            return True
        finally:
            report.measuring_s += time.monotonic() - before
        self.store.add_visit(self.device.name, task.blocks, visit)
        planned = len(task.minima_ns) < self.protocol.visits
        task.minima_ns.append(visit.minimum_ns)
        task.last_visit = report.visits
        report.visits += 1
        self.progress(int(planned))
        settled = self.protocol.visits_left(task.minima_ns) == 0
        report.complete += settled
        return settled

    def _fail(self, task: _Task, reason: str, report: CampaignReport) -> None:
        logger.info("%s failed: %s", task.blocks, reason)
        self.store.add_failure(self.device.name, task.blocks, reason)
        report.failed[task.blocks] = reason
        self.progress(self.protocol.visits_left(task.minima_ns))


class _Compilers:
    """Compiles tasks on threads, each with a process of its own, a bounded number ahead of the measuring."""

    def __init__(self, device: Device, cores: Sequence[int], log: Path, machine: AbstractContextManager[Any]) -> None:
        self._machine = machine
        self._processes = [CompileProcess(device, cores, log) for _ in range(max(1, len(cores)))]
        self._threads: list[threading.Thread] = []
        self._waiting: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._arrived: queue.SimpleQueue[_Task | BaseException] = queue.SimpleQueue()
        self._places = threading.Semaphore(_WINDOW)
        self._closing = threading.Event()
        #: Tasks that have not arrived yet.
        self.pending = 0

    def compile_now(self, task: _Task) -> None:
        """Compiles one task and waits for it; raises DeviceError where it fails."""
        self._processes[0].compile(task.blocks, task.artifact)

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
                    process.compile(task.blocks, task.artifact)
            except DeviceError as error:
                task.error = str(error)
            except BaseException as error:  # noqa: BLE001  # raised again by the thread that waits
                self._arrived.put(error)
                return
            self._arrived.put(task)

    def wait(self, seconds: float) -> _Task | None:
        """The next compiled task, or failed one (its `error` says why); None if there is none in that time."""
        try:
            arrived = self._arrived.get(timeout=seconds) if seconds else self._arrived.get_nowait()
        except queue.Empty:
            return None
        if isinstance(arrived, BaseException):
            raise arrived
        self.pending -= 1
        return arrived

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
