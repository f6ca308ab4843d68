"""Compiling in processes of their own, away from the measuring core; a crash or hang costs one block only."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

from blsm.errors import BlsmError, DeviceError, StoreError
from blsm.profiles import Chain
from blsm.profiling import machine
from blsm.profiling.devices.base import Device

#: What Keras models leave behind piles up inside TensorFlow: a fresh process now and then keeps memory flat. (keras'
#: clear_session after each chain would do the same, but takes longer than compiling.)
_CHAINS_PER_PROCESS = 2000
#: How often to look at the memory of a running process, seconds.
_WATCH_S = 0.2

_Process: TypeAlias = multiprocessing.process.BaseProcess
_Pipe: TypeAlias = "Connection[tuple[Chain, Path], BlsmError | None]"


class CompileProcess:
    """Compiles chains one after the other in a child process.

    Args:
        device: compiles there.
        cores: CPU cores that the child may use.
        log: file for what the compiler prints.
        timeout_s: a chain that takes longer counts as hung.
        memory_bytes: a chain that takes more fails; most of what is free now, if None.
    """

    def __init__(
        self,
        device: Device,
        cores: Sequence[int],
        log: Path,
        timeout_s: float = 300.0,
        memory_bytes: int | None = None,
    ) -> None:
        self._device = device
        self._cores = cores
        self._log = log
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes or machine.memory_limit()
        self._child: tuple[_Process, _Pipe] | None = None
        self._done = 0

    def compile(self, blocks: Chain, artifact: Path) -> None:
        """Writes the artifact of a chain.

        Raises:
            DeviceError: it can't be compiled; the message says why.
            StoreError: the artifact can't be written.
        """
        outcome = self._ask(blocks, artifact)
        if isinstance(outcome, int):  # killed from outside, perhaps: only a chain that kills twice is at fault
            outcome = self._ask(blocks, artifact)
        if isinstance(outcome, int):
            raise DeviceError(f"the compiler died with status {outcome}, twice")
        if outcome is not None:
            raise outcome

    def _ask(self, blocks: Chain, artifact: Path) -> BlsmError | int | None:
        """What the child answers; the status of a child that died."""
        if self._done >= _CHAINS_PER_PROCESS:
            self.close()
        process, connection = self._running()
        self._done += 1
        try:
            connection.send((blocks, artifact))
            self._wait(process, connection)
            return connection.recv()
        except (EOFError, OSError):
            process.join(1)
            code = process.exitcode or 0
            self.close()
            return code

    def _wait(self, process: _Process, connection: _Pipe) -> None:
        """Until the child answers or dies; raises DeviceError where it takes too long or too much memory."""
        waited_s, watch_s = 0.0, min(self._timeout_s, _WATCH_S)
        while not connection.poll(watch_s):
            # Not by the clock, which goes on while all processes are stopped, by Ctrl-Z say.
            waited_s += watch_s
            reason = machine.exhausted(process.pid or 0, self._memory_bytes)
            if waited_s >= self._timeout_s:
                reason = f"compiling did not end within {self._timeout_s:g} s"
            if reason:
                self.close()
                raise DeviceError(reason)

    def _running(self) -> tuple[_Process, _Pipe]:
        if self._child is None:
            context = multiprocessing.get_context("spawn")
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve, args=(self._device, theirs, list(self._cores), self._log), daemon=True
            )
            process.start()
            theirs.close()
            self._child, self._done = (process, ours), 0
        return self._child

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            process, connection = self._child
            self._child = None
            process.kill()
            process.join()
            connection.close()


def _serve(device: Device, connection: Connection[object, tuple[Chain, Path]], cores: list[int], log: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, cores)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    while True:
        try:
            blocks, artifact = connection.recv()
        except (EOFError, OSError):  # the parent is gone
            return
        connection.send(_compile(device, blocks, artifact))


def _compile(device: Device, blocks: Chain, artifact: Path) -> BlsmError | None:
    """Compiles; returns what went wrong, None if nothing did."""
    try:
        device.compile_blocks(blocks, artifact)
    except BlsmError as error:
        return error
    except OSError as error:  # not the chain's fault: it must not count as its failure
        return StoreError(f"cannot write {artifact}: {error.strerror}; free some space and run again")
    except Exception as error:  # noqa: BLE001  # whatever Keras raises for an odd block of a user's own family
        return DeviceError(f"{type(error).__name__}: {error}")
    return None
