"""HELP: what it learns, what it needs, and what its switches do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from blsm.errors import DomainError, FitError
from blsm.transfer import DevicePool, Help
from blsm.transfer.help import HelpPredictor, HelpSettings
from blsm.transfer.meta_learning import HelpNetwork, MetaLearner
from blsm.transfer.networks import encoder_of, random_weights

SMALL = HelpSettings(units=24, references=6, episodes=400, rate=3e-3, queries=40, draws=3)
TINY = replace(SMALL, episodes=2, inner_steps=1)


@pytest.fixture(scope="module")
def fitted(made_up: Any) -> Help:
    return Help(settings=SMALL).fit(made_up.pool)


def test_a_new_device_from_twelve_samples(made_up: Any, fitted: Help) -> None:
    rows = fitted.references(made_up.pool, 12)
    predicted = fitted.adapt(made_up.pool.encodings[rows], made_up.new_ms[rows]).predict(made_up.queries)
    assert spearmanr(predicted, made_up.queries_ms).statistic > 0.9
    assert np.median(np.abs(predicted / made_up.queries_ms - 1)) < 0.1


def test_training_matters(made_up: Any, fitted: Help) -> None:
    rows = fitted.references(made_up.pool, 12)
    after, before = (
        method.adapt(made_up.pool.encodings[rows], made_up.new_ms[rows]).predict(made_up.queries)
        for method in (fitted, Help(settings=TINY).fit(made_up.pool))
    )
    errors = [np.abs(predicted / made_up.queries_ms - 1).mean() for predicted in (after, before)]
    assert errors[0] < 0.5 * errors[1]


def test_references_come_first_and_stay(made_up: Any, fitted: Help) -> None:
    first, more = fitted.references(made_up.pool, 6), fitted.references(made_up.pool, 20)
    assert len(set(more.tolist())) == 20
    np.testing.assert_array_equal(more[:6], first)


def test_references_are_spread_from_the_fastest_to_the_slowest(made_up: Any, fitted: Help) -> None:
    order = np.argsort(np.log(made_up.pool.table_ms).mean(axis=1))
    rank = {row: place for place, row in enumerate(order.tolist())}
    places = sorted(rank[row] for row in fitted.references(made_up.pool, 6).tolist())
    assert [place * 6 // len(order) for place in places] == list(range(6))


def test_references_that_were_not_measured_are_estimated(made_up: Any, fitted: Help) -> None:
    rows = np.setdiff1d(np.arange(120), fitted.references(made_up.pool, 6))[:14]
    predicted = fitted.adapt(made_up.pool.encodings[rows], made_up.new_ms[rows]).predict(made_up.queries)
    assert spearmanr(predicted, made_up.queries_ms).statistic > 0.7


def test_same_seed_same_predictions(made_up: Any) -> None:
    def predict(seed: int) -> Any:
        method = Help(seed=seed, settings=TINY, reference_rows=np.arange(6)).fit(made_up.pool)
        return method.adapt(made_up.pool.encodings[:9], made_up.new_ms[:9]).predict(made_up.queries)

    one = predict(1)
    np.testing.assert_array_equal(predict(1), one)
    assert not np.allclose(predict(2), one)


def test_saved_and_loaded_it_is_the_same(made_up: Any, fitted: Help, tmp_path: Path) -> None:
    rows = fitted.references(made_up.pool, 10)
    samples = made_up.pool.encodings[rows], made_up.new_ms[rows]
    predictor = fitted.adapt(*samples)
    fitted.save(tmp_path / "method")
    predictor.save(tmp_path / "predictor")
    expected = predictor.predict(made_up.queries)
    np.testing.assert_array_equal(HelpPredictor.load(tmp_path / "predictor").predict(made_up.queries), expected)
    again = Help.load(tmp_path / "method")
    np.testing.assert_array_equal(again.adapt(*samples).predict(made_up.queries), expected)
    np.testing.assert_array_equal(again.references(made_up.pool, 10), rows)


def test_predicting_needs_no_tensorflow(made_up: Any, fitted: Help, tmp_path: Path) -> None:
    rows = fitted.references(made_up.pool, 10)
    fitted.adapt(made_up.pool.encodings[rows], made_up.new_ms[rows]).save(tmp_path / "predictor")
    np.save(tmp_path / "queries.npy", made_up.queries)
    code = (
        "import sys, numpy as np\n"
        "from blsm.transfer.help import HelpPredictor\n"
        f"predictor = HelpPredictor.load({str(tmp_path / 'predictor')!r})\n"
        f"assert (predictor.predict(np.load({str(tmp_path / 'queries.npy')!r})) > 0).all()\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def _learned(made_up: Any, settings: HelpSettings) -> list[Any]:
    return Help(settings=settings, reference_rows=np.arange(6)).fit(made_up.pool)._weights


@pytest.fixture(scope="module")
def learned(made_up: Any) -> list[Any]:
    return _learned(made_up, TINY)


@pytest.mark.parametrize("switch", ["hardware_embedding", "modulator", "learned_rates", "second_order"])
def test_every_switch_changes_what_is_learned(made_up: Any, learned: list[Any], switch: str) -> None:
    off = _learned(made_up, replace(TINY, **{switch: False}))
    if switch == "second_order":
        assert len(off) == len(learned)
        assert any(not np.array_equal(one, other) for one, other in zip(off, learned, strict=True))
    else:
        assert sum(weight.size for weight in off) < sum(weight.size for weight in learned)


def test_the_modulator_changes_the_header_alone(made_up: Any) -> None:
    network = HelpNetwork(encoder_of(made_up.pool, 24), TINY)
    weights = random_weights(network.shapes, np.random.default_rng(0))
    z = np.random.default_rng(1).normal(size=(2, 3 * (network.wide + 1)))
    start = network.start(np, weights, z)
    changed = [not np.allclose(new[1], old) for new, old in zip(start, weights, strict=True)]
    assert changed == [False] * (len(weights) - 6) + [True] * 6
    kernel, factor = weights[-6], 1 + TINY.z_scale * z[1, : network.wide]
    np.testing.assert_allclose(start[-6][1], kernel * factor[:, None], rtol=1e-5)


def test_two_steps_reduce_the_error_on_the_samples(made_up: Any) -> None:
    settings = replace(TINY, modulator=False, inner_rate=0.02)
    network = HelpNetwork(encoder_of(made_up.pool, 24), settings)
    x = network.encoder.inputs(made_up.pool.encodings[:8])[None]
    y, hardware = np.linspace(0, 1, 8)[None, :, None], np.full((1, 6), 0.5, np.float32)
    errors = []
    for steps in (0, 2):
        learner = MetaLearner(HelpNetwork(network.encoder, replace(settings, inner_steps=steps)), None, seed=0)
        predicted = network.run(np, learner.adapt(hardware, x, y), hardware, x)
        errors.append(float(np.square(predicted - y).mean()))
    assert errors[1] < errors[0]


def test_devices_need_not_be_measured_everywhere(made_up: Any) -> None:
    latencies_ms = {name: values.copy() for name, values in made_up.pool.latencies_ms.items()}
    latencies_ms["d0"][30:] = np.nan
    pool = DevicePool(made_up.pool.encodings, latencies_ms, made_up.pool.groups)
    method = Help(settings=TINY).fit(pool)
    assert (method.references(pool, 6) < 30).all()


def test_what_it_refuses(made_up: Any, fitted: Help) -> None:
    pool = made_up.pool
    with pytest.raises(FitError, match="must be fitted"):
        Help().adapt(pool.encodings[:12], made_up.new_ms[:12])
    with pytest.raises(FitError, match="at least 2 measurements"):
        fitted.adapt(pool.encodings[:1], made_up.new_ms[:1])
    with pytest.raises(FitError, match="different latencies"):
        fitted.adapt(pool.encodings[:5], np.ones(5))
    with pytest.raises(DomainError, match="must have 31 columns"):
        fitted.adapt(pool.encodings[:5, :7], made_up.new_ms[:5])
    with pytest.raises(DomainError, match="positive milliseconds"):
        fitted.adapt(pool.encodings[:3], np.array([1.0, 0.0, 2.0]))
    with pytest.raises(FitError, match="reference_rows must be 6 rows"):
        Help(settings=SMALL, reference_rows=np.arange(3)).fit(pool)
    with pytest.raises(FitError, match="10 reference architectures and more"):
        Help().fit(DevicePool(pool.encodings[:8], {d: v[:8] for d, v in pool.latencies_ms.items()}))
