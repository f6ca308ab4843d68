"""Our method: latency is a sum of physical costs, and known devices resemble the new one; samples say how much."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.transfer import bayesian_regression
from blsm.transfer.base import Method, Predictor, arrays_from_bytes, arrays_to_bytes
from blsm.transfer.bayesian_regression import Posterior
from blsm.transfer.pool import DevicePool, check_encodings
from blsm.transfer.ridge import KnownLatencies, Standard

#: Groups of columns that are a source of prior knowledge each.
_GROUPS = ("physical", "stages", "vec")
#: Candidates for samples, and how uncertain one measurement is taken to be when they are chosen.
_CANDIDATES, _DESIGN_NOISE = 800, 0.05
#: Where the known latencies span a larger factor, samples are chosen in the relative space: in the absolute one they
#: would all be large ones.
_WIDE = 20.0
#: Half the width of a 90 % interval in standard deviations of a normal distribution.
_Z = 1.6448536269514722
#: No prediction is smaller than this share of the fastest sample.
_LEAST = 0.02
_FILE = "block_prior.npz"


@dataclass(frozen=True)
class Space:
    """Tables of features of encodings, and the unit in which latency is a linear function of them.

    In the absolute space the unit is 1 ms, in the relative space the geometric mean of the known devices, so that
    errors are relative to it: which one suits is a question of evidence.

    Attributes:
        relative: whether the unit is the known devices' mean.
        groups: columns of the encoding, one entry for each table after the first three.
        standards: of each table.
    """

    relative: bool
    groups: tuple[Array, ...]
    standards: tuple[Standard, ...]

    @classmethod
    def of(cls, relative: bool, groups: tuple[Array, ...], encodings: Array, known_ms: Array) -> Self:
        """The space in which the features of a pool have squared length 1 on average."""
        unfitted = cls(relative, groups, ())
        standards = []
        for table in unfitted._raw(encodings, known_ms):
            standard = Standard.of(table)
            length = np.sqrt(np.square(standard(table)).sum(axis=1).mean()) or 1.0
            standards.append(Standard(standard.mean, standard.scale * length))
        return cls(relative, groups, tuple(standards))

    def unit_ms(self, known_ms: Array) -> Array:
        """The unit for each row, shape (n,)."""
        return np.exp(np.log(known_ms).mean(axis=1)) if self.relative else np.ones(len(known_ms))

    def tables(self, encodings: Array, known_ms: Array) -> list[Array]:
        """Features of rows."""
        raw = self._raw(encodings, known_ms)
        return [standard(table) for standard, table in zip(self.standards, raw, strict=True)]

    def _raw(self, encodings: Array, known_ms: Array) -> list[Array]:
        unit_ms = self.unit_ms(known_ms)[:, None]
        mean = np.exp(np.log(known_ms).mean(axis=1, keepdims=True))
        parts = [np.ones_like(mean), mean, known_ms, *(encodings[:, columns] for columns in self.groups)]
        return [part / unit_ms for part in parts]

    def to_arrays(self) -> dict[str, Array]:
        """As named arrays."""
        arrays = {f"group_{number}": columns for number, columns in enumerate(self.groups)}
        for number, standard in enumerate(self.standards):
            arrays |= {f"mean_{number}": standard.mean, f"scale_{number}": standard.scale}
        return {"relative": np.array(self.relative), **arrays}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else."""
        groups = sum(name.startswith("group_") for name in arrays)
        return cls(
            bool(arrays["relative"]),
            tuple(arrays[f"group_{number}"] for number in range(groups)),
            tuple(Standard(arrays[f"mean_{number}"], arrays[f"scale_{number}"]) for number in range(groups + 3)),
        )


