"""Weights of the parts of a sum: of known devices, and of one that resembles some of them."""

from __future__ import annotations

import numpy as np
import pytest

from blsm._types import Array
from blsm.transfer.weights import Weights, log_sum

RANDOM = np.random.default_rng(0)
#: Logarithms of three amounts of work, over orders of magnitude.
PARTS = RANDOM.uniform(-4, 4, (300, 3))
#: Three devices that are alike, and one of another kind.
DEVICES = np.array([[0.0, 1.0, -1.0], [0.1, 1.2, -0.9], [-0.1, 0.9, -1.1], [4.0, -3.0, 3.0]])
LOG_MS = np.column_stack([log_sum(PARTS, weights)[0] for weights in DEVICES])


def _error(weights: Weights, rows: slice, truth: Array) -> float:
    """Root mean square of what is predicted of all rows after a few."""
    found = weights.most_probable(PARTS[rows], log_sum(PARTS[rows], truth)[0], np.array(1 / 0.01))
    return float(np.sqrt(np.square(log_sum(PARTS, found)[0] - log_sum(PARTS, truth)[0]).mean()))


def test_the_logarithm_of_a_sum_and_shares_of_it() -> None:
    parts, weights = np.log([[1.0, 2.0], [3.0, 1.0]]), np.log([2.0, 1.0])
    logarithm, shares = log_sum(parts, weights)
    np.testing.assert_allclose(np.exp(logarithm), [4, 7])
    np.testing.assert_allclose(shares, [[0.5, 0.5], [6 / 7, 1 / 7]])
    # Latencies of any unit: nothing overflows.
    assert np.isfinite(log_sum(parts + 1000, weights)[0]).all()


def test_weights_of_known_devices_are_found() -> None:
    learned = Weights.learned(PARTS, LOG_MS, np.zeros(3))
    # But for the fourth's second part, which is a hundredth of what it takes at most.
    np.testing.assert_allclose(learned.devices, DEVICES, atol=0.15)
    np.testing.assert_allclose(learned.mean, DEVICES.mean(axis=0), atol=0.05)


def test_known_devices_tell_what_too_few_samples_do_not() -> None:
    learned = Weights.learned(PARTS, LOG_MS[:, :3], np.zeros(3))
    new = np.array([0.05, 1.1, -1.0])
    assert _error(learned, slice(2), new) < 0.2 * _error(Weights.unknown(np.zeros(3)), slice(2), new)


def test_samples_outweigh_what_known_devices_have() -> None:
    learned = Weights.learned(PARTS, LOG_MS[:, :3], np.zeros(3))
    assert _error(learned, slice(60), np.array([3.0, -3.0, 2.0])) < 0.05


@pytest.mark.parametrize(("kinship", "kin"), [([1 / 3, 1 / 3, 1 / 3, 0], slice(3)), ([0, 0, 0, 1], slice(3, 4))])
def test_kin_decide_what_a_device_is_like(kinship: list[float], kin: slice) -> None:
    learned = Weights.learned(PARTS, LOG_MS, np.zeros(3))
    like = learned.like(np.array(kinship))
    np.testing.assert_allclose(like.mean, DEVICES[kin].mean(axis=0), atol=0.1)
    # But for a factor, which is free: how weights differ.
    contrast = np.array([1.0, -1.0, 0.0])
    assert contrast @ like.covariance @ contrast < contrast @ learned.covariance @ contrast


def test_where_devices_tell_nothing_there_is_no_kin() -> None:
    unknown = Weights.unknown(np.zeros(3))
    assert unknown.like(np.array([0.5, 0.5])) is unknown
