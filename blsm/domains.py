"""Parameter domains: the values a parameter may take, their encoding as numbers, and space-filling samples of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from blsm.errors import DomainError

Value = int | float | bool | str


@dataclass(frozen=True)
class Integers:
    """The integers low, low + step, ..., high, all included.

    Attributes:
        low: smallest value.
        high: largest value; must be reachable from `low` in steps of `step`.
        step: distance of neighbours, at least 1.
        log: sample evenly in the logarithm, as suits channel counts; it does not change which values are allowed.
    """

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        if self.step < 1 or self.high < self.low or (self.high - self.low) % self.step:
            raise DomainError(f"integers need low <= high and a step >= 1 that divides high - low, got {self!r}")
        if self.log and self.low < 1:
            raise DomainError(f"a logarithmic domain starts at 1 or above, got low={self.low}")

    def __str__(self) -> str:
        step = f" in steps of {self.step}" if self.step > 1 else ""
        return f"{self.low}..{self.high}{step}"

    def __len__(self) -> int:
        return (self.high - self.low) // self.step + 1

    def normalise(self, value: object) -> int:
        """The value as a Python int; raises ValueError when it is not in the domain."""
        try:
            number = operator.index(value)  # type: ignore[arg-type]  # the TypeError is the check
        except TypeError:
            raise ValueError from None
        if isinstance(value, bool) or not self.low <= number <= self.high or (number - self.low) % self.step:
            raise ValueError
        return number

    def encode(self, value: Value) -> float:
        """The value as one number of a config vector."""
        return float(value)

    def decode(self, number: float) -> int:
        """Inverse of `encode`; raises ValueError for a number that encodes no value of the domain."""
        if not float(number).is_integer():
            raise ValueError
        return self.normalise(int(number))

    def at(self, unit: float) -> int:
        """The value at a position in [0, 1), evenly spread (evenly in the logarithm if `log`)."""
        if self.log:
            # Bins reach half a step beyond the ends, so that the first and last value get a fair share.
            low, high = self.low - self.step / 2, self.high + self.step / 2
            low = max(low, self.low / 2)
            index = round((math.exp(math.log(low) + unit * math.log(high / low)) - self.low) / self.step)
        else:
            index = int(unit * len(self))
        return self.low + self.step * min(max(index, 0), len(self) - 1)

    def to_json(self) -> dict[str, Any]:
        """The domain as JSON data."""
        return {"low": self.low, "high": self.high, "step": self.step, "log": self.log}


@dataclass(frozen=True, init=False)
class Choice:
    """A finite set of numbers, strings or booleans, in a fixed order.

    Numbers are encoded as themselves, strings as their position, booleans as 0 and 1.

    Attributes:
        values: the allowed values.
    """

    values: tuple[Value, ...]

    def __init__(self, *values: Value) -> None:
        if not values or len(set(values)) != len(values):
            raise DomainError(f"a choice needs one or more distinct values, got {values!r}")
        object.__setattr__(self, "values", values)

    def __str__(self) -> str:
        return ", ".join(map(str, self.values))

    def __len__(self) -> int:
        return len(self.values)

    def normalise(self, value: object) -> Value:
        """The equal member of the domain; raises ValueError when there is none."""
        is_text = isinstance(value, str)
        for member in self.values:
            if is_text == isinstance(member, str) and member == value:
                return member
        raise ValueError

    def encode(self, value: Value) -> float:
        """The value as one number of a config vector."""
        return float(self.values.index(value)) if isinstance(value, str) else float(value)

    def decode(self, number: float) -> Value:
        """Inverse of `encode`; raises ValueError for a number that encodes no value of the domain."""
        for member in self.values:
            if self.encode(member) == number:
                return member
        raise ValueError

    def at(self, unit: float) -> Value:
        """The value at a position in [0, 1), evenly spread."""
        return self.values[min(int(unit * len(self)), len(self) - 1)]

    def to_json(self) -> dict[str, Any]:
        """The domain as JSON data."""
        return {"values": list(self.values)}


@dataclass(frozen=True)
class SameAs:
    """A parameter that always equals another one, e.g. the width of square inputs."""

    parameter: str

    def __len__(self) -> int:
        return 1

    def __str__(self) -> str:
        return f"same as {self.parameter}"

    def to_json(self) -> dict[str, Any]:
        """The domain as JSON data."""
        return {"same_as": self.parameter}


Domain = Integers | Choice
SpaceDomain = Integers | Choice | SameAs
Space = Mapping[str, SpaceDomain]


def domain_from_json(data: Mapping[str, Any]) -> SpaceDomain:
    """Inverse of every domain's `to_json`; raises DomainError for data of another form."""
    try:
        if "same_as" in data:
            return SameAs(str(data["same_as"]))
        if "values" in data:
            return Choice(*data["values"])
        return Integers(int(data["low"]), int(data["high"]), int(data["step"]), bool(data["log"]))
    except (KeyError, TypeError, ValueError) as error:
        raise DomainError(f"not a domain: {data!r}") from error


