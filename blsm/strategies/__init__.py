"""Search strategies: what a `LatencyOracle` asks for the next setting."""

from __future__ import annotations

from typing import Any

from blsm.errors import SearchError
from blsm.strategies.base import Expected, NoSetting, Observation, Search, Strategy
from blsm.strategies.bayesian import Bayesian
from blsm.strategies.encoding import Encoding
from blsm.strategies.evolution import Evolution
from blsm.strategies.random import RandomSearch
from blsm.strategies.wrapped import WrappedOracle

__all__ = [
    "Bayesian",
    "Encoding",
    "Evolution",
    "Expected",
    "NoSetting",
    "Observation",
    "RandomSearch",
    "Search",
    "Strategy",
    "WrappedOracle",
    "strategy",
]

#: Names for `LatencyOracle(strategy=NAME)`.
STRATEGIES = ("bayesian", "evolution", "greedy", "random")


def strategy(chosen: Any, seed: int) -> Strategy:
    """The strategy of a name; a strategy is returned as it is, and any `keras_tuner.Oracle` is wrapped.

    Args:
        chosen: one of `STRATEGIES`, a strategy, or an oracle.
        seed: of AutoKeras' greedy oracle.

    Raises:
        SearchError: it is none of these, or an oracle with another objective than the score.
    """
    import keras_tuner

    if isinstance(chosen, Strategy):
        return chosen
    if isinstance(chosen, keras_tuner.Oracle):
        return WrappedOracle(chosen)
    for make in (Bayesian, Evolution, RandomSearch):
        if chosen == make.name:
            return make()
    if chosen == "greedy":
        from autokeras.tuners.greedy import GreedyOracle

        # KerasTuner takes a seed of 0 for none.
        return WrappedOracle(GreedyOracle(seed=seed + 1))
    raise SearchError(
        f"strategy must be one of {', '.join(STRATEGIES)}, a blsm.strategies.Strategy or a keras_tuner.Oracle, "
        f"got {chosen!r}"
    )
