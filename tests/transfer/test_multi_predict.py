"""Multi-Predict: the table of devices, Eq. 1 and Eq. 2, encodings, and another search space."""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from blsm.errors import DomainError, FitError
from blsm.transfer import DevicePool, MultiPredict
from blsm.transfer.device_table import DeviceTable, LinearMap, MultiPredictSettings
from blsm.transfer.multi_predict import MultiPredictPredictor

SMALL = MultiPredictSettings(units=32, steps=300, batch=32, rate=5e-3, tuning_rate=3e-3)
TINY = replace(SMALL, steps=5, tuning_steps=3)


@pytest.fixture(scope="module")
def fitted(made_up: Any) -> MultiPredict:
    return MultiPredict(settings=SMALL).fit(made_up.pool)


def test_a_new_device_from_ten_samples(made_up: Any, fitted: MultiPredict) -> None:
    rows = fitted.references(made_up.pool, 10)
    predicted = fitted.adapt(made_up.pool.encodings[rows], made_up.new_ms[rows]).predict(made_up.queries)
    assert spearmanr(predicted, made_up.queries_ms).statistic > 0.9
    assert np.median(np.abs(predicted / made_up.queries_ms - 1)) < 0.1


def test_a_new_device_that_is_a_known_one_starts_as_that_one(made_up: Any, fitted: MultiPredict) -> None:
    untuned = replace(fitted.settings, tuning_steps=1, tuning_rate=0.0)
    method = copy(fitted)
    method.settings = untuned
    scores = fitted._network.run(np, fitted._weights, fitted._network.inputs(made_up.queries))
    for number, device in enumerate(made_up.pool.devices):
        latencies_ms = 3 * made_up.pool.latencies_ms[device][:40]  # the same device at another clock
        predictor = method.adapt(made_up.pool.encodings[:40], latencies_ms)
        assert isinstance(predictor, MultiPredictPredictor)
        np.testing.assert_allclose(predictor.scaled(made_up.queries), scores[:, number], rtol=1e-5)


def test_tuning_reduces_the_error_on_the_samples(made_up: Any, fitted: MultiPredict) -> None:
    samples = made_up.pool.encodings[:12], made_up.new_ms[:12]
    errors = []
    for steps in (1, 200):
        method = copy(fitted)
        method.settings = replace(fitted.settings, tuning_steps=steps, tuning_rate=0.0 if steps == 1 else 3e-3)
        errors.append(np.abs(method.adapt(*samples).predict(samples[0]) / samples[1] - 1).mean())
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("encodings", [("vec",), ("zcp",), ("hwl",), ("vec", "zcp", "hwl")])
def test_encodings_and_their_concatenations(made_up: Any, encodings: tuple[str, ...]) -> None:
    settings = replace(SMALL, encodings=encodings)
    method = MultiPredict(settings=settings).fit(made_up.pool)
    predicted = method.adapt(made_up.pool.encodings[:12], made_up.new_ms[:12]).predict(made_up.queries)
    # Proxies know how many operations of a kind there are, not where.
    least = 0.3 if encodings == ("zcp",) else 0.85
    assert spearmanr(predicted, made_up.queries_ms).statistic > least


def test_an_encoding_that_search_spaces_share(made_up: Any) -> None:
    """Fitted on one space, it predicts architectures of another that has the same proxies."""
    random = np.random.default_rng(3)

    def space(count: int, operations: int) -> tuple[Any, Any]:
        work = random.uniform(0.5, 2, (count, operations)).sum(axis=1)
        return np.column_stack([np.exp(work / 4), np.sqrt(work), random.normal(size=count)]), work

    one, one_work = space(150, 6)
    other, other_work = space(200, 9)
    known = {f"d{number}": factor * (1 + one_work) ** 1.1 for number, factor in enumerate((1.0, 2.0, 7.0))}
    pool = DevicePool(one, known, {"zcp": slice(0, 3)})
    method = MultiPredict(settings=replace(SMALL, encodings=("zcp",))).fit(pool)
    new_ms = 4 * (1 + other_work) ** 1.1
    predicted = method.adapt(other[:10], new_ms[:10]).predict(other[10:])
    assert spearmanr(predicted, new_ms[10:]).statistic > 0.9


