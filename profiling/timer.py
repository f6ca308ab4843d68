"""A measuring session in a process of its own, that is killed and replaced when a block crashes or hangs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from blsm.errors import DeviceError
from blsm.profiles import Visit
from blsm.profiling import worker
from blsm.profiling.devices.base import Protocol, Session


def worker_command(runner: str, options: Mapping[str, Any], core: int | None) -> list[str]:
    """The command that starts a worker on this machine.

    Args:
        runner: name of the worker's runner, e.g. `litert`.
        options: its arguments.
        core: CPU core that the worker runs on; any if None.
    """
    return worker.worker_command(worker.__file__, runner, options, core)


def visit_settings(protocol: Protocol) -> dict[str, Any]:
    """What a worker has to know of the protocol."""
    settings = asdict(protocol)
    keys = ("invocations", "min_visit_s", "max_visit_s", "min_invocations", "warmup", "patience_s", "cold_invocations")
    return {key: settings[key] for key in keys}


def visit_of(answer: Mapping[str, Any]) -> Visit:
    """The visit that a worker answers with; raises DeviceError where the runtime refused the artifact."""
    if "error" in answer:
        raise DeviceError(f"the runtime refused it: {answer['error']}")
    visit = Visit.from_samples(answer["samples_ns"], answer["started_s"], answer["cold_ns"])
    return replace(visit, waited_s=answer["waited_s"], disturbed=answer["disturbed"])


class WorkerSession(Session):
    """Times artifacts in a worker process.

    Args:
        command: starts the worker, see `worker_command`.
        memory_bytes: an artifact that takes more fails; most of what is free now, if None.
    """

    def __init__(self, command: Sequence[str], memory_bytes: int | None = None) -> None:
        self._worker = worker.Worker(command, memory_bytes)

    def visit(self, artifact: Path, protocol: Protocol) -> Visit:
        try:
            answer = self._worker.ask({"artifact": str(artifact), **visit_settings(protocol)}, protocol.timeout_s)
        except worker.WorkerError as error:
            raise DeviceError(str(error)) from None
        return visit_of(answer)

    def close(self) -> None:
        self._worker.close()
