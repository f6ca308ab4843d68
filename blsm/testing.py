"""For tests, blsm's own and other people's.

A device that needs no hardware, stores filled by it, and the contract that every device keeps: call `check_device` on
yours, after `register_device` or with its entry point installed.
"""

from __future__ import annotations

import json
import pickle
import tempfile
import time
from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from blsm.blocks import BlockConfig, block_family
from blsm.errors import DeviceError, DomainError
from blsm.network import parse
from blsm.profiles import DISPATCH_PROBE, Chain, Fingerprint, ProfileStore, Visit, digest
from blsm.profiling import Device, Protocol, Session
from blsm.profiling import device as device_of_name

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
        weight_ns: what each parameter takes longer with cold caches, nanoseconds; 0 to time nothing so.
        visit_s: how long a visit takes, seconds.
        slow: numbers of a session's visits, from 0, that find the device slow: what runs takes twice as long.
        disturbed: numbers of those that find it slow and notice, if they have patience.
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
        weight_ns: float = 0.0,
        visit_s: float = 0.0,
        slow: Container[int] = (),
        disturbed: Container[int] = (),
        **chosen: object,
    ) -> None:
        super().__init__(**chosen)
        self.noise = noise
        self.fails = frozenset(map(digest, fails))
        self.crashes = frozenset(map(digest, crashes))
        self.cpu = cpu
        self.weight_ns = weight_ns
        self.visit_s = visit_s
        self.slow = slow
        self.disturbed = disturbed

    def missing(self) -> str | None:
        return None

    def fingerprint(self) -> Fingerprint:
        return Fingerprint({"cpu": self.cpu, "precision": "float32", "threads": 1})

    def compile(self, model: Any, artifact: Path) -> None:
        network = parse(model)
        if network.unmatched:
            raise DeviceError(f"the fake device knows block families only, not {network.unmatched[0]}")
        self.compile_blocks(network.blocks, artifact)

    def compile_blocks(self, blocks: Chain, artifact: Path) -> None:
        if digest(blocks) in self.fails:
            raise DeviceError("the fake compiler refused it")
        crashes = digest(blocks) in self.crashes
        data = {"latency_ms": fake_latency_ms(blocks), "cold_ms": self.cold_ms(blocks), "crashes": crashes}
        artifact.write_text(json.dumps(data))

    def cold_ms(self, blocks: Chain) -> float | None:
        """What a chain takes with cold caches; None where nothing is timed so."""
        return fake_latency_ms(blocks) + self.excess_ms(blocks) if self.weight_ns else None

    def excess_ms(self, blocks: Iterable[BlockConfig]) -> float:
        """What blocks take longer with cold caches."""
        return self.weight_ns * sum(config.params for config in blocks) / 1e6

    def open(self, core: int | None = None) -> Session:
        return _FakeSession(self.noise, self.visit_s, self.slow, self.disturbed)


class _FakeSession(Session):
    def __init__(self, noise: float, visit_s: float, slow: Container[int], disturbed: Container[int]) -> None:
        self._noise = noise
        self._visit_s = visit_s
        self._slow = slow
        self._disturbed = disturbed
        self._visits = 0
        self._random = np.random.default_rng(0)

    def visit(self, artifact: Path, protocol: Protocol) -> Visit:
        time.sleep(self._visit_s)
        try:
            data = json.loads(artifact.read_text())
        except ValueError:
            raise DeviceError("the fake runtime refused it") from None
        if data["crashes"]:
            raise DeviceError("the fake runtime crashed")
        disturbed = self._visits in self._disturbed
        slower = 2 if disturbed or self._visits in self._slow else 1
        self._visits += 1
        samples_ns = self._samples_ns(slower * data["latency_ms"], protocol.invocations)
        times_cold = data["cold_ms"] is not None and protocol.cold_invocations
        cold_ns = self._samples_ns(slower * data["cold_ms"], protocol.cold_invocations) if times_cold else []
        visit = Visit.from_samples(samples_ns, cold_ns=cold_ns)
        if not (disturbed and protocol.patience_s):
            return visit
        time.sleep(protocol.patience_s)
        return replace(visit, disturbed=True, waited_s=protocol.patience_s)

    def _samples_ns(self, latency_ms: float, count: int) -> list[int]:
        samples = 1e6 * latency_ms * (1 + self._random.exponential(self._noise, count))
        return [round(sample) for sample in samples.tolist()]


def fill_store(store: ProfileStore, chains: Iterable[Chain], device: FakeDevice | None = None) -> None:
    """Stores exact profiles of chains on the fake device, and of the dispatch probe, without a campaign."""
    device = device or FakeDevice()
    store.register_device(device.name, device.fingerprint())
    for chain in dict.fromkeys([DISPATCH_PROBE, *chains]):
        cold_ms = device.cold_ms(chain) if len(chain) == 1 else None
        cold_ns = [] if cold_ms is None else [round(1e6 * cold_ms)]
        store.add_visit(device.name, chain, Visit.from_samples([round(1e6 * fake_latency_ms(chain))], 0.0, cold_ns))


