"""Regression of latencies over orders of magnitude: the logarithm of a sum of positive parts, and what it leaves.

The parts are what the known devices take, and physical costs. A device is a weight for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from blsm._types import Array
from blsm.errors import FitError
from blsm.transfer.design import a_optimal
from blsm.transfer.pool import DevicePool
from blsm.transfer.ridge import Standard

#: Deviation of the logarithm of a weight, and of a factor that all of them have in common.
_WEIGHT, _FACTOR = 4.5, 4.0
#: What the sum leaves, variances of log latency: an offset of a family, something that goes with how the known devices
#: differ, and something that is alike for blocks whose work is of like kinds and amount.
_OFFSET, _RATIO, _MIX = 0.002, 0.005, 0.04
#: Variance of the errors, likewise.
_NOISE = 0.006
#: Distances at which blocks are alike no more: of square roots of shares of work, and of standardised amounts.
_SHARES_APART, _AMOUNTS_APART = 0.45, 2.0
#: Steps of the search for the most probable weights, and when it ends: by so little more probable.
_STEPS, _ENOUGH = 30, 1e-6
#: An amount of nothing, in any unit.
_NOTHING = 1e-200


@dataclass(frozen=True)
class Inputs:
    """What the regression reads of n encodings.

    Attributes:
        parts: logarithms, shape (n, parts).
        families: one-hot, shape (n, families).
        ratios: how the known devices differ; a row has a squared length of about 1.
        mixes: what kinds of work there are, and how much of it.
    """

    parts: Array
    families: Array
    ratios: Array
    mixes: Array

    def residual_covariance(self, other: Inputs) -> Array:
        """Prior covariance of what the sums leave."""
        lengths = np.square(self.mixes).sum(axis=1)[:, None] + np.square(other.mixes).sum(axis=1)
        alike = np.exp(-0.5 * np.maximum(lengths - 2 * self.mixes @ other.mixes.T, 0.0))
        offsets = _OFFSET * self.families @ other.families.T
        covariance: Array = offsets + _RATIO * self.ratios @ other.ratios.T + _MIX * alike
        return covariance

    def residual_variance(self) -> Array:
        """The diagonal of `residual_covariance` with itself."""
        variance: Array = _OFFSET + _RATIO * np.square(self.ratios).sum(axis=1) + _MIX
        return variance


@dataclass(frozen=True)
class LogSumSpace:
    """The parts of a pool, and what is known of their weights beforehand.

    Beforehand, the known devices together make up the latency, and so do the costs, each an equal share of it.

    Attributes:
        costs, families: columns of the encoding.
        ratios: standard of the logarithms of known latencies over their geometric mean.
        amounts: standard of the logarithm of that mean.
        start: logarithms of the parts' weights beforehand, shape (parts,).
    """

    costs: Array
    families: Array
    ratios: Standard
    amounts: Standard
    start: Array

    @classmethod
    def of(cls, pool: DevicePool, known_ms: Array) -> Self:
        """The space of a pool whose known devices take `known_ms`, shape (n, devices)."""
        costs = pool.columns("physical")
        amounts = pool.encodings[:, costs]
        positive = (amounts >= 0).all(axis=0) & (amounts > 0).any(axis=0)
        costs, amounts = costs[positive], amounts[:, positive]
        mean_ms = np.exp(_log_mean(known_ms)[:, 0])
        equal = [-np.log(len(costs) * np.median(amount[amount > 0] / mean_ms[amount > 0])) for amount in amounts.T]
        ratios = Standard.of(_log_ratios(known_ms)).of_length_one(_log_ratios(known_ms))
        devices = known_ms.shape[1]
        start = np.concatenate([np.full(devices, -np.log(devices)), equal])
        return cls(costs, pool.columns("family"), ratios, Standard.of(_log_mean(known_ms)), start)

    def inputs(self, encodings: Array, known_ms: Array) -> Inputs:
        """What the regression reads."""
        parts = np.log(np.maximum(np.hstack([known_ms, encodings[:, self.costs]]), _NOTHING))
        families = encodings[:, self.families] if len(self.families) else np.ones((len(encodings), 1))
        # The distance of square roots of shares is Hellinger's, of distributions.
        work, beforehand = parts[:, known_ms.shape[1] :], self.start[known_ms.shape[1] :]
        shares = _log_sum(work, beforehand)[1] if len(beforehand) else work
        mixes = np.hstack([np.sqrt(shares) / _SHARES_APART, self.amounts(_log_mean(known_ms)) / _AMOUNTS_APART])
        return Inputs(parts, families, self.ratios(_log_ratios(known_ms)), mixes)

    @property
    def weights_covariance(self) -> Array:
        """Prior covariance of the logarithms of the weights."""
        return _WEIGHT**2 * np.eye(len(self.start)) + _FACTOR**2

    def references(self, encodings: Array, known_ms: Array, count: int) -> Array:
        """Rows to measure."""
        inputs = self.inputs(encodings, known_ms)
        _, shares = _log_sum(inputs.parts, self.start)
        covariance = shares @ self.weights_covariance @ shares.T + inputs.residual_covariance(inputs)
        return a_optimal(covariance, count, _NOISE)

    def fit(self, encodings: Array, known_ms: Array, latencies_ms: Array, seed: int = 0) -> LogSum:
        """The most probable weights after samples, by Gauss-Newton steps; what is left is a Gaussian process.

        Args:
            encodings: of the samples.
            known_ms: what the known devices take for them, shape (samples, devices).
            latencies_ms: of the samples.
            seed: there is nothing random in it.
        """
        inputs, target = self.inputs(encodings, known_ms), np.log(latencies_ms)
        residual = inputs.residual_covariance(inputs) + _NOISE * np.eye(len(target))
        precision, covariance = np.linalg.inv(residual), self.weights_covariance
        weight_precision = np.linalg.inv(covariance)

        def improbability(weights: Array) -> float:
            left, moved = target - _log_sum(inputs.parts, weights)[0], weights - self.start
            return float(left @ precision @ left + moved @ weight_precision @ moved)

        weights = self.start + np.median(target - _log_sum(inputs.parts, self.start)[0])
        now = improbability(weights)
        for _ in range(_STEPS):
            middle, shares = _log_sum(inputs.parts, weights)
            gain = np.linalg.solve(shares @ covariance @ shares.T + residual, shares @ covariance)
            step = self.start + (target - middle + shares @ (weights - self.start)) @ gain - weights
            length = 1.0
            while (then := improbability(weights + length * step)) > now and length > 1e-3:
                length /= 2
            if then > now - _ENOUGH:
                break
            weights, now = weights + length * step, then
        middle, shares = _log_sum(inputs.parts, weights)
        root = np.linalg.inv(np.linalg.cholesky(shares @ covariance @ shares.T + residual))
        return LogSum(self, weights, encodings, known_ms, precision @ (target - middle), root)

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        names = ("costs", "families", "start")
        standards = {"ratio": self.ratios, "amount": self.amounts}
        return {
            **{name: np.asarray(getattr(self, name)) for name in names},
            **{f"{name}_mean": standard.mean for name, standard in standards.items()},
            **{f"{name}_scale": standard.scale for name, standard in standards.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else.

        Raises:
            FitError: an earlier blsm made them, whose regression was another one.
        """
        if "shapes" in arrays:
            raise FitError("its block_prior is that of an earlier blsm: run `blsm transfer` again")
        ratios, amounts = (Standard(arrays[f"{name}_mean"], arrays[f"{name}_scale"]) for name in ("ratio", "amount"))
        return cls(arrays["costs"], arrays["families"], ratios, amounts, arrays["start"])


