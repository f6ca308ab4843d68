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
#: Tables before those of the groups: a constant, the known devices' mean, the known devices.
_FIRST = 3
#: Candidates for samples, and how uncertain one measurement is taken to be when they are chosen.
_CANDIDATES, _DESIGN_NOISE = 2000, 0.1
#: Where the known latencies' 5th and 95th percentile are further apart, latencies are relative: small ones would count
#: nothing. Where they are closer, absolute ones are more accurate, because latency is a sum.
_WIDE = 20.0
#: Half the width of a 90 % interval in standard deviations of a normal distribution.
_Z = 1.6448536269514722
#: No prediction is smaller than this share of the fastest sample.
_LEAST = 0.02
_FILE = "block_prior.npz"


@dataclass(frozen=True)
class Space:
    """Tables of features of encodings, and what is a linear function of them.

    In the absolute space that is the latency. In the relative space it is the logarithm of the latency over the unit,
    which is the geometric mean of the known devices, and costs are those per unit.

    Attributes:
        relative: which of the two.
        groups: columns of the encoding, one entry for each of `_GROUPS`; empty where there are none.
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

    def target(self, latencies_ms: Array, known_ms: Array) -> Array:
        """What is regressed on the tables, shape (n,)."""
        return np.log(latencies_ms / self.unit_ms(known_ms)) if self.relative else latencies_ms

    def latencies_ms(self, target: Array, known_ms: Array) -> Array:
        """Inverse of `target`."""
        return np.exp(target) * self.unit_ms(known_ms) if self.relative else target

    def _raw(self, encodings: Array, known_ms: Array) -> list[Array]:
        unit_ms = self.unit_ms(known_ms)[:, None]
        mean_ms = np.exp(np.log(known_ms).mean(axis=1, keepdims=True))
        *costs, vectors = (encodings[:, columns] for columns in self.groups)
        known = [np.log(mean_ms), np.log(known_ms / mean_ms)] if self.relative else [mean_ms, known_ms]
        return [1 / unit_ms, *known, *(cost / unit_ms for cost in costs), vectors]

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
            tuple(Standard(arrays[f"mean_{number}"], arrays[f"scale_{number}"]) for number in range(groups + _FIRST)),
        )


class BlockPriorPredictor(Predictor):
    """A regression in a space."""

    name: ClassVar[str] = "block_prior"

    def __init__(self, width: int, known: KnownLatencies, space: Space, posterior: Posterior, least_ms: float) -> None:
        self.width = width
        self._known = known
        self._space = space
        self._posterior = posterior
        self._least_ms = least_ms

    def _predict(self, encodings: Array) -> Array:
        features, known_ms = self._features(encodings)
        return np.maximum(self._space.latencies_ms(self._posterior.predict(features), known_ms), self._least_ms)

    def intervals(self, encodings: Array) -> tuple[Array, Array]:
        """Lower and upper ends of the 90 % intervals of measurements, milliseconds, each of shape (n,).

        Raises:
            DomainError: encodings of another width, or not finite.
        """
        features, known_ms = self._features(check_encodings(encodings, self.width))
        middle, margin = self._posterior.predict(features), _Z * np.sqrt(self._posterior.variance(features))
        low_ms, high_ms = (self._space.latencies_ms(end, known_ms) for end in (middle - margin, middle + margin))
        return np.maximum(low_ms, 0.0), np.maximum(high_ms, self._least_ms)

    def _features(self, encodings: Array) -> tuple[Array, Array]:
        known_ms = self._known.predict(encodings)
        return np.hstack(self._space.tables(encodings, known_ms)), known_ms

    def to_files(self) -> dict[str, bytes]:
        arrays = {"width": np.array(self.width), "least_ms": np.array(self._least_ms)}
        parts = {**self._known.to_arrays(), **self._space.to_arrays(), **self._posterior.to_arrays()}
        return {_FILE: arrays_to_bytes({**arrays, **parts})}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        arrays = arrays_from_bytes(files[_FILE])
        parts = KnownLatencies.from_arrays(arrays), Space.from_arrays(arrays), Posterior.from_arrays(arrays)
        return cls(int(arrays["width"]), *parts, float(arrays["least_ms"]))


class BlockPrior(Method):
    """Bayesian regression on two sources of prior knowledge: what the known devices take, and what there is to do.

    Each source is a table of features with an amplitude of its own, and the samples' marginal likelihood says how far
    to trust it: a device unlike all known ones relies on costs, one like them on them. Samples are chosen one by one
    where the prior is least certain (D-optimal design; Fedorov 1972).
    """

    name: ClassVar[str] = "block_prior"
    least_samples: ClassVar[int] = 3
    _known: KnownLatencies
    _space: Space

    def _fit(self, pool: DevicePool) -> None:
        self._known = KnownLatencies.fit(pool)
        known_ms = self._known.predict(pool.encodings)
        groups = tuple(pool.columns(name) for name in _GROUPS)
        low, high = np.quantile(np.exp(np.log(known_ms).mean(axis=1)), (0.05, 0.95))
        self._space = Space.of(bool(high > _WIDE * low), groups, pool.encodings, known_ms)

    def _adapt(self, encodings: Array, latencies_ms: Array) -> BlockPriorPredictor:
        known_ms = self._known.predict(encodings)
        target = self._space.target(latencies_ms, known_ms)
        posterior = bayesian_regression.fit(self._space.tables(encodings, known_ms), target, self.seed)
        return BlockPriorPredictor(self.width, self._known, self._space, posterior, _LEAST * float(latencies_ms.min()))

    def _references(self, pool: DevicePool, count: int) -> Array:
        candidates = np.random.default_rng(self.seed).permutation(len(pool))[: max(_CANDIDATES, count)]
        encodings = pool.encodings[candidates]
        tables = self._space.tables(encodings, self._known.predict(encodings))
        varying = [table for table in tables if table.any()]
        kernel = np.ones((len(candidates), len(candidates)))
        for table in varying:
            kernel += table @ table.T / len(varying)
        return candidates[_most_uncertain(kernel, count)]

    def to_files(self) -> dict[str, bytes]:
        header = {"seed": np.array(self.seed), "width": np.array(self.width)}
        return {_FILE: arrays_to_bytes({**header, **self._known.to_arrays(), **self._space.to_arrays()})}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        arrays = arrays_from_bytes(files[_FILE])
        method = cls(seed=int(arrays["seed"]))
        method.width = int(arrays["width"])
        method._known, method._space = KnownLatencies.from_arrays(arrays), Space.from_arrays(arrays)
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
