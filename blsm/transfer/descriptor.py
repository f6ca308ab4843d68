"""Hardware descriptors (Abbasi et al. 2022): what primitive operations take on a device, in time and counters."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from blsm._types import Array
from blsm.blocks import block_family
from blsm.errors import DeviceError, FileError
from blsm.files import write_atomically
from blsm.profiles import Chain, Fingerprint
from blsm.profiling import Device, Protocol, Session, machine
from blsm.profiling.devices.asic import Asic
from blsm.profiling.devices.host import HostDevice
from blsm.transfer.perf_counters import HARDWARE_COUNTERS, SOFTWARE_COUNTERS, PerfCounters, counts_between

FORMAT = "blsm hardware descriptor"
SCHEMA = 1
#: Counts are differences of a visit of few invocations and one of many: what loading an artifact counts is in both.
_FEW = 5
#: The long visit takes about so long, seconds, and has at least and at most so many invocations.
_COUNTED_S = 0.2
_LEAST_MANY, _MOST_MANY = 20, 50_000


def _primitives() -> dict[str, Chain]:
    size = {"height": 16, "width": 16, "in_channels": 32}
    settings: dict[str, tuple[str, dict[str, object]]] = {
        "conv_1x1": ("conv", {"filters": 32, "kernel_size": 1, "strides": 1, "activation": "relu6"}),
        "conv_3x3": ("conv", {"filters": 32, "kernel_size": 3, "strides": 1, "activation": "relu6"}),
        "mbconv_3x3": ("mbconv", {"filters": 32, "kernel_size": 3, "strides": 1, "expand_ratio": 6}),
        "mbconv_5x5": ("mbconv", {"filters": 32, "kernel_size": 5, "strides": 1, "expand_ratio": 6}),
        "res_v1": ("res_v1", {"filters": 32, "kernel_size": 3, "strides": 1}),
        "res_v2": ("res_v2", {"filters": 32, "kernel_size": 3, "strides": 1}),
        "head": ("head", {"units": 100}),
    }
    return {name: (block_family(family).config(**size, **values),) for name, (family, values) in settings.items()}


#: Primitive operation -> the blocks that run it, of inputs 16 x 16 x 32.
PRIMITIVES: Mapping[str, Chain] = _primitives()


@dataclass(frozen=True)
class OperationRecord:
    """One operation on one device.

    Attributes:
        latency_ms: of an invocation.
        counters: counter -> count of an invocation; None where it is not available, never 0 for that.
    """

    latency_ms: float
    counters: Mapping[str, float | None]


@dataclass(frozen=True)
class Descriptor:
    """What primitive operations take on a device.

    Attributes:
        device: its name.
        fingerprint: of machine and software.
        operations: operation -> record; all records have the same counters.
        missing: counter -> why the device has none.
    """

    device: str
    fingerprint: Fingerprint
    operations: Mapping[str, OperationRecord]
    missing: Mapping[str, str]

    @property
    def counters(self) -> tuple[str, ...]:
        """Names of the counters, available or not."""
        return tuple(dict.fromkeys(name for record in self.operations.values() for name in record.counters))

    def to_json(self) -> dict[str, Any]:
        """The descriptor as JSON data; a missing counter is null."""
        operations = {
            name: {"latency_ms": record.latency_ms, "counters": dict(record.counters)}
            for name, record in self.operations.items()
        }
        head = {"format": FORMAT, "schema": SCHEMA, "device": self.device, "fingerprint": self.fingerprint.to_json()}
        return {**head, "operations": operations, "missing": dict(self.missing)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`; raises KeyError, ValueError or TypeError for anything else."""
        if data["format"] != FORMAT or data["schema"] != SCHEMA:
            raise ValueError(f"it is no {FORMAT} of schema {SCHEMA}")
        operations = {
            name: OperationRecord(float(record["latency_ms"]), dict(record["counters"]))
            for name, record in data["operations"].items()
        }
        return cls(str(data["device"]), Fingerprint.from_json(data["fingerprint"]), operations, dict(data["missing"]))

    def save(self, path: str | Path) -> None:
        """Writes it as JSON, atomically; raises FileError where that fails."""
        write_atomically(Path(path), json.dumps(self.to_json(), indent=1).encode() + b"\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what `save` wrote; raises FileError where it is missing, damaged or something else."""
        try:
            return cls.from_json(json.loads(Path(path).read_text()))
        except OSError as error:
            raise FileError(f"cannot read {path}: {error.strerror}") from None
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise FileError(f"cannot read {path}: it is no hardware descriptor ({error})") from None


def descriptor_vectors(descriptors: Iterable[Descriptor]) -> dict[str, Array]:
    """Device -> its descriptor as numbers, NaN where it lacks one: for `blsm.transfer.Maple(descriptors=...)`.

    First the latencies of all operations in milliseconds, then each counter of all operations; of operations and
    counters, all that any of the devices has.
    """
    descriptors = tuple(descriptors)
    operations = tuple(dict.fromkeys(name for one in descriptors for name in one.operations))
    counters = tuple(dict.fromkeys(name for one in descriptors for name in one.counters))

    def number(one: Descriptor, operation: str, counter: str | None) -> float:
        record = one.operations.get(operation)
        if record is None:
            return np.nan
        value = record.latency_ms if counter is None else record.counters.get(counter)
        return np.nan if value is None else value

    return {
        one.device: np.array([number(one, name, counter) for counter in (None, *counters) for name in operations])
        for one in descriptors
    }


def describe(
    device: Device, operations: Mapping[str, Chain] = PRIMITIVES, protocol: Protocol | None = None
) -> Descriptor:
    """Measures a descriptor.

    On this machine's CPU, hardware and kernel count while an operation runs; an NPU's counters come from its compiler.
    Where there are no counters, the descriptor consists of operator latencies, and says why.

    Args:
        device: to describe.
        operations: name -> blocks that run it.
        protocol: of timing.

    Raises:
        DeviceError: the device is not usable here, or an operation can't be compiled or run on it.
    """
    protocol = protocol or Protocol(visits=1)
    if (lacking := device.missing()) is not None:
        raise DeviceError(f"{device.name} is not usable here: {lacking}")
    core, _ = machine.split_cores()
    records: dict[str, OperationRecord] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # Before the session: what its process does is counted because it starts afterwards.
        counted = isinstance(device, HostDevice) and device.here
        perf = stack.enter_context(PerfCounters()) if counted else None
        session = stack.enter_context(device.open(core))
        for number, (name, chain) in enumerate(operations.items()):
            artifact = folder / f"{number}{device.suffix}"
            device.compile_blocks(chain, artifact)
            latency_ns = min(session.visit(artifact, protocol).minimum_ns for _ in range(protocol.visits))
            counters: dict[str, float | None] = {}
            if perf is not None:
                counters = _count(session, artifact, protocol, latency_ns, perf) | dict.fromkeys(perf.missing)
            elif isinstance(device, Asic):
                counters = {k: float(v) for k, v in json.loads(artifact.read_text())["counters"].items()}
            records[name] = OperationRecord(latency_ns / 1e6, counters)
        missing = dict(perf.missing) if perf is not None else {}
    if perf is None:
        reason = "the NPU has counters of its own" if isinstance(device, Asic) else "only this machine's CPU is counted"
        names = (*HARDWARE_COUNTERS, *SOFTWARE_COUNTERS)
        missing = dict.fromkeys(names, reason)
        records = {
            name: replace(record, counters={**dict.fromkeys(names), **record.counters})
            for name, record in records.items()
        }
    return Descriptor(device.name, device.fingerprint(), records, missing)


def _count(
    session: Session, artifact: Path, protocol: Protocol, latency_ns: int, perf: PerfCounters
) -> dict[str, float | None]:
    """Counts of one invocation."""
    more = int(np.clip(1e9 * _COUNTED_S / max(latency_ns, 1), _LEAST_MANY, _MOST_MANY))
    readings = [perf.read()]
    for invocations in (_FEW, _FEW + more):
        exactly = replace(protocol, invocations=invocations, max_visit_s=None, min_invocations=invocations)
        session.visit(artifact, exactly)
        readings.append(perf.read())
    few, many = counts_between(*readings[:2]), counts_between(*readings[1:])
    counts: dict[str, float | None] = {}
    for name, first in few.items():
        second = many[name]
        # By chance a rare event, such as a page fault while loading, can be rarer in the longer visit.
        counts[name] = None if first is None or second is None else max(0.0, second - first) / more
    return counts
