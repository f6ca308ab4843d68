"""From latencies to labels that networks learn, and back to milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blsm._types import Array

#: Samples faster than this part of the median count no more than it: data sets have near-zero latencies.
_LEAST_PART = 0.1
#: A prediction is never below this part of the fastest sample: networks extrapolate below 0.
_FLOOR = 0.1


def levels(latencies_ms: Array, relative: bool) -> Array:
    """What differences of are learned: logarithms of milliseconds, or milliseconds; see `DevicePool.wide`."""
    return np.log(latencies_ms) if relative else latencies_ms


def span(low: Array, high: Array) -> Array:
    """The distance of levels, never 0: what is equal but for rounding is equal."""
    distance: Array = np.maximum(high - low, 1e-9 * np.abs(high) + 1e-12)
    return distance


@dataclass(frozen=True)
class Calibration:
    """A straight line from scores to levels.

    Attributes:
        slope: levels per unit, not negative.
        constant: level at score 0.
        least_ms: no prediction is below it.
        relative: whether levels are logarithms of milliseconds.
    """

    slope: float
    constant: float
    least_ms: float
    relative: bool = False

    @classmethod
    def of(cls, scores: Array, latencies_ms: Array, relative: bool = False) -> Calibration:
        """Least squares of relative errors on samples.

        Where scores do not rise with latency, there is nothing to go by but the samples' median.
        """
        target = levels(latencies_ms, relative)
        # Errors of logarithms are relative already.
        weights = np.ones_like(target) if relative else 1 / np.maximum(target, _LEAST_PART * np.median(target))
        design = np.column_stack([scores, np.ones_like(scores)]) * weights[:, None]
        slope, constant = np.linalg.lstsq(design, weights * target, rcond=None)[0]
        least_ms = _FLOOR * float(latencies_ms.min())
        if slope <= 0:
            return cls(0.0, float(np.median(target)), least_ms, relative)
        return cls(float(slope), float(constant), least_ms, relative)

    def apply(self, scores: Array) -> Array:
        """Milliseconds, positive, of the shape of `scores`."""
        level = self.slope * scores + self.constant
        return np.maximum(np.exp(level) if self.relative else level, self.least_ms)
