"""Arm Ethos-U NPUs through the Vela compiler, whose cycle model is the measurement: no board is needed."""

from __future__ import annotations

import csv
import importlib.util
import json
import logging
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

from blsm.domains import Choice, Domain, Value
from blsm.errors import DeviceError, DomainError
from blsm.profiles import Chain, Fingerprint, Visit
from blsm.profiling.devices.base import Device, Protocol, Session
from blsm.profiling.devices.litert import convert_int8
from blsm.profiling.devices.screen import off_the_screen

logger = logging.getLogger(__name__)

#: Vela's accelerators; the number is multiply-accumulates per cycle.
_ACCELERATORS = (
    *(f"ethos-u55-{macs}" for macs in (32, 64, 128, 256)),
    *(f"ethos-u65-{macs}" for macs in (256, 512)),
    *(f"ethos-u85-{macs}" for macs in (128, 256, 512, 1024, 2048)),
)
#: The systems that Vela describes (clock, memories, their bandwidths and latencies) -> whether they have a DRAM.
_SYSTEMS = {
    "Ethos_U55_Deep_Embedded": False,
    "Ethos_U55_High_End_Embedded": False,
    "Ethos_U65_Embedded": False,
    "Ethos_U65_Mid_End": True,
    "Ethos_U65_High_End": True,
    "Ethos_U65_Client_Server": True,
    "Ethos_U85_SYS_Flash_Low": False,
    "Ethos_U85_SYS_Flash_High": False,
    "Ethos_U85_SYS_DRAM_Low": True,
    "Ethos_U85_SYS_DRAM_Mid": True,
    "Ethos_U85_SYS_DRAM_High": True,
}
#: Where Vela puts weights and tensors.
_MEMORIES = (
    *("Sram_Only", "Shared_Sram", "Dedicated_Sram"),
    *("Dedicated_Sram_256KB", "Dedicated_Sram_384KB", "Dedicated_Sram_512KB"),
)
#: Generation -> the system and memory that Vela itself takes where none is named.
_DEFAULTS = {
    "Ethos_U55": ("Ethos_U55_High_End_Embedded", "Shared_Sram"),
    "Ethos_U65": ("Ethos_U65_Client_Server", "Dedicated_Sram_384KB"),
    "Ethos_U85": ("Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB"),
}


