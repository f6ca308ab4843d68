"""Our method: latency is a sum of physical costs, and known devices resemble the new one; samples say how much."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.transfer.base import Method, Predictor, arrays_from_bytes, arrays_to_bytes
from blsm.transfer.linear_sum import LinearSpace, LinearSum
from blsm.transfer.log_sums import LogSums, LogSumsSpace
from blsm.transfer.pool import DevicePool, check_encodings
from blsm.transfer.ridge import KnownLatencies

#: Candidates for samples.
_CANDIDATES = 2000
#: Half the width of a 90 % interval in standard deviations of a normal distribution.
_Z = 1.6448536269514722
#: No prediction is smaller than this share of the fastest sample.
_LEAST = 0.02
#: No measurement is surer than this, relative.
_LEAST_DEVIATION = 1e-3
_FILE = "block_prior.npz"


class BlockPriorPredictor(Predictor):
    """What the known devices take, and a sum of it and of costs."""

    name: ClassVar[str] = "block_prior"

    def __init__(self, width: int, known: KnownLatencies, fitted: LinearSum | LogSums, least_ms: float) -> None:
        self.width = width
        self._known = known
        self._fitted = fitted
        self._least_ms = least_ms

    def _predict(self, encodings: Array) -> Array:
        return np.maximum(self._fitted.predict(encodings, self._known.predict(encodings)), self._least_ms)

    def intervals(self, encodings: Array) -> tuple[Array, Array]:
        """Lower and upper ends of the 90 % intervals of measurements, milliseconds, each of shape (n,).

        Raises:
            DomainError: encodings of another width, or not finite.
        """
        encodings = check_encodings(encodings, self.width)
        low_ms, high_ms = self._fitted.intervals(encodings, self._known.predict(encodings), _Z)
        return np.maximum(low_ms, 0.0), np.maximum(high_ms, self._least_ms)

    def log_deviations(self, encodings: Array) -> Array:
        _, high_ms = self.intervals(encodings)
        deviations: Array = np.log(high_ms / self.predict(encodings)) / _Z
        return np.maximum(deviations, _LEAST_DEVIATION)

    def to_files(self) -> dict[str, bytes]:
        arrays = {"width": np.array(self.width), "least_ms": np.array(self._least_ms)}
        relative = {"relative": np.array(isinstance(self._fitted, LogSums))}
        parts = {**self._known.to_arrays(), **self._fitted.to_arrays()}
        return {_FILE: arrays_to_bytes({**arrays, **relative, **parts})}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        arrays = arrays_from_bytes(files[_FILE])
        fitted = (LogSums if arrays["relative"] else LinearSum).from_arrays(arrays)
        return cls(int(arrays["width"]), KnownLatencies.from_arrays(arrays), fitted, float(arrays["least_ms"]))


class BlockPrior(Method):
    """Bayesian regression on two sources of prior knowledge: what the known devices take, and what there is to do.

    A device unlike all known ones relies on costs, one like them on them; its samples decide. Where latencies are of
    one order of magnitude, they are a sum of both, and the samples' marginal likelihood says how far to trust each
    (`linear_sum`). Where they are not, as those of blocks, their logarithm is the mean of those of two sums of positive
    parts, with the known devices among the parts or in the prior of their weights (`log_sums`). Samples are chosen one
    by one where the prior is least certain (optimal design; Fedorov 1972).
    """

    name: ClassVar[str] = "block_prior"
    least_samples: ClassVar[int] = 3
    joint: ClassVar[bool] = True
    _known: KnownLatencies
    _space: LinearSpace | LogSumsSpace

    def _fit(self, pool: DevicePool) -> None:
        self._known = KnownLatencies.fit(pool)
        self._space = (LogSumsSpace if pool.wide else LinearSpace).of(pool, self._known.predict(pool.encodings))

    def _adapt(self, encodings: Array, latencies_ms: Array) -> BlockPriorPredictor:
        fitted = self._space.fit(encodings, self._known.predict(encodings), latencies_ms, self.seed)
        return BlockPriorPredictor(self.width, self._known, fitted, _LEAST * float(latencies_ms.min()))

    def _references(self, pool: DevicePool, count: int) -> Array:
        random, families = np.random.default_rng(self.seed), pool.families()
        most = max(_CANDIDATES // len(families), count)
        candidates = [random.permutation(rows)[:most] for rows in families]
        kinds = np.repeat(np.arange(len(families)), [len(rows) for rows in candidates])
        rows = np.concatenate(candidates)
        encodings = pool.encodings[rows]
        chosen: Array = rows[self._space.references(encodings, self._known.predict(encodings), count, kinds)]
        return chosen

    def to_files(self) -> dict[str, bytes]:
        header = {"seed": np.array(self.seed), "width": np.array(self.width)}
        relative = {"relative": np.array(isinstance(self._space, LogSumsSpace))}
        return {_FILE: arrays_to_bytes({**header, **relative, **self._known.to_arrays(), **self._space.to_arrays()})}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        arrays = arrays_from_bytes(files[_FILE])
        method = cls(seed=int(arrays["seed"]))
        method.width, method._known = int(arrays["width"]), KnownLatencies.from_arrays(arrays)
        method._space = (LogSumsSpace if arrays["relative"] else LinearSpace).from_arrays(arrays)
        return method
