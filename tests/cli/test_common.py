from __future__ import annotations

import argparse

import pytest

from blsm.cli.common import duration, protocol


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
