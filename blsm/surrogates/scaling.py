"""Inputs for regressors that are sensitive to their scale: logarithms of costs, all standardised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from blsm._types import Array


@dataclass(frozen=True)
class Scaling:
    """Maps inputs to zero mean and unit variance; costs, which span orders of magnitude, by way of log(1 + cost).

    Attributes:
        plain: how many of the first columns are taken as they are, the rest by their logarithm.
        mean: of each column, shape (inputs,).
        deviation: standard deviation of each column, 1 where it is constant, shape (inputs,).
    """

    plain: int
    mean: Array
    deviation: Array

    @classmethod
    def of(cls, inputs: Array, plain: int) -> Self:
        """The scaling that standardises these inputs, of shape (n, inputs)."""
        columns = _logarithms(inputs, plain)
        deviation = columns.std(axis=0)
        return cls(plain, columns.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def __call__(self, inputs: Array) -> Array:
        """Standardised inputs, float64, of the same shape."""
        scaled: Array = (_logarithms(inputs, self.plain) - self.mean) / self.deviation
        return scaled

    def to_json(self) -> dict[str, Any]:
        """The scaling as JSON data."""
        return {"plain": self.plain, "mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        return cls(int(data["plain"]), np.array(data["mean"], float), np.array(data["deviation"], float))


def _logarithms(inputs: Array, plain: int) -> Array:
    if plain == inputs.shape[1]:
        return inputs
    return np.hstack([inputs[:, :plain], np.log1p(inputs[:, plain:])])
