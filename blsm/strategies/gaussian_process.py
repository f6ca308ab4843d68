"""A small exact Gaussian process, for some hundred observations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from blsm._types import Array

#: Standard deviations of the priors on the logarithms of amplitudes, lengths and noise; wide, but not flat: with few
#: observations the likelihood alone is happy with any of them.
_PRIOR_AMPLITUDE, _PRIOR_LENGTH, _PRIOR_NOISE = 1.0, 0.7, 1.5
_NOISE = math.log(0.1)
_BOUND = 3.0
#: Targets that are all alike: accuracies that a prior has foretold.
_LEAST_SCALE = 1e-3
_JITTER = 1e-8


class GaussianProcess:
    """Regression with a sum of Matern-5/2 kernels, one for each group of features.

    Each group has an amplitude and a length of its own; with the noise they maximise the posterior of the observations
    (Rasmussen and Williams 2006, Equation 5.8 for the likelihood, 2.25 and 2.26 for the prediction). Targets are
    standardised.

    Args:
        features: one array for each group, shape (n, features of the group).
        targets: shape (n,).
    """

    def __init__(self, features: Sequence[Array], targets: Array) -> None:
        self._features = list(features)
        self._offset = float(np.mean(targets))
        self._scale = max(float(np.std(targets)), _LEAST_SCALE)
        self._targets = (targets - self._offset) / self._scale
        squares = [_square_distances(group, group) for group in self._features]
        self._parameters = self._fit(squares)
        _, self._lower, self._weights = self._solve(squares, self._parameters)

    def predict(self, features: Sequence[Array]) -> tuple[Array, Array]:
        """Mean and standard deviation, noise not included.

        Args:
            features: one array for each group, shape (m, features of the group).

        Returns:
            Two arrays of shape (m,).
        """
        from scipy.linalg import solve_triangular

        cross = np.zeros((len(features[0]), len(self._targets)))
        variance = 0.0
        for group, (known, asked) in enumerate(zip(self._features, features, strict=True)):
            amplitude, length = np.exp(self._parameters[2 * group : 2 * group + 2])
            cross += amplitude * _matern(_square_distances(asked, known) / length**2)
            variance += amplitude
        mean = cross @ self._weights
        solved = solve_triangular(self._lower, cross.T, lower=True, check_finite=False)
        deviation = np.sqrt(np.maximum(variance - np.sum(solved**2, axis=0), 1e-12))
        return self._offset + self._scale * mean, self._scale * deviation

    def with_observations(self, features: Sequence[Array], targets: Array) -> GaussianProcess:
        """The same process, lengths and all, with more observations."""
        more = object.__new__(GaussianProcess)
        more._offset, more._scale, more._parameters = self._offset, self._scale, self._parameters
        more._features = [np.concatenate(pair) for pair in zip(self._features, features, strict=True)]
        more._targets = np.concatenate([self._targets, (targets - self._offset) / self._scale])
        squares = [_square_distances(group, group) for group in more._features]
        _, more._lower, more._weights = more._solve(squares, more._parameters)
        return more

    def _fit(self, squares: list[Array]) -> Array:
        """Logarithms of (amplitude, length) of each group, and of the noise."""
        from scipy.optimize import minimize

        start = []
        for square in squares:
            typical = math.sqrt(float(np.median(square[square > 0]))) if np.any(square > 0) else 1.0
            start += [math.log(1 / len(squares)), math.log(typical)]
        start.append(_NOISE)
        center = np.array(start)
        deviations = np.array([_PRIOR_AMPLITUDE, _PRIOR_LENGTH] * len(squares) + [_PRIOR_NOISE])

        def loss(parameters: Array) -> tuple[float, Array]:
            value, gradient = self._likelihood(squares, parameters)
            pull = (parameters - center) / deviations
            return value + 0.5 * float(pull @ pull), gradient + pull / deviations

        bounds = [(value - _BOUND, value + _BOUND) for value in center]
        found = minimize(loss, center, jac=True, bounds=bounds, method="L-BFGS-B", options={"maxiter": 40})
        return np.asarray(found.x)

    def _likelihood(self, squares: list[Array], parameters: Array) -> tuple[float, Array]:
        """Negative logarithm of the marginal likelihood, and its gradient."""
        from scipy.linalg.lapack import dpotri

        parts, lower, weights = self._solve(squares, parameters)
        value = 0.5 * float(self._targets @ weights) + float(np.sum(np.log(np.diag(lower))))
        # Only the lower triangle is written.
        triangle = np.tril(dpotri(lower, lower=1)[0])
        inner = np.outer(weights, weights) - triangle - np.tril(triangle, -1).T
        gradient = []
        for group, square in enumerate(squares):
            amplitude, length = np.exp(parameters[2 * group : 2 * group + 2])
            scaled = square / length**2
            root = np.sqrt(5 * scaled)
            slope = amplitude * (5 / 3) * scaled * (1 + root) * np.exp(-root)
            gradient += [-0.5 * np.sum(inner * parts[group]), -0.5 * np.sum(inner * slope)]
        gradient.append(-0.5 * float(np.trace(inner)) * 2 * math.exp(2 * parameters[-1]))
        return value, np.array(gradient)

    def _solve(self, squares: list[Array], parameters: Array) -> tuple[list[Array], Array, Array]:
        """The kernel of each group, the Cholesky factor of their noisy sum, and its solution for the targets."""
        from scipy.linalg import cho_solve, cholesky

        parts = []
        for group, square in enumerate(squares):
            amplitude, length = np.exp(parameters[2 * group : 2 * group + 2])
            parts.append(amplitude * _matern(square / length**2))
        noise = math.exp(2 * parameters[-1]) + _JITTER
        lower = cholesky(sum(parts) + noise * np.eye(len(self._targets)), lower=True, check_finite=False)
        return parts, lower, cho_solve((lower, True), self._targets, check_finite=False)


def _square_distances(first: Array, second: Array) -> Array:
    squares = np.sum(first**2, axis=1)[:, None] + np.sum(second**2, axis=1)[None, :] - 2 * first @ second.T
    return np.asarray(np.maximum(squares, 0.0))


def _matern(square: Array) -> Array:
    """Matern kernel with nu = 5/2 of squared distances (Rasmussen and Williams 2006, Equation 4.17)."""
    root = np.sqrt(5 * square)
    return np.asarray((1 + root + 5 / 3 * square) * np.exp(-root))
