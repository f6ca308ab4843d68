from __future__ import annotations

import argparse

import pytest

from blsm.cli.common import duration, protocol
from blsm.profiling import Protocol


def test_durations() -> None:
    assert [duration(text) for text in ("90s", "20m", "1h", "1h30m")] == [90, 1200, 3600, 5400]
    for wrong in ("", "20", "m", "1.5h", "20m1h"):
        with pytest.raises(argparse.ArgumentTypeError):
            duration(wrong)


def test_asking_for_invocations_makes_them_exact() -> None:
    exact = protocol(argparse.Namespace(visits=2, invocations=10_000))
    assert (exact.visits, exact.invocations, exact.min_invocations, exact.max_visit_s) == (2, 10_000, 10_000, None)
    adaptive = protocol(argparse.Namespace(visits=3, invocations=None))
    assert adaptive.max_visit_s is not None


def test_what_is_not_asked_for_stays_as_usual() -> None:
    usual = Protocol(max_visit_s=0.5, min_invocations=7)
    asked = protocol(argparse.Namespace(visits=2, invocations=None), usual)
    assert asked == Protocol(visits=2, max_visit_s=0.5, min_invocations=7)
