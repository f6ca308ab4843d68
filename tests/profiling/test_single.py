from __future__ import annotations

from pathlib import Path

import blsm
from blsm.profiles import Visit
from blsm.profiling import Protocol, Session, measure_model
from blsm.testing import FakeDevice


class WatchedSession(Session):
    """Remembers the protocol of each visit to another session."""

    def __init__(self, session: Session, asked: list[Protocol]) -> None:
        self.session = session
        self.asked = asked

    def visit(self, artifact: Path, protocol: Protocol) -> Visit:
        self.asked.append(protocol)
        return self.session.visit(artifact, protocol)


class WatchedDevice(FakeDevice):
    """The fake device, whose sessions are watched."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Protocol] = []

    def open(self, core: int | None = None) -> Session:
        return WatchedSession(super().open(core), self.asked)


def test_networks_are_visited_longer_than_blocks(network: list[blsm.BlockConfig]) -> None:
    device = WatchedDevice()
    assert len(measure_model(tuple(network), device)) == len(device.asked) == Protocol().visits
    longest, of_blocks = device.asked[0].max_visit_s, Protocol().max_visit_s
    assert longest is not None
    assert of_blocks is not None
    assert longest > of_blocks


def test_who_asks_for_a_protocol_gets_it(network: list[blsm.BlockConfig]) -> None:
    device = WatchedDevice()
    measure_model(tuple(network), device, Protocol(visits=1, invocations=7))
    assert device.asked == [Protocol(visits=1, invocations=7)]
