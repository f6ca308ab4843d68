"""For tests, blsm's own and other people's: a device that needs no hardware, and stores filled by it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from blsm.blocks import BlockConfig
from blsm.errors import DeviceError
from blsm.profiles import DISPATCH_PROBE, Chain, Fingerprint, ProfileStore, Visit, digest
from blsm.profiling import Device, Protocol, Session

#: Nanoseconds of entering and leaving the fake runtime, of one operator, and of one multiply-accumulate.
_DISPATCH_NS, _OPERATOR_NS, _MAC_NS = 400, 100, 0.01


def fake_latency_ms(blocks: Iterable[BlockConfig]) -> float:
    """What a chain takes on the fake device: a dispatch, then time for each operator and multiply-accumulate."""
    total_ns = float(_DISPATCH_NS)
    for config in blocks:
        total_ns += _OPERATOR_NS * (len(config.graph().operators) - 1) + _MAC_NS * config.macs
    return total_ns / 1e6


class FakeDevice(Device):
    """A device whose latency is a formula, with noise on top that never goes below it; deterministic.

    Args:
        noise: relative scale of the noise.
        fails: chains that can't be compiled.
        crashes: chains that crash when they run.
        cpu: what the fingerprint says.
        visit_s: how long a visit takes, seconds.
    """

    key: ClassVar[str] = "fake"
    summary: ClassVar[str] = "a formula, for tests"
    suffix: ClassVar[str] = ".json"

    def __init__(
        self,
        *,
        noise: float = 0.02,
        fails: Iterable[Chain] = (),
        crashes: Iterable[Chain] = (),
        cpu: str = "formula",
        visit_s: float = 0.0,
    ) -> None:
        super().__init__()
        self.noise = noise
        self.fails = frozenset(map(digest, fails))
        self.crashes = frozenset(map(digest, crashes))
        self.cpu = cpu
        self.visit_s = visit_s

    def missing(self) -> str | None:
        return None

    def fingerprint(self) -> Fingerprint:
        return Fingerprint({"cpu": self.cpu, "precision": "float32", "threads": 1})

    def compile(self, model: Any, artifact: Path) -> None:
        raise DeviceError("the fake device compiles chains of blocks only")

    def compile_blocks(self, blocks: Chain, artifact: Path) -> None:
        if digest(blocks) in self.fails:
            raise DeviceError("the fake compiler refused it")
        crashes = digest(blocks) in self.crashes
        artifact.write_text(json.dumps({"latency_ms": fake_latency_ms(blocks), "crashes": crashes}))

    def open(self, core: int | None = None) -> Session:
        return _FakeSession(self.noise, self.visit_s)


class _FakeSession(Session):
    def __init__(self, noise: float, visit_s: float) -> None:
        self._noise = noise
        self._visit_s = visit_s
        self._random = np.random.default_rng(0)

    def visit(self, artifact: Path, protocol: Protocol) -> Visit:
        time.sleep(self._visit_s)
        data = json.loads(artifact.read_text())
        if data["crashes"]:
            raise DeviceError("the fake runtime crashed")
        samples = 1e6 * data["latency_ms"] * (1 + self._random.exponential(self._noise, protocol.invocations))
        return Visit.from_samples(np.rint(samples).astype(int).tolist())


def fill_store(store: ProfileStore, chains: Iterable[Chain], device: FakeDevice | None = None) -> None:
    """Stores exact profiles of chains on the fake device, and of the dispatch probe, without a campaign."""
    device = device or FakeDevice()
    store.register_device(device.name, device.fingerprint())
    for chain in dict.fromkeys([DISPATCH_PROBE, *chains]):
        sample_ns = round(1e6 * fake_latency_ms(chain))
        store.add_visit(device.name, chain, Visit.from_samples([sample_ns], started_s=0.0))
