"""Weights of the positive parts of a sum: what is known of them beforehand, and the most probable ones after samples.

A device is a weight for each part. Weights are logarithms here, and so are the parts, because latencies of blocks span
orders of magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from blsm._types import Array

#: Deviation of a weight of which nothing is known, of one that devices are about to tell, and of a factor that all
#: weights have in common: how fast a device is.
_UNKNOWN, _UNTOLD, _FACTOR = 4.5, 2.0, 4.0
#: Variance of the errors of the sums of known devices, and rounds of learning.
_ERROR, _ROUNDS = 0.05, 2
#: Share of the variance of weights that is each one's own, because few devices don't tell how weights go together; and
#: variance that each has besides, because the new device may be like none of them.
_OWN, _NEW = 0.3, 1.0
#: How much devices that are no kin to the new one tell of it.
_NO_KIN = 0.3
#: Steps of the search for the most probable weights, and when it ends: by so little more probable.
_STEPS, _ENOUGH = 30, 1e-6


def log_sum(parts: Array, weights: Array) -> tuple[Array, Array]:
    """The logarithm of the weighted sum of parts, shape (n,), and each part's share of it, shape (n, parts)."""
    weighted = parts + weights
    largest = weighted.max(axis=1, keepdims=True)
    shares = np.exp(weighted - largest)
    total = shares.sum(axis=1, keepdims=True)
    return (largest + np.log(total))[:, 0], shares / total


@dataclass(frozen=True)
class Weights:
    """The prior distribution of the weights of a device, a normal one.

    Attributes:
        mean: shape (parts,).
        covariance: shape (parts, parts).
        devices: the weights of the known devices, shape (devices, parts); of no device if they told nothing.
    """

    mean: Array
    covariance: Array
    devices: Array

    @classmethod
    def unknown(cls, mean: Array, deviation: float = _UNKNOWN) -> Self:
        """Weights of this mean, of which nothing more is known."""
        return cls(mean, deviation**2 * np.eye(len(mean)) + _FACTOR**2, np.empty((0, len(mean))))

    @classmethod
    def learned(cls, parts: Array, log_ms: Array, mean: Array) -> Self:
        """As the known devices have them, by expectation maximisation (Dempster et al. 1977).

        Args:
            parts: of the rows that they were measured on, shape (n, parts).
            log_ms: logarithms of what they take, shape (n, devices).
            mean: of the weights before anything is known, shape (parts,).
        """
        prior, devices = cls.unknown(mean, _UNTOLD), None
        precision = np.array(1 / _ERROR)
        for _ in range(_ROUNDS):
            starts = [None] * log_ms.shape[1] if devices is None else devices
            devices = np.array(
                [
                    prior.most_probable(parts, column, precision, start)
                    for column, start in zip(log_ms.T, starts, strict=True)
                ]
            )
            uncertain = np.mean([prior._posterior_covariance(parts, row, precision) for row in devices], axis=0)
            mean, spread = _moments(devices, np.full(len(devices), 1 / len(devices)))
            prior = cls(mean, _loosened(spread + uncertain), devices)
        return prior

    def like(self, kinship: Array) -> Weights:
        """Of a device that resembles the known ones so much.

        Args:
            kinship: shares, shape (devices,).
        """
        if not len(self.devices):
            return self
        mean, spread = _moments(self.devices, kinship)
        return Weights(mean, (1 - _NO_KIN) * _loosened(spread) + _NO_KIN * self.covariance, self.devices)

    def most_probable(self, parts: Array, target: Array, precision: Array, start: Array | None = None) -> Array:
        """The most probable weights after samples, by Gauss-Newton steps; shape (parts,).

        Args:
            parts: of the samples, shape (n, parts).
            target: logarithms of their latencies, shape (n,).
            precision: inverse covariance of what the sum leaves, shape (n, n), or () if it is the same for each.
            start: where to begin.
        """
        inverse = self._inverse

        def improbability(weights: Array) -> float:
            left, moved = target - log_sum(parts, weights)[0], weights - self.mean
            return float(left @ _times(precision, left) + moved @ inverse @ moved)

        weights = self.mean + np.median(target - log_sum(parts, self.mean)[0]) if start is None else start
        now = improbability(weights)
        for _ in range(_STEPS):
            middle, shares = log_sum(parts, weights)
            towards = shares.T @ _times(precision, target - middle) - inverse @ (weights - self.mean)
            step = np.linalg.solve(shares.T @ _times(precision, shares) + inverse, towards)
            length = 1.0
            while (then := improbability(weights + length * step)) > now and length > 1e-3:
                length /= 2
            if then > now - _ENOUGH:
                break
            weights, now = weights + length * step, then
        return weights

    @cached_property
    def _inverse(self) -> Array:
        return np.linalg.inv(self.covariance)

    def _posterior_covariance(self, parts: Array, weights: Array, precision: Array) -> Array:
        _, shares = log_sum(parts, weights)
        covariance: Array = np.linalg.inv(shares.T @ _times(precision, shares) + self._inverse)
        return covariance


def _moments(devices: Array, counts: Array) -> tuple[Array, Array]:
    """Mean and covariance of rows that count so much."""
    mean = counts @ devices
    apart = devices - mean
    return mean, (apart * counts[:, None]).T @ apart


def _loosened(spread: Array) -> Array:
    """A prior covariance from that of few devices."""
    own = np.diag(_OWN * np.diag(spread) + _NEW)
    loosened: Array = (1 - _OWN) * spread + own + _FACTOR**2
    return loosened


def _times(precision: Array, values: Array) -> Array:
    product: Array = precision @ values if precision.ndim else precision * values
    return product
