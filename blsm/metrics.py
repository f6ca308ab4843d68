"""How well predictions agree with measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from blsm._types import Array


@dataclass(frozen=True)
class Agreement:
    """Predicted against measured latencies of n blocks or networks.

    Attributes:
        count: n.
        spearman: rank correlation.
        pearson: linear correlation.
        mape: mean absolute percentage error, percent.
        within_5: share with a relative error of at most 5 %, 0 to 1.
        within_10: share with a relative error of at most 10 %, 0 to 1.
        bias: sum of predictions over sum of measurements.
    """

    count: int
    spearman: float
    pearson: float
    mape: float
    within_5: float
    within_10: float
    bias: float

    @classmethod
    def of(cls, predicted_ms: Sequence[float] | Array, measured_ms: Sequence[float] | Array) -> Agreement:
        """Compares two sequences of equal length, at least 2, in milliseconds."""
        from scipy.stats import pearsonr, spearmanr

        predicted, measured = np.asarray(predicted_ms, float), np.asarray(measured_ms, float)
        error = np.abs(predicted / measured - 1)
        return cls(
            len(measured),
            float(spearmanr(predicted, measured).statistic),
            float(pearsonr(predicted, measured).statistic),
            100 * float(error.mean()),
            float((error <= 0.05).mean()),
            float((error <= 0.10).mean()),
            float(predicted.sum() / measured.sum()),
        )

    def to_json(self) -> dict[str, float]:
        """The figures as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, float]) -> Agreement:
        """Inverse of `to_json`."""
        return cls(count=int(data["count"]), **{name: value for name, value in data.items() if name != "count"})


HEADERS = ("", "n", "Spearman", "Pearson", "MAPE %", "within 5 %", "within 10 %", "sum ratio")


def table_row(name: str, agreement: Agreement) -> tuple[str, ...]:
    """One line of a table under `HEADERS`."""
    return (
        name,
        str(agreement.count),
        f"{agreement.spearman:.4f}",
        f"{agreement.pearson:.4f}",
        f"{agreement.mape:.2f}",
        f"{agreement.within_5:.1%}",
        f"{agreement.within_10:.1%}",
        f"{agreement.bias:.3f}",
    )
