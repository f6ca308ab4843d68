"""What a search strategy sees and says: trials so far in, the next setting out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from blsm._types import Array
from blsm.strategies.encoding import Encoding, Values


class NoSetting(Exception):  # noqa: N818  # an answer, not an error
    """The strategy has no setting to suggest.

    Attributes:
        wait: whether it will have one when a running trial has ended.
    """

    def __init__(self, *, wait: bool = False) -> None:
        super().__init__()
        self.wait = wait


@dataclass(frozen=True)
class Observation:
    """What is known of a setting.

    Attributes:
        name: id of its trial; empty if it was refused.
        values: the setting.
        latency_ms: its latency, milliseconds.
        accuracy: reached by its trial; None while it runs, and where it failed or was refused.
        score: the balanced accuracy-latency score; None as for accuracy.
        running: whether its trial has not ended yet.
    """

    name: str
    values: Mapping[str, Any]
    latency_ms: float
    accuracy: float | None = None
    score: float | None = None
    running: bool = False


@dataclass(frozen=True)
class Expected:
    """What accuracy settings are expected to reach, by what is known besides the trials' own settings.

    Attributes:
        completed: of each completed trial, by all others, shape (completed,).
        of: of any settings, shape (len(settings),).
    """

    completed: Array
    of: Callable[[Sequence[Mapping[str, Any]]], Array]


@dataclass(frozen=True)
class Search:
    """The state of a search, as a strategy sees it.

    Attributes:
        space: KerasTuner's `HyperParameters`.
        trials: in the order in which they started.
        refused: settings that broke a limit, where finding that out was dear: latency measured, or a model built.
        random: the source of random numbers; a search that is resumed sees the same ones.
        is_new: whether a setting was neither tried nor refused yet.
        screen: latencies of many settings, milliseconds, NaN where a limit is broken; None where this is dear.
        latency_term: what latency adds to the score.
        reference_accuracy: what accuracy is divided by in the score.
        expected: accuracies that earlier searches foretell; None without such.
    """

    space: Any
    trials: Sequence[Observation]
    refused: Sequence[Observation]
    random: np.random.Generator
    is_new: Callable[[Mapping[str, Any]], bool]
    screen: Callable[[Sequence[Values]], Array] | None
    latency_term: Callable[[Array], Array]
    reference_accuracy: float
    expected: Expected | None = None

    @property
    def completed(self) -> list[Observation]:
        """The trials that have an accuracy."""
        return [trial for trial in self.trials if trial.accuracy is not None]

    def encoding(self) -> Encoding:
        """The unit cube of the space."""
        return Encoding(self.space.space)


#: A space counts as exhausted after this many settings in a row that are known already.
_COLLISIONS = 1000


class Strategy(ABC):
    """Suggests settings. All it knows comes from the trials, so that a search can be resumed.

    Attributes:
        name: as in `LatencyOracle(strategy=NAME)`.
    """

    name: ClassVar[str]

    @abstractmethod
    def suggest(self, search: Search) -> Values:
        """The next setting to try. It may break a limit: it is refused then, and another one is asked for.

        Raises:
            NoSetting: none is left, or none for now.
        """

    def refuse(self, values: Values) -> None:  # noqa: B027  # most strategies need not know
        """Takes note that the last suggestion was refused."""

    def get_state(self) -> dict[str, Any]:
        """What to save, as JSON data."""
        return {}

    def set_state(self, state: dict[str, Any]) -> None:  # noqa: B027  # most strategies keep nothing
        """Takes over what was saved."""


def draw_new(search: Search, draw: Callable[[Encoding], Array]) -> Values:
    """The first of repeated draws that is new.

    Args:
        search: the search.
        draw: gives one point of the unit cube, shape (1, dimensions).

    Raises:
        NoSetting: a thousand draws in a row were not new.
    """
    encoding = search.encoding()
    for _ in range(_COLLISIONS):
        values = encoding.values(draw(encoding))[0]
        if search.is_new(values):
            return values
    raise NoSetting
