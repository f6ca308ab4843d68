from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blsm.domains import Choice, Integers, SameAs, cardinality, contains, domain_from_json, sample_space
from blsm.errors import DomainError


def test_integers_hold_both_ends_and_the_steps_between() -> None:
    domain = Integers(8, 32, step=8)
    assert len(domain) == 4
    assert [domain.normalise(n) for n in (8, np.int64(16), 32)] == [8, 16, 32]
    for wrong in (0, 12, 40, 8.0, True, "8", None):
        with pytest.raises(ValueError):
            domain.normalise(wrong)


def test_choice_keeps_the_type_of_its_values() -> None:
    assert Choice(False, True).normalise(1) is True
    assert Choice(0.0, 0.25).normalise(0) == 0.0
    with pytest.raises(ValueError):
        Choice("relu", "swish").normalise("gelu")


@pytest.mark.parametrize(
    "make", [lambda: Integers(4, 2), lambda: Integers(1, 4, step=2), lambda: Choice(), lambda: Choice(1, 1)]
)
def test_impossible_domains_are_refused(make: object) -> None:
    with pytest.raises(DomainError):
        make()  # type: ignore[operator]


@given(st.floats(0, 1, exclude_max=True))
def test_every_position_gives_a_member(unit: float) -> None:
    for domain in (Integers(8, 256, step=8, log=True), Integers(1, 6), Choice(3, 5, 7)):
        value = domain.at(unit)
        assert domain.decode(domain.encode(value)) == domain.normalise(value) == value


def test_logarithmic_sampling_reaches_both_ends_and_favours_small_values() -> None:
    domain = Integers(8, 256, step=8, log=True)
    drawn = [domain.at(u) for u in np.linspace(0, 1, 1000, endpoint=False)]
    assert (min(drawn), max(drawn)) == (8, 256)
    assert np.median(drawn) < 64


SPACE = {"height": Choice(4, 8), "width": SameAs("height"), "filters": Integers(1, 10), "kind": Choice("a", "b")}


def test_samples_are_distinct_in_the_space_and_reproducible() -> None:
    first = sample_space(SPACE, 30, seed=1)
    assert first == sample_space(SPACE, 30, seed=1)
    assert first != sample_space(SPACE, 30, seed=2)
    assert len({tuple(s.values()) for s in first}) == 30
    assert all(contains(SPACE, s) and s["width"] == s["height"] for s in first)


def test_a_larger_sample_extends_a_smaller_one() -> None:
    assert sample_space(SPACE, 30, seed=3)[:7] == sample_space(SPACE, 7, seed=3)


def test_the_whole_space_can_be_sampled_and_no_more() -> None:
    assert cardinality(SPACE) == 40
    assert len(sample_space(SPACE, 40, seed=0)) == 40
    with pytest.raises(DomainError, match="holds 40 only"):
        sample_space(SPACE, 41, seed=0)


def test_samples_fill_the_space_evenly() -> None:
    drawn = [s["filters"] for s in sample_space({"filters": Integers(0, 99), "other": Integers(0, 99)}, 500, seed=0)]
    counts = np.histogram(drawn, bins=10, range=(0, 100))[0]
    assert counts.min() > 40
    assert counts.max() < 60


def test_domains_survive_json() -> None:
    for domain in SPACE.values():
        assert domain_from_json(domain.to_json()) == domain
    with pytest.raises(DomainError):
        domain_from_json({"lo": 1})


def test_contains_sees_a_broken_tie() -> None:
    assert not contains(SPACE, {"height": 4, "width": 8, "filters": 1, "kind": "a"})
