"""Regression of latencies over orders of magnitude: the logarithm of a sum of positive parts, and what it leaves.

The parts are what the known devices take, and physical costs. A device is a weight for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from blsm._types import Array
from blsm.transfer.pool import DevicePool
from blsm.transfer.ridge import Standard

#: Deviation of the logarithm of a weight, and of a factor that all of them have in common.
_WEIGHT, _FACTOR = 3.0, 3.0
#: What the sum leaves, variances of log latency: an offset of a family, something that is alike for blocks of like
#: shape, and something that goes with how the known devices differ.
_OFFSET, _SHAPE, _RATIO = 0.01, 0.003, 0.003
#: Variance of the errors, likewise.
_NOISE = 0.003
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
        shapes: a row has a squared length of about 1.
        ratios: how the known devices differ, likewise.
    """

    parts: Array
    families: Array
    shapes: Array
    ratios: Array

    def residual_covariance(self, other: Inputs) -> Array:
        """Prior covariance of what the sums leave."""
        lengths = np.square(self.shapes).sum(axis=1)[:, None] + np.square(other.shapes).sum(axis=1)
        alike = np.exp(-0.5 * np.maximum(lengths - 2 * self.shapes @ other.shapes.T, 0.0))
        within = _OFFSET + _SHAPE * alike + _RATIO * self.ratios @ other.ratios.T
        covariance: Array = (self.families @ other.families.T) * within
        return covariance

    def residual_variance(self) -> Array:
        """The diagonal of `residual_covariance` with itself."""
        variance: Array = _OFFSET + _SHAPE + _RATIO * np.square(self.ratios).sum(axis=1)
        return variance


@dataclass(frozen=True)
class LogSumSpace:
    """The parts of a pool, and what is known of their weights beforehand.

    Beforehand, the known devices together make up the latency, and so do the costs, each an equal share of it.

    Attributes:
        costs, families, shapes: columns of the encoding.
        scale: of the shapes' rows.
        ratios: standard of the logarithms of known latencies over their geometric mean.
        start: logarithms of the parts' weights beforehand, shape (parts,).
    """

    costs: Array
    families: Array
    shapes: Array
    scale: float
    ratios: Standard
    start: Array

    @classmethod
    def of(cls, pool: DevicePool, known_ms: Array) -> Self:
        """The space of a pool whose known devices take `known_ms`, shape (n, devices)."""
        costs = pool.columns("physical")
        amounts = pool.encodings[:, costs]
        positive = (amounts >= 0).all(axis=0) & (amounts > 0).any(axis=0)
        costs, amounts = costs[positive], amounts[:, positive]
        mean_ms = np.exp(np.log(known_ms).mean(axis=1))
        equal = [-np.log(len(costs) * np.median(amount[amount > 0] / mean_ms[amount > 0])) for amount in amounts.T]
        shapes = pool.columns("vec")
        scale = float(np.sqrt(np.square(pool.encodings[:, shapes]).sum(axis=1).mean())) or 1.0
        ratios = Standard.of(_log_ratios(known_ms)).of_length_one(_log_ratios(known_ms))
        devices = known_ms.shape[1]
        start = np.concatenate([np.full(devices, -np.log(devices)), equal])
        return cls(costs, pool.columns("family"), shapes, scale, ratios, start)

    def inputs(self, encodings: Array, known_ms: Array) -> Inputs:
        """What the regression reads."""
        amounts = np.hstack([known_ms, encodings[:, self.costs]])
        families = encodings[:, self.families] if len(self.families) else np.ones((len(encodings), 1))
        shapes = encodings[:, self.shapes] / self.scale
        return Inputs(np.log(np.maximum(amounts, _NOTHING)), families, shapes, self.ratios(_log_ratios(known_ms)))

    @property
    def weights_covariance(self) -> Array:
        """Prior covariance of the logarithms of the weights."""
        return _WEIGHT**2 * np.eye(len(self.start)) + _FACTOR**2

    def references(self, encodings: Array, known_ms: Array, count: int) -> Array:
        """Rows to measure: each time the one that reduces the variance of all rows' latencies most (A-optimal)."""
        inputs = self.inputs(encodings, known_ms)
        _, shares = _log_sum(inputs.parts, self.start)
        remaining = shares @ self.weights_covariance @ shares.T + inputs.residual_covariance(inputs)
        rows: list[int] = []
        for _ in range(count):
            reduction = np.square(remaining).sum(axis=0) / (np.diag(remaining) + _NOISE)
            reduction[rows] = -np.inf
            row = int(np.argmax(reduction))
            rows.append(row)
            remaining = remaining - np.outer(remaining[row], remaining[row]) / (remaining[row, row] + _NOISE)
        return np.array(rows)

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
        names = ("costs", "families", "shapes", "scale", "start")
        ratios = {"ratio_mean": self.ratios.mean, "ratio_scale": self.ratios.scale}
        return {**{name: np.asarray(getattr(self, name)) for name in names}, **ratios}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else."""
        costs, families, shapes = (arrays[name] for name in ("costs", "families", "shapes"))
        ratios = Standard(arrays["ratio_mean"], arrays["ratio_scale"])
        return cls(costs, families, shapes, float(arrays["scale"]), ratios, arrays["start"])


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


def _log_ratios(known_ms: Array) -> Array:
    logs = np.log(known_ms)
    ratios: Array = logs - logs.mean(axis=1, keepdims=True)
    return ratios
