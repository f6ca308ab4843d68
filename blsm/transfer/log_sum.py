"""Regression of latencies over orders of magnitude: the logarithm of a sum of positive parts, and what it leaves.

The parts are costs, or what the known devices take and costs. A device is a weight for each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from blsm._types import Array
from blsm.transfer.design import a_optimal
from blsm.transfer.pool import DevicePool
from blsm.transfer.ridge import Standard
from blsm.transfer.weights import Weights, log_sum

#: What the sum leaves, variances of log latency: an offset of a family, something that goes with what the known devices
#: leave, and something that is alike for blocks whose work is of like kinds and amount.
_OFFSET, _RATIO, _MIX = 0.002, 0.015, 0.01
#: Variance of the errors, likewise.
_NOISE = 0.005
#: Distances at which blocks are alike no more: of square roots of shares of work, and of standardised amounts.
_SHARES_APART, _AMOUNTS_APART = 0.45, 2.0
#: An amount of nothing, in any unit.
_NOTHING = 1e-200
#: What is kept of weights, and of what is known after samples.
_WEIGHTS = ("mean", "covariance", "devices")
_SAMPLES = ("weights", "kinship", "encodings", "known_ms", "dual", "root")


@dataclass(frozen=True)
class Inputs:
    """What the regression reads of n encodings.

    Attributes:
        parts: logarithms, shape (n, parts).
        families: one-hot, shape (n, families).
        ratios: what the known devices leave; a row has a squared length of about 1.
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

    Attributes:
        costs, families: columns of the encoding.
        weights: of the parts: the known devices, if they are parts, and the costs.
        ratios: standard of what the known devices leave.
        amounts: standard of the logarithm of the geometric mean of the known devices.
    """

    costs: Array
    families: Array
    weights: Weights
    ratios: Standard
    amounts: Standard

    @classmethod
    def of_known(cls, pool: DevicePool, known_ms: Array) -> Self:
        """Parts are the known devices, which take `known_ms`, shape (n, devices), and the costs of a pool.

        Beforehand, the known devices together make up the latency, and so do the costs, each an equal share of it.
        """
        costs = _positive(pool, "physical")
        devices = known_ms.shape[1]
        start = np.concatenate([np.full(devices, -np.log(devices)), _equal_shares(pool.encodings[:, costs], known_ms)])
        return cls._standardised(pool, known_ms, costs, Weights.unknown(start))

    @classmethod
    def of_costs(cls, pool: DevicePool, known_ms: Array) -> Self | None:
        """Parts are the costs alone, as finely divided as the pool has them, and the known devices say what their
        weights are like; None if it has none."""
        costs = _positive(pool, "terms")
        costs = costs if len(costs) else _positive(pool, "physical")
        if not len(costs):
            return None
        amounts = pool.encodings[:, costs]
        weights = Weights.learned(_log(amounts), np.log(known_ms), _equal_shares(amounts, known_ms))
        return cls._standardised(pool, known_ms, costs, weights)

    @classmethod
    def _standardised(cls, pool: DevicePool, known_ms: Array, costs: Array, weights: Weights) -> Self:
        left = _left(weights, _log(pool.encodings[:, costs]), known_ms)
        # Not standardised each: a known device that leaves more of its own tells more.
        ratios = Standard(left.mean(axis=0), np.ones(left.shape[1])).of_length_one(left)
        return cls(costs, pool.columns("family"), weights, ratios, Standard.of(_log_mean(known_ms)))

    def inputs(self, encodings: Array, known_ms: Array, kinship: Array | None = None) -> Inputs:
        """What the regression reads, of a device that resembles the known ones so much, shares; alike by default."""
        costs = _log(encodings[:, self.costs])
        takes_known = len(self.weights.mean) > len(self.costs)
        parts = np.hstack([np.log(known_ms), costs]) if takes_known else costs
        families = encodings[:, self.families] if len(self.families) else np.ones((len(encodings), 1))
        # The distance of square roots of shares is Hellinger's, of distributions.
        beforehand = self.weights.mean[len(self.weights.mean) - len(self.costs) :]
        shares = log_sum(costs, beforehand)[1] if len(beforehand) else costs
        mixes = np.hstack([np.sqrt(shares) / _SHARES_APART, self.amounts(_log_mean(known_ms)) / _AMOUNTS_APART])
        ratios = self.ratios(_left(self.weights, costs, known_ms))
        if kinship is not None:
            ratios = ratios * np.sqrt(len(kinship) * kinship)
        return Inputs(parts, families, ratios, mixes)

    def references(self, encodings: Array, known_ms: Array, count: int, kinds: Array | None = None) -> Array:
        """Rows to measure: so many of each kind, those that together tell most of all."""
        inputs = self.inputs(encodings, known_ms)
        _, shares = log_sum(inputs.parts, self.weights.mean)
        covariance = shares @ self.weights.covariance @ shares.T + inputs.residual_covariance(inputs)
        return a_optimal(covariance, count, _NOISE, kinds)

    def fit(self, encodings: Array, known_ms: Array, latencies_ms: Array) -> LogSum:
        """The most probable weights after samples; what is left is a Gaussian process.

        Args:
            encodings: of the samples.
            known_ms: what the known devices take for them, shape (samples, devices).
            latencies_ms: of the samples.
        """
        kinship = _kinship(known_ms, latencies_ms)
        inputs, target = self.inputs(encodings, known_ms, kinship), np.log(latencies_ms)
        residual = inputs.residual_covariance(inputs) + _NOISE * np.eye(len(target))
        precision, prior = np.linalg.inv(residual), self.weights.like(kinship)
        weights = prior.most_probable(inputs.parts, target, precision)
        middle, shares = log_sum(inputs.parts, weights)
        root = np.linalg.inv(np.linalg.cholesky(shares @ prior.covariance @ shares.T + residual))
        return LogSum(self, weights, kinship, encodings, known_ms, precision @ (target - middle), root)

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        standards = {"ratio": self.ratios, "amount": self.amounts}
        return {
            "costs": self.costs,
            "families": self.families,
            **{f"weight_{name}": getattr(self.weights, name) for name in _WEIGHTS},
            **{f"{name}_mean": standard.mean for name, standard in standards.items()},
            **{f"{name}_scale": standard.scale for name, standard in standards.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else."""
        weights = Weights(*(arrays[f"weight_{name}"] for name in _WEIGHTS))
        ratios, amounts = (Standard(arrays[f"{name}_mean"], arrays[f"{name}_scale"]) for name in ("ratio", "amount"))
        return cls(arrays["costs"], arrays["families"], weights, ratios, amounts)


