"""The Gaussian process against closed forms and known functions."""

from __future__ import annotations

import numpy as np
import pytest

from blsm.strategies.gaussian_process import GaussianProcess


def _groups(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(count)
    return [random.random((count, 3)), random.random((count, 1))]


def _target(groups: list[np.ndarray]) -> np.ndarray:
    return np.sin(3 * groups[0][:, 0]) + groups[0][:, 1] + 2 * groups[1][:, 0] + 5


def test_it_learns_a_smooth_function() -> None:
    known, asked = _groups(60), _groups(40)
    mean, deviation = GaussianProcess(known, _target(known)).predict(asked)
    error = mean - _target(asked)
    assert np.sqrt(np.mean(error**2)) < 0.1 * np.std(_target(asked))
    assert np.mean(np.abs(error) < 3 * deviation) > 0.9


def test_it_is_sure_where_it_knows_and_unsure_elsewhere() -> None:
    known = _groups(30)
    process = GaussianProcess(known, _target(known))
    _, near = process.predict(known)
    _, far = process.predict([group + 10 for group in known])
    assert near.max() < far.min()


def test_the_gradient_of_the_likelihood() -> None:
    known = _groups(20)
    process = GaussianProcess(known, _target(known))
    squares = [np.sum((group[:, None] - group[None]) ** 2, axis=-1) for group in known]
    parameters = np.array([0.3, -0.5, -0.2, 0.1, -2.0])
    _, gradient = process._likelihood(squares, parameters)
    step = 1e-5
    for index, slope in enumerate(gradient):
        shift = step * np.eye(len(parameters))[index]
        above, below = (process._likelihood(squares, parameters + sign * shift)[0] for sign in (1, -1))
        assert slope == pytest.approx((above - below) / (2 * step), rel=1e-4)


def test_more_observations_make_it_surer_and_leave_its_opinion() -> None:
    known, asked = _groups(30), _groups(5)
    process = GaussianProcess(known, _target(known))
    mean, deviation = process.predict(asked)
    again, less = process.with_observations(asked, mean).predict(asked)
    assert again == pytest.approx(mean, abs=0.05)
    assert np.all(less < deviation)


def test_equal_targets() -> None:
    known = _groups(5)
    mean, _ = GaussianProcess(known, np.full(5, 0.7)).predict(_groups(3))
    assert mean == pytest.approx(0.7)
