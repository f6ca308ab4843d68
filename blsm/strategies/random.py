"""Random search."""

from __future__ import annotations

from typing import ClassVar

from blsm.strategies.base import Search, Strategy, draw_new
from blsm.strategies.encoding import Values


class RandomSearch(Strategy):
    """Draws every setting at random, evenly over the values of each hyperparameter."""

    name: ClassVar[str] = "random"

    def suggest(self, search: Search) -> Values:
        return draw_new(search, lambda encoding: encoding.sample(1, search.random))
