"""Linear regression on several tables of features, each trusted as far as few samples say.

It is a Gaussian process with a sum of linear kernels, whose amplitudes are integrated over, not chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from blsm._types import Array

#: Amplitudes (variance that a table explains, in units of the samples' variance) are drawn log-uniformly in this range.
_AMPLITUDES = (1e-3, 30.0)
#: A table is left out altogether in this share of the draws.
_LEFT_OUT = 0.1
#: Variance of the noise, likewise.
_NOISE = (1e-4, 1.0)
#: The level is known this well before the samples, in units of their variance.
_LEVEL = 1.0
_DRAWS = 400
#: Draws that are kept for the variance of predictions.
_KEPT = 32
#: Errors are of Student's t distribution with these degrees of freedom, by reweighting.
_FREEDOM, _REWEIGHTINGS = 4.0, 3


@dataclass(frozen=True)
class Posterior:
    """What is known after the samples.

    Attributes:
        level: mean of the samples.
        scale: their standard deviation.
        constant: of the posterior mean, in units of `scale`.
        coefficients: posterior means, tables side by side, in units of `scale`, shape (k,).
        noise: variance of the errors, in the target's units.
        samples: features of the samples, shape (samples, k).
        widths: columns of each table.
        amplitudes: kept draws, shape (kept, tables).
        roots: inverses of the Cholesky factors of the samples' covariance, shape (kept, samples, samples).
    """

    level: float
    scale: float
    constant: float
    coefficients: Array
    noise: float
    samples: Array
    widths: tuple[int, ...]
    amplitudes: Array
    roots: Array

    def predict(self, features: Array) -> Array:
        """Posterior mean of rows of features, tables side by side, shape (n,)."""
        result: Array = self.level + self.scale * (features @ self.coefficients + self.constant)
        return result

    def variance(self, features: Array) -> Array:
        """Posterior variance of single measurements, noise included, shape (n,)."""
        stops = np.cumsum(self.widths)
        tables = [slice(stop - width, stop) for stop, width in zip(stops, self.widths, strict=True)]
        cross = np.array([features[:, table] @ self.samples[:, table].T for table in tables])
        own = np.array([np.square(features[:, table]).sum(axis=1) for table in tables])
        explained = np.zeros(len(features))
        for amplitudes, root in zip(self.amplitudes, self.roots, strict=True):
            covariance = np.tensordot(amplitudes, cross, axes=1) + _LEVEL
            before = amplitudes @ own + _LEVEL
            explained += before - np.square(covariance @ root.T).sum(axis=1)
        result: Array = self.scale**2 * np.maximum(explained, 0.0) / len(self.roots) + self.noise
        return result

    def left_out(self, target: Array) -> Array:
        """What the other samples say of each sample, in the target's units, shape (samples,).

        In closed form (Rasmussen and Williams 2006, Equation 5.12): amplitudes and level stay as they are.

        Args:
            target: that this was fitted to.
        """
        standard = (target - self.level) / self.scale
        duals = np.einsum("mji,mj->mi", self.roots, self.roots @ standard)
        errors = duals / np.square(self.roots).sum(axis=1)
        result: Array = target - self.scale * errors.mean(axis=0)
        return result

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        numbers = np.array([self.level, self.scale, self.constant, self.noise])
        names = ("coefficients", "samples", "amplitudes", "roots")
        return {"numbers": numbers, "widths": np.array(self.widths), **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError or ValueError for anything else."""
        level, scale, constant, noise = arrays["numbers"].tolist()
        return cls(
            level,
            scale,
            constant,
            arrays["coefficients"],
            noise,
            arrays["samples"],
            tuple(arrays["widths"].tolist()),
            arrays["amplitudes"],
            arrays["roots"],
        )


def fit(tables: Sequence[Array], target: Array, seed: int) -> Posterior:
    """Regression of the target on all tables.

    With features z_t of table t, the prior is target ~ level + sum_t z_t w_t + error, w_t ~ N(0, a_t), and the result
    is the average over many draws of all a_t and of the noise, weighted by the marginal likelihood of the samples
    (Rasmussen and Williams 2006, Equation 5.8, as importance weights instead of an objective). Outliers count less:
    errors are taken for Student's t by reweighting (Lange et al. 1989).

    Args:
        tables: features, each of shape (samples, any); a row has a squared length of about 1.
        target: shape (samples,).
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    amplitudes = _log_uniform(random, _AMPLITUDES, (_DRAWS, len(tables)))
    amplitudes[random.random(amplitudes.shape) < _LEFT_OUT] = 0.0
    noise = _log_uniform(random, _NOISE, (_DRAWS,))
    kernels = np.array([table @ table.T for table in tables])
    level = float(target.mean())
    # Equal samples say that errors are small, not that they are none.
    scale = float(target.std()) or 1e-3 * abs(level) or 1.0
    standard = (target - level) / scale
    covariances = np.tensordot(amplitudes, kernels, axes=1) + _LEVEL
    spread = np.ones(len(target))
    for _ in range(1 + _REWEIGHTINGS):
        errors = noise[:, None, None] * np.diag(spread)
        factors = np.linalg.cholesky(covariances + errors)
        roots = np.linalg.inv(factors)
        whitened = roots @ standard
        log_determinant = 2 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        log_likelihood = -0.5 * (np.square(whitened).sum(axis=1) + log_determinant)
        weights = np.exp(log_likelihood - log_likelihood.max())
        weights /= weights.sum()
        duals = np.einsum("mji,mj->mi", roots, whitened)
        constant = float(_LEVEL * (weights @ duals).sum())
        means = [(weights * amplitude) @ duals for amplitude in amplitudes.T]
        fitted = constant + np.einsum("tij,tj->i", kernels, np.array(means))
        mean_noise = float(weights @ noise)
        spread = (_FREEDOM + np.square(standard - fitted) / mean_noise) / (_FREEDOM + 1)
    kept = _resample(weights, _KEPT)
    return Posterior(
        level,
        scale,
        constant,
        np.concatenate([table.T @ mean for table, mean in zip(tables, means, strict=True)]),
        scale**2 * mean_noise,
        np.hstack(tables),
        tuple(table.shape[1] for table in tables),
        amplitudes[kept],
        roots[kept],
    )


def _log_uniform(random: np.random.Generator, bounds: tuple[float, float], shape: tuple[int, ...]) -> Array:
    low, high = np.log(bounds)
    draws: Array = np.exp(random.uniform(low, high, shape))
    return draws


def _resample(weights: Array, count: int) -> Array:
    """Indices of draws as often as their weights say, by systematic resampling."""
    positions = (np.arange(count) + 0.5) / count
    return np.minimum(np.searchsorted(np.cumsum(weights), positions), len(weights) - 1)
