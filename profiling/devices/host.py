"""What the runtimes on this machine's own CPU have in common."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from blsm.domains import Domain, Integers, Value
from blsm.profiles import Chain, Fingerprint
from blsm.profiling import machine
from blsm.profiling.devices.base import Device, Session
from blsm.profiling.timer import WorkerSession, worker_command


class HostDevice(Device):
    """A runtime on this machine's CPU, timed in a worker process.

    Its option `threads` says how many threads the runtime uses; 0 stands for all cores that this process may use.

    Attributes:
        runner: name of the worker's runner.
        runtime: the package that runs artifacts.
        compilers: the packages that make artifacts.
        precision: of the arithmetic.
    """

    runner: ClassVar[str]
    runtime: ClassVar[str]
    compilers: ClassVar[tuple[str, ...]] = ("tensorflow",)
    precision: ClassVar[str] = "float32"
    options: ClassVar[Mapping[str, Domain]] = {"threads": Integers(0, 256)}
    defaults: ClassVar[Mapping[str, Value]] = {"threads": 0}

    @property
    def threads(self) -> int:
        """How many threads the runtime uses here."""
        return int(self.settings["threads"]) or len(machine.available_cores())

    @property
    def exclusive(self) -> bool:
        return self.threads > 1

    @property
    def remote_runner(self) -> tuple[str, Mapping[str, Value]]:
        return self.runner, self.settings

    def missing(self) -> str | None:
        packages = dict.fromkeys((self.runtime, *self.compilers))
        lacking = [name for name in packages if importlib.util.find_spec(name.replace("-", "_")) is None]
        return f"pip install {' '.join(lacking)}" if lacking else None

    def fingerprint(self) -> Fingerprint:
        identity: dict[str, str | int] = {
            "cpu": machine.cpu_name(),
            "architecture": platform.machine(),
            "governor": machine.governor(),
            "runtime": f"{self.runtime} {version(self.runtime)}",
            "compiler": ", ".join(f"{name} {version(name)}" for name in self.compilers),
            "precision": self.precision,
            "threads": self.threads,
        }
        notes: dict[str, str | int] = {
            "kernel": platform.release(),
            "python": platform.python_version(),
            "cores": len(machine.available_cores()),
        }
        return Fingerprint(identity, notes)

    def compile_blocks(self, blocks: Chain, artifact: Path) -> None:
        self.compile(blocks, artifact)  # freezing takes a chain as well as a Keras model

    def open(self, core: int | None = None) -> Session:
        return WorkerSession(worker_command(self.runner, self.settings, None if self.exclusive else core))
