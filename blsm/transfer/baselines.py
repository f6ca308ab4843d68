"""What every transfer method must beat: the median, a fit from scratch, the nearest known device, all known devices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.transfer.base import Method, Predictor, arrays_from_bytes, arrays_to_bytes
from blsm.transfer.pool import DevicePool
from blsm.transfer.ridge import KnownLatencies, Ridge, Standard

#: No prediction is smaller than this share of the fastest sample.
_LEAST = 0.02
_FILE = "baseline.npz"


class _Baseline(Method):
    """Fits and predicts a linear function of features that the children choose."""

    _known: KnownLatencies | None = None
    _columns: Array
    _standard: Standard

    def _fit(self, pool: DevicePool) -> None:
        self._columns = pool.columns("physical")
        if not self._columns.size:
            self._columns = np.arange(pool.encodings.shape[1])
        self._standard = Standard.of(self._features(pool.encodings))

    def _features(self, encodings: Array) -> Array:
        return encodings[:, self._columns] if self._known is None else self._known.predict(encodings)

    def _adapt(self, encodings: Array, latencies_ms: Array) -> LinearPredictor:
        ridge = self._regress(self._standard(self._features(encodings)), latencies_ms)
        return LinearPredictor(self, ridge, _LEAST * float(latencies_ms.min()))

    def _regress(self, features: Array, latencies_ms: Array) -> Ridge:
        return Ridge.fit(features, latencies_ms)

    def to_arrays(self) -> dict[str, Array]:
        """The fitted state as named arrays."""
        arrays = {"seed": self.seed, "width": self.width, "columns": self._columns}
        standard = {"mean": self._standard.mean, "scale": self._standard.scale}
        known = {} if self._known is None else self._known.to_arrays()
        return {**{name: np.asarray(value) for name, value in arrays.items()}, **standard, **known}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> Self:
        """Inverse of `to_arrays`; raises KeyError for anything else."""
        baseline = cls(seed=int(arrays["seed"]))
        baseline.width = int(arrays["width"])
        baseline._columns = arrays["columns"]
        baseline._standard = Standard(arrays["mean"], arrays["scale"])
        baseline._known = KnownLatencies.from_arrays(arrays) if "known_columns" in arrays else None
        return baseline

    def to_files(self) -> dict[str, bytes]:
        return {_FILE: arrays_to_bytes(self.to_arrays())}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        return cls.from_arrays(arrays_from_bytes(files[_FILE]))


class LinearPredictor(Predictor):
    """A linear function of a baseline's features, never below `least_ms`, milliseconds."""

    name: ClassVar[str] = "baseline"

    def __init__(self, baseline: _Baseline, ridge: Ridge, least_ms: float) -> None:
        self.width = baseline.width
        self._baseline = baseline
        self._ridge = ridge
        self._least_ms = least_ms

    def _predict(self, encodings: Array) -> Array:
        features = self._baseline._standard(self._baseline._features(encodings))
        return np.maximum(self._ridge.predict(features), self._least_ms)

    def to_files(self) -> dict[str, bytes]:
        arrays = {"coefficients": self._ridge.coefficients, "intercept": np.array(self._ridge.intercept)}
        least = {"least_ms": np.array(self._least_ms)}
        return {_FILE: arrays_to_bytes({**self._baseline.to_arrays(), **arrays, **least})}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        arrays = arrays_from_bytes(files[_FILE])
        ridge = Ridge(arrays["coefficients"], float(arrays["intercept"]))
        return cls(FromScratch.from_arrays(arrays), ridge, float(arrays["least_ms"]))


class FromScratch(_Baseline):
    """Ridge regression on physical costs (operation counts), or on the whole encoding; needs no known device."""

    name: ClassVar[str] = "from_scratch"
    least_samples: ClassVar[int] = 2


class Median(_Baseline):
    """The median of the samples, whatever is asked."""

    name: ClassVar[str] = "median"

    def _regress(self, features: Array, latencies_ms: Array) -> Ridge:
        return Ridge(np.zeros(features.shape[1]), float(np.median(latencies_ms)))


class KnownDevices(_Baseline):
    """Ridge regression on what the known devices take."""

    name: ClassVar[str] = "known_devices"
    least_samples: ClassVar[int] = 2

    def _fit(self, pool: DevicePool) -> None:
        self._known = KnownLatencies.fit(pool)
        super()._fit(pool)


class NearestDevice(KnownDevices):
    """The known device that correlates most with the samples, moved and scaled by least squares."""

    name: ClassVar[str] = "nearest_device"

    def _regress(self, features: Array, latencies_ms: Array) -> Ridge:
        centred, target = features - features.mean(axis=0), latencies_ms - latencies_ms.mean()
        squares = np.square(centred).sum(axis=0)
        slopes = centred.T @ target / np.where(squares > 0, squares, np.inf)
        nearest = int(np.argmax(slopes * np.sqrt(squares)))
        coefficients = np.zeros(features.shape[1])
        # A device that falls where this one rises is no neighbour: then the mean is the better guess.
        coefficients[nearest] = max(0.0, slopes[nearest])
        return Ridge(coefficients, float(latencies_ms.mean() - features.mean(axis=0) @ coefficients))
