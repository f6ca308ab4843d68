from __future__ import annotations

from pathlib import Path

import pytest

import blsm
from blsm.profiles import Visit
from blsm.profiling import Protocol, measure_model
from blsm.testing import FakeDevice, _FakeSession


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Protocol]:
    """The protocol of each visit to the fake device."""
    found: list[Protocol] = []
    visit = _FakeSession.visit

    def spy(self: _FakeSession, artifact: Path, protocol: Protocol) -> Visit:
        found.append(protocol)
        return visit(self, artifact, protocol)

    monkeypatch.setattr(_FakeSession, "visit", spy)
    return found


def test_networks_are_visited_longer_than_blocks(asked: list[Protocol], network: list[blsm.BlockConfig]) -> None:
    assert len(measure_model(tuple(network), FakeDevice())) == len(asked) == Protocol().visits
    longest, of_blocks = asked[0].max_visit_s, Protocol().max_visit_s
    assert longest is not None
    assert of_blocks is not None
    assert longest > of_blocks


def test_who_asks_for_a_protocol_gets_it(asked: list[Protocol], network: list[blsm.BlockConfig]) -> None:
    measure_model(tuple(network), FakeDevice(), Protocol(visits=1, invocations=7))
    assert asked == [Protocol(visits=1, invocations=7)]