class BlockPriorPredictor(Predictor):
    """Both spaces' regressions, weighted by the evidence that the samples are for each."""

    name: ClassVar[str] = "block_prior"

    def __init__(
        self,
        width: int,
        known: KnownLatencies,
        spaces: tuple[Space, ...],
        posteriors: tuple[Posterior, ...],
        weights: Array,
        least_ms: float,
    ) -> None:
        self.width = width
        self.weights = weights
        self._known = known
        self._spaces = spaces
        self._posteriors = posteriors
        self._least_ms = least_ms

    def _predict(self, encodings: Array) -> Array:
        return self._moments(encodings, with_variance=False)[0]

    def intervals(self, encodings: Array) -> tuple[Array, Array]:
        """Lower and upper ends of the 90 % intervals of measurements, milliseconds, each of shape (n,).

        Raises:
            DomainError: encodings of another width, or not finite.
        """
        mean_ms, variance = self._moments(check_encodings(encodings, self.width), with_variance=True)
        margin_ms = _Z * np.sqrt(variance)
        return np.maximum(mean_ms - margin_ms, 0.0), mean_ms + margin_ms

    def _moments(self, encodings: Array, with_variance: bool) -> tuple[Array, Array]:
        """Mean and variance of the mixture of both spaces, ms and ms squared."""
        known_ms = self._known.predict(encodings)
        means, variances = [], []
        for space, posterior in zip(self._spaces, self._posteriors, strict=True):
            features = np.hstack(space.tables(encodings, known_ms))
            unit_ms = space.unit_ms(known_ms)
            means.append(np.maximum(posterior.predict(features) * unit_ms, self._least_ms))
            variances.append(posterior.variance(features) * unit_ms**2 if with_variance else np.zeros(len(encodings)))
        mean_ms = self.weights @ np.array(means)
        return mean_ms, self.weights @ (np.array(variances) + np.square(np.array(means) - mean_ms))

    def to_files(self) -> dict[str, bytes]:
        arrays = {"width": np.array(self.width), "weights": self.weights, "least_ms": np.array(self._least_ms)}
        files = {_FILE: arrays_to_bytes({**arrays, **self._known.to_arrays()})}
        for number, (space, posterior) in enumerate(zip(self._spaces, self._posteriors, strict=True)):
            files[f"space_{number}.npz"] = arrays_to_bytes(space.to_arrays())
            files[f"posterior_{number}.npz"] = arrays_to_bytes(posterior.to_arrays())
        return files

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        arrays = arrays_from_bytes(files[_FILE])
        numbers = range(len(arrays["weights"]))
        return cls(
            int(arrays["width"]),
            KnownLatencies.from_arrays(arrays),
            tuple(Space.from_arrays(arrays_from_bytes(files[f"space_{number}.npz"])) for number in numbers),
            tuple(Posterior.from_arrays(arrays_from_bytes(files[f"posterior_{number}.npz"])) for number in numbers),
            arrays["weights"],
            float(arrays["least_ms"]),
        )


class BlockPrior(Method):
    """Bayesian regression on two sources of prior knowledge: what the known devices take, and what there is to do.

    Each source is a table of features with an amplitude of its own, and the samples' marginal likelihood says how far
    to trust it: a device unlike all known ones relies on costs, one like them on them. Samples are chosen one by one
    where the prior is least certain (D-optimal design; Fedorov 1972).
    """

    name: ClassVar[str] = "block_prior"
    least_samples: ClassVar[int] = 3

    def _fit(self, pool: DevicePool) -> None:
        self._known = KnownLatencies.fit(pool)
        known_ms = self._known.predict(pool.encodings)
        groups = tuple(columns for name in _GROUPS if (columns := pool.columns(name)).size)
        self._spaces = tuple(Space.of(relative, groups, pool.encodings, known_ms) for relative in (False, True))

    def _adapt(self, encodings: Array, latencies_ms: Array) -> BlockPriorPredictor:
        known_ms = self._known.predict(encodings)
        posteriors, evidence = [], []
        for space in self._spaces:
            unit_ms = space.unit_ms(known_ms)
            posterior = bayesian_regression.fit(space.tables(encodings, known_ms), latencies_ms / unit_ms, self.seed)
            posteriors.append(posterior)
            # Both as likelihoods of milliseconds.
            evidence.append(posterior.evidence - np.log(unit_ms).sum())
        weights = np.exp(np.array(evidence) - max(evidence))
        return BlockPriorPredictor(
            self.width,
            self._known,
            self._spaces,
            tuple(posteriors),
            weights / weights.sum(),
            _LEAST * float(latencies_ms.min()),
        )

    def _references(self, pool: DevicePool, count: int) -> Array:
        candidates = np.random.default_rng(self.seed).permutation(len(pool))[: max(_CANDIDATES, count)]
        encodings = pool.encodings[candidates]
        known_ms = self._known.predict(encodings)
        absolute, relative = self._spaces
        low, high = np.quantile(relative.unit_ms(known_ms), (0.05, 0.95))
        space = relative if high > _WIDE * low else absolute
        tables = [table for table in space.tables(encodings, known_ms) if table.any()]
        kernel = np.ones((len(candidates), len(candidates)))
        for table in tables:
            kernel += table @ table.T / len(tables)
        return candidates[_most_uncertain(kernel, count)]

    def to_files(self) -> dict[str, bytes]:
        header = {"seed": np.array(self.seed), "width": np.array(self.width), **self._known.to_arrays()}
        spaces = {f"space_{n}.npz": arrays_to_bytes(space.to_arrays()) for n, space in enumerate(self._spaces)}
        return {_FILE: arrays_to_bytes(header), **spaces}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        arrays = arrays_from_bytes(files[_FILE])
        method = cls(seed=int(arrays["seed"]))
        method.width = int(arrays["width"])
        method._known = KnownLatencies.from_arrays(arrays)
        method._spaces = tuple(Space.from_arrays(arrays_from_bytes(files[f"space_{n}.npz"])) for n in range(2))
        return method


def _most_uncertain(kernel: Array, count: int) -> Array:
    """Rows of a covariance of shape (n, n) to measure: each time the one of the largest variance given those before."""
    remaining = kernel.copy()
    rows: list[int] = []
    for _ in range(count):
        variance = np.diag(remaining).copy()
        variance[rows] = -np.inf
        row = int(np.argmax(variance))
        rows.append(row)
        remaining -= np.outer(remaining[row], remaining[row]) / (remaining[row, row] + _DESIGN_NOISE)
    return np.array(rows)
