"""MAPLE: descriptors, given or estimated, and samples mixed into training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from blsm.errors import DomainError, FitError
from blsm.transfer import Maple
from blsm.transfer.maple import MaplePredictor, MapleSettings
from blsm.transfer.operator_latencies import OperatorLatencies

SMALL = MapleSettings(units=32, steps=400, batch=32, rate=5e-3, mixed_steps=150, mixed_rate=3e-3)
TINY = replace(SMALL, steps=5, mixed_steps=3)


def _descriptors(made_up: Any) -> dict[str, Any]:
    """What an architecture of one operation alone would take, nearly, and a counter that d1 lacks."""
    latencies = {**made_up.pool.latencies_ms, "new": made_up.new_ms}
    rows = {device: np.append(np.sort(values)[::20], 5.0) for device, values in latencies.items()}
    rows["d1"][-1] = np.nan
    return rows


@pytest.fixture(scope="module")
def fitted(made_up: Any) -> Maple:
    return Maple(settings=SMALL).fit(made_up.pool)


def test_a_new_device_with_an_estimated_descriptor(made_up: Any, fitted: Maple) -> None:
    rows = fitted.references(made_up.pool, 10)
    predicted = fitted.adapt(made_up.pool.encodings[rows], made_up.new_ms[rows]).predict(made_up.queries)
    assert spearmanr(predicted, made_up.queries_ms).statistic > 0.8
    assert np.median(np.abs(predicted / made_up.queries_ms - 1)) < 0.1


def test_a_new_device_with_a_measured_descriptor(made_up: Any) -> None:
    descriptors = _descriptors(made_up)
    method = Maple(settings=SMALL, descriptors=descriptors).fit(made_up.pool).of_device(descriptors["new"])
    predicted = method.adapt(made_up.pool.encodings[:10], made_up.new_ms[:10]).predict(made_up.queries)
    assert spearmanr(predicted, made_up.queries_ms).statistic > 0.8
    assert np.median(np.abs(predicted / made_up.queries_ms - 1)) < 0.15


def test_samples_move_the_regressor(made_up: Any, fitted: Maple) -> None:
    slower = fitted.adapt(made_up.pool.encodings[:10], 30 * made_up.new_ms[:10]).predict(made_up.queries)
    assert 10 < np.median(slower / made_up.queries_ms) < 60


def test_seed_and_file(made_up: Any, tmp_path: Path) -> None:
    samples = made_up.pool.encodings[:6], made_up.new_ms[:6]
    descriptors = _descriptors(made_up)

    def method(seed: int) -> Maple:
        fitted = Maple(seed=seed, settings=TINY, descriptors=descriptors).fit(made_up.pool)
        return fitted.of_device(descriptors["new"])

    one, same, other = method(1), method(1), method(2)
    expected = one.adapt(*samples).predict(made_up.queries)
    np.testing.assert_array_equal(same.adapt(*samples).predict(made_up.queries), expected)
    assert not np.allclose(other.adapt(*samples).predict(made_up.queries), expected)
    one.save(tmp_path / "method")
    adapted = Maple.load(tmp_path / "method").adapt(*samples)
    np.testing.assert_array_equal(adapted.predict(made_up.queries), expected)
    adapted.save(tmp_path / "predictor")
    np.testing.assert_array_equal(MaplePredictor.load(tmp_path / "predictor").predict(made_up.queries), expected)


def test_saved_without_descriptors(made_up: Any, tmp_path: Path) -> None:
    method = Maple(settings=TINY).fit(made_up.pool)
    method.save(tmp_path / "method")
    samples = made_up.pool.encodings[:6], made_up.new_ms[:6]
    np.testing.assert_array_equal(
        Maple.load(tmp_path / "method").adapt(*samples).predict(made_up.queries),
        method.adapt(*samples).predict(made_up.queries),
    )


def test_a_counter_that_a_known_device_lacks_is_left_out(made_up: Any) -> None:
    descriptors = _descriptors(made_up)
    method = Maple(settings=TINY, descriptors=descriptors).fit(made_up.pool)
    other = descriptors["new"].copy()
    other[-1] = 1e12  # the counter that d1 lacks
    samples = made_up.pool.encodings[:6], made_up.new_ms[:6]
    np.testing.assert_array_equal(
        *(method.of_device(d).adapt(*samples).predict(made_up.queries) for d in (descriptors["new"], other))
    )


def test_operator_latencies_of_known_devices_explain_them(made_up: Any) -> None:
    operators = OperatorLatencies.of(made_up.pool)
    for row, latencies_ms in zip(operators.known, made_up.pool.latencies_ms.values(), strict=True):
        assert np.corrcoef(operators.predict(row, made_up.pool.encodings), latencies_ms)[0, 1] > 0.5


def test_operator_latencies_of_one_sample_are_the_known_devices_scaled(made_up: Any) -> None:
    operators = OperatorLatencies.of(made_up.pool)
    row = operators.of_samples(made_up.pool.encodings[:1], made_up.new_ms[:1])
    assert operators.predict(row, made_up.pool.encodings[:1])[0] == pytest.approx(made_up.new_ms[0], rel=0.05)


def test_what_it_refuses(made_up: Any, fitted: Maple) -> None:
    pool, descriptors = made_up.pool, _descriptors(made_up)
    with pytest.raises(FitError, match="needs a descriptor of d3: run `blsm descriptor --device d3`"):
        Maple(descriptors={name: row for name, row in descriptors.items() if name != "d3"}).fit(pool)
    with pytest.raises(DomainError, match="same length"):
        Maple(descriptors={**descriptors, "d2": np.ones(3)}).fit(pool)
    with pytest.raises(FitError, match="no number in common"):
        Maple(descriptors={**descriptors, "d2": np.full(7, np.nan)}).fit(pool)
    with pytest.raises(FitError, match="with the descriptors"):
        fitted.of_device(descriptors["new"])
    method = Maple(settings=TINY, descriptors=descriptors).fit(pool)
    with pytest.raises(FitError, match="of_device"):
        method.adapt(pool.encodings[:5], made_up.new_ms[:5])
    with pytest.raises(DomainError, match="must have 7 numbers"):
        method.of_device(np.ones(2))
    lacking = descriptors["new"].copy()
    lacking[0] = np.nan
    with pytest.raises(DomainError, match="lacks a counter"):
        method.of_device(lacking)
    with pytest.raises(DomainError, match="positive"):
        fitted.adapt(pool.encodings[:2], np.array([1.0, np.nan]))