class Asic(Device):
    """An Arm Ethos-U NPU, int8, as Vela's cycle model sees it: an estimate, not a board.

    The machine that runs Vela does not matter. Operators that the NPU can't run would fall back to a CPU that the model
    knows nothing about. Such a block is refused; with `cpu_fallback=uncounted` it gets the latency of its NPU part, and
    name and fingerprint say so.
    """

    key: ClassVar[str] = "asic"
    summary: ClassVar[str] = "Arm Ethos-U NPU, int8, by the cycle model of the Vela compiler"
    suffix: ClassVar[str] = ".json"
    options: ClassVar[Mapping[str, Domain]] = {
        "accelerator": Choice(*_ACCELERATORS),
        "system": Choice("default", *_SYSTEMS),
        "memory": Choice("default", *_MEMORIES),
        "cpu_fallback": Choice("refused", "uncounted"),
    }
    defaults: ClassVar[Mapping[str, Value]] = {
        "accelerator": "ethos-u65-512",
        "system": "default",
        "memory": "default",
        "cpu_fallback": "refused",
    }

    def __init__(self, **chosen: object) -> None:
        super().__init__(**chosen)
        self.accelerator = str(self.settings["accelerator"])
        generation = self.accelerator.rpartition("-")[0].replace("-", "_").capitalize().replace("_u", "_U")
        system, memory = (str(self.settings[name]) for name in ("system", "memory"))
        self.system = _DEFAULTS[generation][0] if system == "default" else system
        self.memory = _DEFAULTS[generation][1] if memory == "default" else memory
        if not self.system.startswith(generation):
            fitting = ", ".join(name for name in _SYSTEMS if name.startswith(generation))
            raise DomainError(f"device asic: the systems of {self.accelerator} are {fitting}, got {self.system!r}")
        if self.memory.startswith("Dedicated") and not _SYSTEMS[self.system]:
            raise DomainError(
                f"device asic: memory {self.memory} needs a system with a DRAM, and {self.system} has none; "
                f"choose memory=Shared_Sram or another system"
            )

    @property
    def deterministic(self) -> bool:
        return True

    def missing(self) -> str | None:
        packages = {"ethosu": "ethos-u-vela", "tensorflow": "tensorflow", "ai_edge_litert": "ai-edge-litert"}
        lacking = [package for module, package in packages.items() if importlib.util.find_spec(module) is None]
        return f"pip install {' '.join(lacking)}" if lacking else None

    def fingerprint(self) -> Fingerprint:
        return Fingerprint(
            {
                "accelerator": self.accelerator,
                "system": self.system,
                "memory": self.memory,
                "cpu_fallback": str(self.settings["cpu_fallback"]),
                "runtime": f"cycle model of ethos-u-vela {version('ethos-u-vela')}",
                "compiler": f"tensorflow {version('tensorflow')}",
                "precision": "int8",
            }
        )

    def compile_blocks(self, blocks: Chain, artifact: Path) -> None:
        self.compile(blocks, artifact)  # freezing takes a chain as well as a Keras model

    def compile(self, model: Any, artifact: Path) -> None:
        """Writes what Vela computes for the quantised model, as JSON.

        `latency_ns` is `cycles` / `clock_hz`; `operators` says where each runs; `uncounted` names those that run on
        the CPU, and `counters` has cycles and bytes of each memory.

        Raises:
            DeviceError: it can't be quantised, Vela refuses it, or operators of it fall back to the CPU.
        """
        with tempfile.TemporaryDirectory() as folder:
            network = Path(folder) / "network.tflite"
            network.write_bytes(convert_int8(model))
            self._run_vela(network)
            estimate = _estimate(*_read_tables(Path(folder)))
        if uncounted := estimate["uncounted"]:
            names = ", ".join(dict.fromkeys(uncounted))
            if self.settings["cpu_fallback"] == "refused":
                raise DeviceError(
                    f"{names} would fall back to the CPU, whose time Vela does not model; leave such operators out, "
                    f"or measure the NPU part alone with cpu_fallback=uncounted"
                )
            logger.warning("%s: the time of %s on the CPU is not counted", self.name, names)
        if estimate["cycles"] == 0:
            raise DeviceError(f"nothing of it runs on {self.accelerator}")
        artifact.write_text(json.dumps({**self.fingerprint().identity, **estimate}, indent=1))

    def _run_vela(self, network: Path) -> None:
        """Lets Vela write its tables beside the network."""
        from ethosu.vela import vela

        arguments = [str(network), "--output-dir", str(network.parent), "--verbose-performance"]
        arguments += ["--accelerator-config", self.accelerator, "--config", "Arm/vela.ini"]
        arguments += ["--system-config", self.system, "--memory-mode", self.memory]
        limit = sys.getrecursionlimit()
        try:
            with off_the_screen():
                status = vela.main(arguments)
        except (Exception, SystemExit) as error:  # it raises many kinds, and ends the process over its arguments
            raise DeviceError(f"Vela refused it: {type(error).__name__}: {error}") from error
        finally:
            sys.setrecursionlimit(limit)  # Vela sets its own
        if status:
            raise DeviceError(f"Vela refused it with status {status}")

    def open(self, core: int | None = None) -> Session:
        return _CycleModelSession()


class _CycleModelSession(Session):
    """Reads artifacts: every invocation takes what Vela computed."""

    def visit(self, artifact: Path, protocol: Protocol) -> Visit:
        try:
            latency_ns = int(json.loads(artifact.read_text())["latency_ns"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DeviceError(f"{artifact} is no estimate of Vela: {type(error).__name__}: {error}") from None
        return Visit.from_samples([latency_ns] * protocol.invocations)


def _read_tables(folder: Path) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Vela's summary, and its table of operators, column -> text each."""
    try:
        (summary_file,) = folder.glob("*_summary_*.csv")
        (operators_file,) = folder.glob("*_per-layer.csv")
        with summary_file.open(newline="") as lines:
            (summary,) = csv.DictReader(lines)
        columns, *rows = operators_file.read_text().splitlines()
    except ValueError as error:
        raise DeviceError("Vela did not write its tables; is this version of ethos-u-vela supported?") from error
    names = columns.split(",")
    # Vela does not quote: a comma in the name of a layer, the last column, is no separator.
    return summary, [dict(zip(names, row.split(",", len(names) - 1), strict=True)) for row in rows]


def _estimate(summary: Mapping[str, str], rows: list[dict[str, str]]) -> dict[str, Any]:
    """What an artifact says beside the fingerprint."""
    try:
        cycles, clock_hz = int(summary["cycles_total"]), round(float(summary["core_clock"]))
        operators = [
            {
                "operator": row["Original Operator"],
                "runs_as": row["NNG Operator"],
                "on": row["Target"],
                "cycles": int(row["Op Cycles"]),
                "layer": row["Name"],
            }
            for row in rows
        ]
        counters = {
            name: round(float(text))
            for name, text in summary.items()
            if name.startswith("cycles_") or name.endswith("_bytes") or name == "nn_macs"
        }
    except (KeyError, ValueError) as error:
        raise DeviceError(f"Vela's tables lack {error}; is this version of ethos-u-vela supported?") from error
    return {
        "cycles": cycles,
        "clock_hz": clock_hz,
        "latency_ns": round(1e9 * cycles / clock_hz),
        "uncounted": [operator["operator"] for operator in operators if operator["on"] != "NPU"],
        "operators": operators,
        "counters": counters,
    }
