"""The contract of `blsm.testing`, kept by every device that is registered; and that it notices those that do not."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from blsm.domains import Domain, Integers, Value
from blsm.profiles import Fingerprint, Visit
from blsm.profiling import Device, Protocol, Session, device, devices
from blsm.profiling.devices import _devices
from blsm.testing import FakeDevice, check_declaration, check_device


@pytest.mark.parametrize("name", devices())
def test_every_device_declares_itself(name: str) -> None:
    check_declaration(device(name))


@pytest.mark.parametrize("name", [*devices(), "edge_cpu@threads=2", "onnx_cpu@threads=1"])
def test_every_device_that_is_usable_here_keeps_the_contract(name: str) -> None:
    if (lacking := device(name).missing()) is not None:
        pytest.skip(lacking)
    check_device(device(name))


def _register(monkeypatch: pytest.MonkeyPatch, device_class: type[Device]) -> None:
    monkeypatch.setitem(_devices, device_class.key, device_class)


def test_the_fake_device_keeps_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LookupError, match="fake"):
        check_device(FakeDevice())
    _register(monkeypatch, FakeDevice)
    check_device(FakeDevice())


class _Visits(Session):
    """Visits that take a given time; refuses what is no JSON."""

    def __init__(self, session: Session, samples_ns: list[int]) -> None:
        self._session = session
        self._samples_ns = samples_ns

    def visit(self, artifact: Path, protocol: Protocol) -> Visit:
        self._session.visit(artifact, protocol)
        return Visit.from_samples(self._samples_ns)


class _Talkative(FakeDevice):
    def missing(self) -> str | None:
        return "install it\nor not"


class _WithoutDefault(FakeDevice):
    options: ClassVar[dict[str, Domain]] = {"speed": Integers(1, 3)}


class _Careless(FakeDevice):
    def __init__(self, **chosen: object) -> None:
        super().__init__()


class _Unsteady(FakeDevice):
    count = 0

    def fingerprint(self) -> Fingerprint:
        _Unsteady.count += 1
        return Fingerprint({"cpu": "formula", "boot": _Unsteady.count})


class _BlindToThreads(FakeDevice):
    options: ClassVar[dict[str, Domain]] = {"threads": Integers(1, 8)}
    defaults: ClassVar[dict[str, Value]] = {"threads": 1}


class _TimesAnything(FakeDevice):
    def open(self, core: int | None = None) -> Session:
        class _Session(Session):
            def visit(self, artifact: Path, protocol: Protocol) -> Visit:
                return Visit.from_samples([1000] * protocol.invocations)

        return _Session()


class _Constant(FakeDevice):
    def open(self, core: int | None = None) -> Session:
        return _Visits(super().open(core), [1000] * 6)


class _Brief(FakeDevice):
    def open(self, core: int | None = None) -> Session:
        return _Visits(super().open(core), [1000])


class _Timeless(FakeDevice):
    def open(self, core: int | None = None) -> Session:
        return _Visits(super().open(core), [0] * 6)


class _SaysDeterministic(FakeDevice):
    deterministic = True  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (_Talkative, "one line with the pip command"),
        (_WithoutDefault, "each option needs a default"),
        (_Careless, "no_such_option=.* must raise DomainError"),
        (_Unsteady, "two equal devices"),
        (_BlindToThreads, "one and two threads"),
        (_TimesAnything, "a broken artifact must raise"),
        (_Constant, "too alike"),
        (_Brief, "1 invocations instead of 6"),
        (_Timeless, "a latency of 0 ns"),
        (_SaysDeterministic, "not deterministic"),
    ],
)
def test_the_contract_notices(wrong: type[FakeDevice], complaint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _register(monkeypatch, wrong)
    with pytest.raises(AssertionError, match=complaint):
        check_device(wrong())


def test_a_device_that_does_not_pickle_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(FakeDevice):
        pass

    _register(monkeypatch, Local)
    with pytest.raises(Exception, match="[Pp]ickle"):
        check_declaration(Local())
