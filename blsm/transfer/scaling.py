"""From a network's outputs to milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from blsm._types import Array

#: Samples faster than this part of the median count no more than it: data sets have near-zero latencies.
_LEAST_PART = 0.1
#: A prediction is never below this part of the fastest sample: networks extrapolate below 0.
_FLOOR = 0.1


@dataclass(frozen=True)
class Calibration:
    """A straight line from scores to milliseconds.

    Attributes:
        slope: milliseconds per unit, not negative.
        constant: milliseconds at score 0.
        least_ms: no prediction is below it.
    """

    slope: float
    constant: float
    least_ms: float

    @classmethod
    def of(cls, scores: Array, latencies_ms: Array) -> Calibration:
        """Least squares of relative errors on samples.

        Where scores do not rise with latency, there is nothing to go by but the samples' median.
        """
        weights = 1 / np.maximum(latencies_ms, _LEAST_PART * np.median(latencies_ms))
        design = np.column_stack([scores, np.ones_like(scores)]) * weights[:, None]
        slope, constant = np.linalg.lstsq(design, weights * latencies_ms, rcond=None)[0]
        least_ms = _FLOOR * float(latencies_ms.min())
        if slope <= 0:
            return cls(0.0, float(np.median(latencies_ms)), least_ms)
        return cls(float(slope), float(constant), least_ms)

    def apply(self, scores: Array) -> Array:
        """Milliseconds, positive, of the shape of `scores`."""
        return np.maximum(self.slope * scores + self.constant, self.least_ms)


def least_latency(latencies_ms: Array) -> Array:
    """Differences of latencies below this count as none; of the shape of `latencies_ms`."""
    return 1e-9 * latencies_ms
