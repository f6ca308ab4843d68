"""What the device says of a surrogate's front: the check that HNQ, a ratio of two distances, can't replace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from blsm.feasibility import Feasibility, finite, front_hypervolume, ratio
from blsm.searches import SearchTrial

#: A front that dominates this share of the other's area is called as good.
AS_GOOD = 0.97


@dataclass(frozen=True)
class Remeasured:
    """The surrogate's front, measured.

    Attributes:
        front: the trials, with what the surrogate predicted.
        measured_ms: of each of them, milliseconds.
        hypervolume: area that they dominate with measured latencies, accuracy x ms.
        hil_hypervolume: area that the front of the search by measurement dominates.
    """

    front: tuple[SearchTrial, ...]
    measured_ms: tuple[float, ...]
    hypervolume: float
    hil_hypervolume: float

    @property
    def hypervolume_ratio(self) -> float:
        """Re-measured over HIL: 1 or more where the surrogate search found what the search by measurement found."""
        return ratio(self.hypervolume, self.hil_hypervolume)

    @property
    def error(self) -> float:
        """Mean absolute relative error of the predictions."""
        pairs = zip(self.front, self.measured_ms, strict=True)
        return float(np.mean([abs(trial.latency_ms / measured_ms - 1) for trial, measured_ms in pairs]))

    @property
    def sentence(self) -> str:
        """What the ratio of hypervolumes says, in a plain sentence."""
        area = f"dominates {self.hypervolume_ratio:.2f} times the area of the measured search's front"
        conclusion = (
            "what searching by the surrogate found is as good"
            if self.hypervolume_ratio >= AS_GOOD
            else "searching by measurement found better networks"
        )
        return f"measured again, the surrogate's front {area}: {conclusion} (predictions off by {self.error:.1%})"

    def to_json(self) -> dict[str, Any]:
        """The figures as JSON data."""
        names = (trial.name for trial in self.front)
        return {
            "sentence": self.sentence,
            "measured_ms": dict(zip(names, self.measured_ms, strict=True)),
            "mean_absolute_error": self.error,
            "hypervolume": self.hypervolume,
            "hypervolume_ratio": finite(self.hypervolume_ratio),
        }


def remeasure(found: Feasibility, measure_ms: Callable[[SearchTrial], float]) -> Remeasured:
    """Measures the networks on the surrogate's front.

    Args:
        found: the comparison of the searches.
        measure_ms: measures the network of a trial, milliseconds.
    """
    measured_ms = tuple(map(measure_ms, found.sm_front))
    trials = [replace(trial, latency_ms=ms) for trial, ms in zip(found.sm_front, measured_ms, strict=True)]
    return Remeasured(found.sm_front, measured_ms, front_hypervolume(trials, found.worst), found.hil_hypervolume)
