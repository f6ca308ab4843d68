from __future__ import annotations

import numpy as np

from blsm.transfer import bayesian_regression
from blsm.transfer.bayesian_regression import Posterior


def _tables(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.normal(size=(count, 1)), random.normal(size=(count, 30)) / np.sqrt(30)]


def _target(tables: list[np.ndarray]) -> np.ndarray:
    return 5 + 2 * tables[0][:, 0]


def test_the_table_that_explains_the_samples_is_trusted() -> None:
    tables = _tables(12)
    posterior = bayesian_regression.fit(tables, _target(tables), seed=0)
    right, wrong = np.abs(posterior.coefficients[:1]).sum(), np.abs(posterior.coefficients[1:]).mean()
    assert right > 10 * wrong
    queries = _tables(50, seed=1)
    predicted = posterior.predict(np.hstack(queries))
    assert np.corrcoef(predicted, _target(queries))[0, 1] > 0.99


def test_an_outlier_counts_less_than_in_least_squares() -> None:
    tables = _tables(15)
    target = _target(tables)
    target[4] += 15
    queries = _tables(50, seed=1)
    error = np.abs(bayesian_regression.fit(tables[:1], target, seed=0).predict(queries[0]) - _target(queries)).mean()
    columns = np.column_stack([np.ones(15), tables[0]])
    plain = np.column_stack([np.ones(50), queries[0]]) @ np.linalg.lstsq(columns, target, rcond=None)[0]
    assert error < 0.5 * np.abs(plain - _target(queries)).mean()


def test_the_variance_grows_away_from_the_samples_and_includes_the_noise() -> None:
    tables = [np.linspace(-1, 1, 9)[:, None]]
    noise = 0.1 * np.random.default_rng(0).normal(size=9)
    posterior = bayesian_regression.fit(tables, 3 * tables[0][:, 0] + noise, seed=0)
    inside, outside = posterior.variance(np.array([[0.0], [8.0]]))
    assert outside > inside > posterior.noise > 0


def test_equal_samples_predict_themselves() -> None:
    tables = _tables(5)
    posterior = bayesian_regression.fit(tables, np.full(5, 7.0), seed=0)
    np.testing.assert_allclose(posterior.predict(np.hstack(tables)), 7.0, rtol=0.01)


def test_a_posterior_survives_arrays() -> None:
    tables = _tables(8)
    posterior = bayesian_regression.fit(tables, _target(tables), seed=0)
    again = Posterior.from_arrays(posterior.to_arrays())
    queries = np.hstack(_tables(6, seed=2))
    np.testing.assert_array_equal(again.predict(queries), posterior.predict(queries))
    np.testing.assert_array_equal(again.variance(queries), posterior.variance(queries))
