"""Regularised evolution."""

from __future__ import annotations

from typing import ClassVar

from blsm._types import Array
from blsm.errors import DomainError
from blsm.strategies.base import Search, Strategy, draw_new
from blsm.strategies.encoding import Encoding, Values


class Evolution(Strategy):
    """Regularised (aging) evolution (Real et al. 2019, Algorithm 1): the oldest die, not the worst.

    The population are the last trials that completed, random ones at first. A parent wins a tournament by score, and
    its child differs in a hyperparameter or a few. A child that breaks a limit is never trained: another one is drawn.

    Args:
        population: how many trials live.
        tournament: how many of them compete to be the parent.
    """

    name: ClassVar[str] = "evolution"

    def __init__(self, population: int = 10, tournament: int = 4) -> None:
        if not 1 <= tournament <= population:
            raise DomainError(f"a tournament takes 1 to {population} of the population, got {tournament}")
        self.population = population
        self.tournament = tournament

    def suggest(self, search: Search) -> Values:
        completed = search.completed
        if len(completed) < self.population:
            return draw_new(search, lambda encoding: encoding.sample(1, search.random))
        living = completed[-self.population :]

        def child(encoding: Encoding) -> Array:
            rivals = search.random.choice(len(living), self.tournament, replace=False)
            parent = max((living[index] for index in rivals), key=lambda trial: trial.score or 0.0)
            return encoding.perturb(encoding.units([parent.values]), search.random)

        return draw_new(search, child)