@dataclass(frozen=True)
class LogSum:
    """What is known of a device after samples.

    Attributes:
        space: of the pool.
        weights: logarithms, the most probable ones, shape (parts,).
        encodings, known_ms: of the samples.
        dual: precision of what the sums leave, times it, shape (samples,).
        root: inverse of the Cholesky factor of the samples' covariance.
    """

    space: LogSumSpace
    weights: Array
    encodings: Array
    known_ms: Array
    dual: Array
    root: Array

    def predict(self, encodings: Array, known_ms: Array) -> Array:
        """Milliseconds, shape (n,)."""
        inputs, samples = self._inputs(encodings, known_ms)
        middle, _ = _log_sum(inputs.parts, self.weights)
        latencies_ms: Array = np.exp(middle + inputs.residual_covariance(samples) @ self.dual)
        return latencies_ms

    def intervals(self, encodings: Array, known_ms: Array, deviations: float) -> tuple[Array, Array]:
        """So many standard deviations below and above, milliseconds, each of shape (n,)."""
        inputs, samples = self._inputs(encodings, known_ms)
        shares, of_samples = (_log_sum(rows.parts, self.weights)[1] for rows in (inputs, samples))
        weighted = shares @ self.space.weights_covariance
        before = (weighted * shares).sum(axis=1) + inputs.residual_variance()
        explained = (weighted @ of_samples.T + inputs.residual_covariance(samples)) @ self.root.T
        variance = np.maximum(before - np.square(explained).sum(axis=1), 0.0) + _NOISE
        factor = np.exp(deviations * np.sqrt(variance))
        middle_ms = self.predict(encodings, known_ms)
        return middle_ms / factor, middle_ms * factor

    def _inputs(self, encodings: Array, known_ms: Array) -> tuple[Inputs, Inputs]:
        return self.space.inputs(encodings, known_ms), self.space.inputs(self.encodings, self.known_ms)

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        names = ("weights", "encodings", "known_ms", "dual", "root")
        return {**self.space.to_arrays(), **{f"sample_{name}": getattr(self, name) for name in names}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else."""
        names = ("weights", "encodings", "known_ms", "dual", "root")
        return cls(LogSumSpace.from_arrays(arrays), *(arrays[f"sample_{name}"] for name in names))


def _log_sum(parts: Array, weights: Array) -> tuple[Array, Array]:
    """The logarithm of the weighted sum of parts, shape (n,), and each part's share of it, shape (n, parts)."""
    weighted = parts + weights
    largest = weighted.max(axis=1, keepdims=True)
    shares = np.exp(weighted - largest)
    total = shares.sum(axis=1, keepdims=True)
    return (largest + np.log(total))[:, 0], shares / total


def _log_mean(known_ms: Array) -> Array:
    """The logarithm of the geometric mean of the known devices, shape (n, 1)."""
    mean: Array = np.log(known_ms).mean(axis=1, keepdims=True)
    return mean


def _log_ratios(known_ms: Array) -> Array:
    ratios: Array = np.log(known_ms) - _log_mean(known_ms)
    return ratios