def test_seed_and_file(made_up: Any, tmp_path: Path) -> None:
    samples = made_up.pool.encodings[:9], made_up.new_ms[:9]

    def predictor(seed: int) -> Any:
        return MultiPredict(seed=seed, settings=replace(TINY, encodings=("vec", "zcp", "hwl"))).fit(made_up.pool)

    one, same, other = predictor(1), predictor(1), predictor(2)
    expected = one.adapt(*samples).predict(made_up.queries)
    np.testing.assert_array_equal(same.adapt(*samples).predict(made_up.queries), expected)
    assert not np.allclose(other.adapt(*samples).predict(made_up.queries), expected)
    one.save(tmp_path / "method")
    again = MultiPredict.load(tmp_path / "method")
    adapted = again.adapt(*samples)
    np.testing.assert_array_equal(adapted.predict(made_up.queries), expected)
    adapted.save(tmp_path / "predictor")
    loaded = MultiPredictPredictor.load(tmp_path / "predictor")
    np.testing.assert_array_equal(loaded.predict(made_up.queries), expected)


def test_columns_that_never_change_are_harmless(made_up: Any) -> None:
    encodings = made_up.pool.encodings.copy()
    encodings[:, 28] = 3.0  # a proxy
    pool = DevicePool(encodings, made_up.pool.latencies_ms, made_up.pool.groups)
    network = DeviceTable.of(pool, TINY)
    unseen = encodings[:2].copy()
    unseen[:, 28] = 1e9
    np.testing.assert_array_equal(network.inputs(unseen), network.inputs(encodings[:2]))
    again = LinearMap.from_data(network.extra[0].to_data())
    np.testing.assert_array_equal(again.run(unseen), network.extra[0].run(unseen))


def test_a_wide_pool_is_learned_by_logarithms(made_up: Any) -> None:
    """Latencies over four orders of magnitude: scaled linearly, nearly all labels would be 0, and so the prediction."""

    def widened(latencies_ms: np.ndarray) -> np.ndarray:
        return np.exp(8 * latencies_ms / latencies_ms.mean())

    known = {device: widened(latencies_ms) for device, latencies_ms in made_up.pool.latencies_ms.items()}
    pool = DevicePool(made_up.pool.encodings, known, made_up.pool.groups)
    assert pool.wide
    assert not made_up.pool.wide
    method = MultiPredict(settings=SMALL).fit(pool)
    new_ms = widened(np.concatenate([made_up.new_ms, made_up.queries_ms]))
    rows = method.references(pool, 12)
    predicted = method.adapt(pool.encodings[rows], new_ms[rows]).predict(made_up.queries)
    assert spearmanr(predicted, new_ms[120:]).statistic > 0.9
    assert np.median(np.abs(np.log(predicted / new_ms[120:]))) < 0.7


def test_what_it_refuses(made_up: Any, fitted: MultiPredict) -> None:
    pool = made_up.pool
    with pytest.raises(DomainError, match="encodings must be some of vec, zcp, hwl, got zpc"):
        MultiPredictSettings(encodings=("zpc",))
    with pytest.raises(FitError, match="needs one of the encodings zcp, the pool has vec"):
        bare = DevicePool(pool.encodings, pool.latencies_ms, {"vec": slice(0, 24)})
        MultiPredict(settings=replace(TINY, encodings=("zcp",))).fit(bare)
    with pytest.raises(FitError, match="at least 3 measurements"):
        fitted.adapt(pool.encodings[:2], made_up.new_ms[:2])
    with pytest.raises(FitError, match="different latencies"):
        fitted.adapt(pool.encodings[:4], np.full(4, 2.0))
    with pytest.raises(FitError, match="different latencies on each device"):
        MultiPredict(settings=TINY).fit(DevicePool(pool.encodings, {**pool.latencies_ms, "flat": np.ones(len(pool))}))