@dataclass(frozen=True)
class LogSum:
    """What is known of a device after samples.

    Attributes:
        space: of the pool.
        weights: logarithms, the most probable ones, shape (parts,).
        kinship: how much it resembles the known devices, shares, shape (devices,).
        encodings, known_ms: of the samples.
        dual: precision of what the sums leave, times it, shape (samples,).
        root: inverse of the Cholesky factor of the samples' covariance.
    """

    space: LogSumSpace
    weights: Array
    kinship: Array
    encodings: Array
    known_ms: Array
    dual: Array
    root: Array

    def predict(self, encodings: Array, known_ms: Array) -> Array:
        """Logarithms of milliseconds, shape (n,)."""
        inputs = self.space.inputs(encodings, known_ms, self.kinship)
        middle, _ = log_sum(inputs.parts, self.weights)
        logarithms: Array = middle + inputs.residual_covariance(self._samples) @ self.dual
        return logarithms

    def variance(self, encodings: Array, known_ms: Array) -> Array:
        """Variances of the logarithms of what will be measured, shape (n,)."""
        inputs = self.space.inputs(encodings, known_ms, self.kinship)
        shares, of_samples = (log_sum(rows.parts, self.weights)[1] for rows in (inputs, self._samples))
        weighted = shares @ self.space.weights.like(self.kinship).covariance
        before = (weighted * shares).sum(axis=1) + inputs.residual_variance()
        explained = (weighted @ of_samples.T + inputs.residual_covariance(self._samples)) @ self.root.T
        variance: Array = np.maximum(before - np.square(explained).sum(axis=1), 0.0) + _NOISE
        return variance

    @cached_property
    def _samples(self) -> Inputs:
        return self.space.inputs(self.encodings, self.known_ms, self.kinship)

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        return {**self.space.to_arrays(), **{f"sample_{name}": getattr(self, name) for name in _SAMPLES}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else."""
        return cls(LogSumSpace.from_arrays(arrays), *(arrays[f"sample_{name}"] for name in _SAMPLES))


def _positive(pool: DevicePool, group: str) -> Array:
    """The columns of a group that can be parts of a sum."""
    columns = pool.columns(group)
    amounts = pool.encodings[:, columns]
    found: Array = columns[(amounts >= 0).all(axis=0) & (amounts > 0).any(axis=0)]
    return found


def _equal_shares(amounts: Array, known_ms: Array) -> Array:
    """Weights by which each of the amounts makes up an equal share of what the known devices take."""
    mean_ms = np.exp(_log_mean(known_ms)[:, 0])
    usual = [np.median(amount[amount > 0] / mean_ms[amount > 0]) for amount in amounts.T]
    weights: Array = -np.log(len(usual) * np.array(usual))
    return weights


def _left(weights: Weights, costs: Array, known_ms: Array) -> Array:
    """What the known devices leave: of their own sums, or of their mean if there are none, shape (n, devices)."""
    if not len(weights.devices):
        return np.log(known_ms) - _log_mean(known_ms)
    left: Array = np.log(known_ms) - np.column_stack([log_sum(costs, row)[0] for row in weights.devices])
    return left


def _kinship(known_ms: Array, latencies_ms: Array) -> Array:
    """How much a device resembles each known one, shares: the less their ratio varies, the more; shape (devices,)."""
    variance = np.var(np.log(latencies_ms)[:, None] - np.log(known_ms), axis=0)
    closeness = 1 / (variance + _NOISE)
    shares: Array = closeness / closeness.sum()
    return shares


def _log(amounts: Array) -> Array:
    logarithms: Array = np.log(np.maximum(amounts, _NOTHING))
    return logarithms


def _log_mean(known_ms: Array) -> Array:
    """The logarithm of the geometric mean of the known devices, shape (n, 1)."""
    mean: Array = np.log(known_ms).mean(axis=1, keepdims=True)
    return mean