#: A block that takes any device much longer than the dispatch probe.
_LARGE: Chain = (
    block_family("mbconv").config(
        height=32, width=32, in_channels=64, filters=64, kernel_size=5, strides=1, expand_ratio=6
    ),
)


def check_device(device: Device) -> None:
    """Checks that a registered device that is usable here keeps the contract: what it declares, and what it measures.

    Raises:
        AssertionError: it does not; the message says what is wrong.
    """
    check_declaration(device)
    lacking = device.missing()
    assert lacking is None, f"{device.name} is not usable here: {lacking}"
    _check_fingerprint(device)
    protocol = Protocol(invocations=6, max_visit_s=None, min_invocations=6)
    with tempfile.TemporaryDirectory() as folder, device.open() as session:
        small, large, broken = (Path(folder) / f"{name}{device.suffix}" for name in ("small", "large", "broken"))
        device.compile_blocks(DISPATCH_PROBE, small)
        device.compile_blocks(_LARGE, large)
        broken.write_bytes(b"no artifact")
        before = session.visit(small, protocol)
        try:
            session.visit(broken, protocol)
        except DeviceError:
            pass
        else:
            raise AssertionError("a broken artifact must raise DeviceError")
        visits = {
            "small": before,
            "small again": session.visit(small, protocol),
            "large": session.visit(large, protocol),
        }
    for name, visit in visits.items():
        assert visit.invocations == protocol.invocations, f"{name}: {visit.invocations} invocations instead of 6"
        assert visit.minimum_ns > 0, f"{name}: a latency of {visit.minimum_ns} ns"
        if device.deterministic:
            assert visit.quantiles_ns[0] == visit.quantiles_ns[-1], f"{name}: not deterministic: {visit.quantiles_ns}"
    if device.deterministic:
        assert visits["small"].quantiles_ns == visits["small again"].quantiles_ns, "visits differ: not deterministic"
    assert visits["large"].minimum_ns > 3 * before.minimum_ns, (
        f"{_LARGE[0]} takes {visits['large'].minimum_ns} ns, the dispatch probe {before.minimum_ns} ns: too alike"
    )


def check_declaration(device: Device) -> None:
    """Checks what a registered device says of itself; needs neither its hardware nor its packages.

    Raises:
        AssertionError: something is wrong; the message says what.
    """
    make = type(device)
    assert device.key.isidentifier(), f"the key must be a name such as edge_cpu, got {device.key!r}"
    assert device.summary, "the summary, a line for `blsm devices`, is empty"
    assert "\n" not in device.summary, "the summary must be one line"
    assert device.suffix.startswith("."), f"the suffix must be that of a file, got {device.suffix!r}"
    assert set(device.defaults) == set(device.options), "each option needs a default, and each default an option"
    lacking = device.missing()
    assert lacking is None or ("pip install" in lacking and "\n" not in lacking), (
        f"missing() must be None, or one line with the pip command, got {lacking!r}"
    )
    named = device_of_name(device.name)
    assert type(named) is make, (
        f"{device.name} names a {type(named).__name__}, not a {make.__name__}: is it registered?"
    )
    assert named.settings == device.settings, f"{device.name} names a device with settings {named.settings}"
    # A campaign sends the device to the processes that compile.
    copy = pickle.loads(pickle.dumps(device))
    assert (type(copy), copy.settings) == (make, device.settings), "pickled and read again it is another device"
    for option in ("no_such_option", *device.options):
        assert _refusal(make, option), f"{option}={object()!r} must raise DomainError"
    listed = _refusal(make, "no_such_option")
    assert all(name in listed for name in device.options), f"it must list the device's options, got {listed!r}"


def _refusal(make: type[Device], option: str) -> str:
    """The message about an option with an impossible value; empty where there is none."""
    try:
        make(**{option: object()})
    except DomainError as error:
        return str(error)
    return ""


def _check_fingerprint(device: Device) -> None:
    make = type(device)
    fingerprint = device.fingerprint()
    assert fingerprint.identity, "the fingerprint is empty"
    assert make(**device.settings).fingerprint() == fingerprint, "two equal devices have different fingerprints"
    assert Fingerprint.from_json(json.loads(json.dumps(fingerprint.to_json()))) == fingerprint, "it does not fit JSON"
    if "threads" in device.options:
        one, two = (make(**{**device.settings, "threads": threads}).fingerprint() for threads in (1, 2))
        assert one.differences(two), "one and two threads have the same fingerprint"
