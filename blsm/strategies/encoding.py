"""Settings of a KerasTuner space as points of the unit cube, and back, many at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from blsm._types import Array

#: Values of the active hyperparameters of one setting, by name.
Values = dict[str, Any]
#: Where an inactive hyperparameter lies.
_MIDDLE = 0.5


@dataclass(frozen=True)
class _Parameter:
    """One hyperparameter of the space.

    Attributes:
        spec: KerasTuner's description of it.
        levels: its values in the order of the unit interval; empty where they are too many to list.
        ordered: whether neighbours on the unit interval are alike.
    """

    spec: Any
    levels: tuple[Any, ...]
    ordered: bool

    @classmethod
    def of(cls, spec: Any) -> _Parameter:
        kind = type(spec).__name__
        if kind == "Fixed":
            return cls(spec, (spec.value,), True)
        if kind in ("Choice", "Boolean") or getattr(spec, "step", None) is not None:
            count = len(list(spec.values))
            levels = tuple(spec.prob_to_value((index + 0.5) / count) for index in range(count))
            return cls(spec, levels, len(levels) <= 2 or kind != "Choice" or bool(spec.ordered))
        return cls(spec, (), True)

    def values(self, units: Array) -> Array:
        """Values at positions in [0, 1], as an array of Python objects."""
        if not self.levels:
            found = [self.spec.prob_to_value(min(float(unit), math.nextafter(1, 0))) for unit in units]
        else:
            indices = np.minimum((units * len(self.levels)).astype(int), len(self.levels) - 1)
            found = [self.levels[index] for index in indices.tolist()]
        values = np.empty(len(units), dtype=object)
        values[:] = found
        return values

    def unit(self, values: Mapping[str, Any]) -> float:
        """The position of a setting's value; the middle where it is inactive."""
        value = values.get(self.spec.name)
        if value is None or not all(condition.is_active(values) for condition in self.spec.conditions):
            return _MIDDLE
        if not self.levels:
            return float(np.clip(self.spec.value_to_prob(value), 0, 1))
        return (self.levels.index(value) + 0.5) / len(self.levels) if value in self.levels else _MIDDLE

    def features(self, units: Array, active: Array) -> Array:
        """Numbers for a regressor: the position from 0 to 1, or one column for each value that has no order."""
        if not self.levels:
            return np.where(active, units, _MIDDLE)[:, None]
        indices = np.minimum((units * len(self.levels)).astype(int), len(self.levels) - 1)
        if self.ordered:
            return np.where(active, indices / max(1, len(self.levels) - 1), _MIDDLE)[:, None]
        # Two different values are at distance 1, like the ends of an ordered parameter.
        return np.asarray(np.eye(len(self.levels))[indices] * active[:, None] / math.sqrt(2))


class Encoding:
    """The unit cube of a space: one axis for each hyperparameter that can vary.

    Conditional hyperparameters work as in KerasTuner: where its conditions do not hold a hyperparameter has no value,
    and lies in the middle of its axis.

    Args:
        space: KerasTuner's hyperparameters, parents before children.
    """

    def __init__(self, space: Sequence[Any]) -> None:
        self._all = [_Parameter.of(spec) for spec in space]
        self._axes = [number for number, parameter in enumerate(self._all) if len(parameter.levels) != 1]

    @property
    def dimensions(self) -> int:
        """Number of axes."""
        return len(self._axes)

    def sample(self, count: int, random: np.random.Generator) -> Array:
        """Random points, shape (count, dimensions)."""
        return random.random((count, self.dimensions))

    def perturb(self, units: Array, random: np.random.Generator) -> Array:
        """Neighbours: one to three axes of each point, most often one, are drawn anew; shape of `units`."""
        count = 1 + (random.random(len(units)) < 0.4) + (random.random(len(units)) < 0.2)
        order = np.argsort(random.random(units.shape), axis=1)
        chosen = np.zeros(units.shape, dtype=bool)
        np.put_along_axis(chosen, order, np.arange(self.dimensions)[None, :] < count[:, None], axis=1)
        return np.where(chosen, random.random(units.shape), units)

    def values(self, units: Array) -> list[Values]:
        """The settings at points of the cube, active hyperparameters only."""
        settings: list[Values] = [{} for _ in units]
        for parameter, values, active in self._columns(units):
            name = parameter.spec.name
            for index in np.flatnonzero(active).tolist():
                settings[index][name] = values[index]
        return settings

    def units(self, settings: Sequence[Mapping[str, Any]]) -> Array:
        """The points of settings, shape (len(settings), dimensions); an unknown or inactive value is in the middle."""
        axes = [self._all[number] for number in self._axes]
        return np.array([[axis.unit(values) for axis in axes] for values in settings]).reshape(len(settings), len(axes))

    def features(self, units: Array) -> Array:
        """Points as numbers for a regressor, shape (n, features)."""
        columns = [
            parameter.features(units[:, self._axes.index(number)], active)
            for number, (parameter, _, active) in enumerate(self._columns(units))
            if number in self._axes
        ]
        return np.concatenate(columns, axis=1) if columns else np.zeros((len(units), 0))

    def _columns(self, units: Array) -> list[tuple[_Parameter, Array, Array]]:
        """Each hyperparameter with its values and where it is active, over all points."""
        values_of: dict[str, Array] = {}
        active_of: dict[str, Array] = {}
        columns = []
        for number, parameter in enumerate(self._all):
            axis = self._axes.index(number) if number in self._axes else None
            values = parameter.values(np.full(len(units), _MIDDLE) if axis is None else units[:, axis])
            active = np.ones(len(units), dtype=bool)
            for condition in parameter.spec.conditions:
                allowed = [value in condition.values for value in values_of[condition.name]]
                active &= active_of[condition.name] & np.array(allowed, dtype=bool)
            columns.append((parameter, values, active))
            name = parameter.spec.name
            # One name may be declared under several conditions: what is active holds.
            known = active_of.get(name, np.zeros(len(units), dtype=bool))
            values_of[name] = np.where(active, values, values_of.get(name, values))
            active_of[name] = known | active
        return columns
