"""A measuring session in a process of its own, that is killed and replaced when a block crashes or hangs it."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from blsm.profiling import worker
from blsm.profiling.devices.base import Protocol, Session

from blsm.errors import DeviceError
from blsm.profiles import Visit


def worker_command(runner: str, options: Mapping[str, Any], core: int | None) -> list[str]:
    """The command that starts a worker on this machine.

    Args:
        runner: name of the worker's runner, e.g. `litert`.
        options: its arguments.
        core: CPU core that the worker runs on; any if None.
    """
    command = [sys.executable, worker.__file__, runner, "--options", json.dumps(dict(options))]
    return command if core is None else [*command, "--core", str(core)]


class WorkerSession(Session):
    """Times artifacts in a worker process.

    Args:
        command: starts the worker, see `worker_command`.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the session
        self._process: subprocess.Popen[bytes] | None = None

    def visit(self, artifact: Path, protocol: Protocol) -> Visit:
        settings = asdict(protocol)
        keys = ("invocations", "max_visit_s", "min_invocations", "warmup")
        answer = self._ask({"artifact": str(artifact), **{key: settings[key] for key in keys}}, protocol.timeout_s)
        if "error" in answer:
            raise DeviceError(f"the runtime refused it: {answer['error']}")
        return Visit.from_samples(answer["samples_ns"], answer["started_s"])

    def _ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            with selectors.DefaultSelector() as selector:
                selector.register(process.stdout, selectors.EVENT_READ)
                if not selector.select(timeout_s):
                    self._stop()
                    raise DeviceError(f"it did not end within {timeout_s:g} s")
            line = process.stdout.readline()
            return dict(json.loads(line))
        except (BrokenPipeError, json.JSONDecodeError):
            code = self._stop()
            raise DeviceError(f"the measuring process died with status {code}{self._last_words()}") from None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
            )
        return self._process

    def _stop(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin is not None
        assert process.stdout is not None
        # A process that died by itself tells its status; it needs a moment to be reaped.
        try:
            code = process.wait(0.2)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        process.stdin.close()
        process.stdout.close()
        return code

    def _last_words(self) -> str:
        """Last line that the process wrote to its standard error."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1].strip()}" if lines else ""

    def close(self) -> None:
        self._stop()
        self._log.close()