def cardinality(space: Space) -> int:
    """How many distinct settings a space holds."""
    return math.prod(len(domain) for domain in space.values())


def contains(space: Space, setting: Mapping[str, Value]) -> bool:
    """Whether every value of a setting lies in its domain of the space."""
    for name, domain in space.items():
        if isinstance(domain, SameAs):
            if setting[name] != setting[domain.parameter]:
                return False
            continue
        try:
            domain.normalise(setting[name])
        except ValueError:
            return False
    return True


def sample_space(
    space: Space, count: int, seed: int, accept: Callable[[dict[str, Value]], bool] = lambda setting: True
) -> list[dict[str, Value]]:
    """Distinct settings that fill a space evenly, from a scrambled Sobol sequence (Owen 1998; scipy's `qmc.Sobol`).

    Args:
        space: name -> domain.
        count: how many settings.
        seed: the same seed gives the same settings, and a larger count extends a smaller one.
        accept: settings for which it is false are left out.

    Raises:
        DomainError: the space holds fewer than `count` settings.
    """
    from scipy.stats import qmc

    available = cardinality(space)
    if count > available:
        raise DomainError(f"{count} distinct configs were asked for, but the space holds {available} only")
    free = [name for name, domain in space.items() if not isinstance(domain, SameAs)]
    sobol = qmc.Sobol(len(free), scramble=True, seed=seed)
    found: dict[tuple[Value, ...], dict[str, Value]] = {}
    for _ in range(16):
        for point in sobol.random(max(64, 1 << max(0, (2 * count - 1).bit_length()))):
            setting = _resolve(space, dict(zip(free, point, strict=True)))
            if accept(setting):
                found.setdefault(tuple(setting.values()), setting)
            if len(found) == count:
                return list(found.values())
    # A sample of nearly the whole space: the rest in order.
    for number in range(available):
        setting = _setting_number(space, free, number)
        if accept(setting):
            found.setdefault(tuple(setting.values()), setting)
        if len(found) == count:
            return list(found.values())
    raise DomainError(f"{count} distinct configs were asked for, but only {len(found)} of the space are accepted")


def _resolve(space: Space, position: Mapping[str, float]) -> dict[str, Value]:
    values: dict[str, Value] = {
        name: domain.at(position[name]) for name, domain in space.items() if not isinstance(domain, SameAs)
    }
    return {name: values[d.parameter if isinstance(d, SameAs) else name] for name, d in space.items()}


def _setting_number(space: Space, free: Sequence[str], number: int) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name in free:
        domain = space[name]
        assert not isinstance(domain, SameAs)
        number, index = divmod(number, len(domain))
        values[name] = domain.values[index] if isinstance(domain, Choice) else domain.low + domain.step * index
    return {name: values[d.parameter if isinstance(d, SameAs) else name] for name, d in space.items()}
