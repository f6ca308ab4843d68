"""What strategies suggest, on a space where the best setting is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras_tuner
import numpy as np
import pytest

from blsm.errors import DomainError, SearchError
from blsm.score import latency_term
from blsm.strategies import (
    Bayesian,
    Evolution,
    Expected,
    NoSetting,
    Observation,
    RandomSearch,
    Search,
    Strategy,
    strategy,
)

NAMES = ("a", "b", "c", "d")


def _latency_ms(values: Mapping[str, Any]) -> float:
    return 1.0 + 90 * values["a"]


def _accuracy(values: Mapping[str, Any]) -> float:
    """Latency buys accuracy, up to a = 0.5; b is best in the middle, the others matter little."""
    return float(0.5 + 0.3 * min(values["a"], 0.5) - 0.4 * (values["b"] - 0.5) ** 2 + 0.01 * values["c"])


def _term(latency_ms: Any) -> np.ndarray:
    return latency_term(latency_ms)


class _Trials:
    """Runs a strategy; `screens` says whether it may ask for the latency of many settings."""

    def __init__(self, chosen: Strategy, *, screens: bool = True, limit_ms: float = 1e9, seed: int = 0) -> None:
        self.space = keras_tuner.HyperParameters()
        for name in NAMES:
            self.space.Float(name, 0, 1)
        self.strategy, self.screens, self.limit_ms, self.seed = chosen, screens, limit_ms, seed
        self.trials: list[Observation] = []
        self.refused: list[Observation] = []

    def search(self) -> Search:
        return Search(
            self.space,
            self.trials,
            self.refused,
            np.random.default_rng([self.seed, len(self.trials), len(self.refused)]),
            lambda values: all(values != trial.values for trial in [*self.trials, *self.refused]),
            self._screen if self.screens else None,
            _term,
            1.0,
        )

    def _screen(self, settings: Sequence[Mapping[str, Any]]) -> np.ndarray:
        latency_ms = np.array([_latency_ms(values) for values in settings])
        return np.where(latency_ms <= self.limit_ms, latency_ms, np.nan)

    def run(self, count: int, *, running: bool = False) -> list[Observation]:
        while len(self.trials) < count:
            values = self.strategy.suggest(self.search())
            latency_ms = _latency_ms(values)
            if latency_ms > self.limit_ms:
                self.refused.append(Observation("", values, latency_ms))
                continue
            name = str(len(self.trials))
            if running:
                self.trials.append(Observation(name, values, latency_ms, running=True))
                continue
            score = _accuracy(values) + float(_term(latency_ms))
            self.trials.append(Observation(name, values, latency_ms, _accuracy(values), score))
        return self.trials


def _best(chosen: Callable[[], Strategy], **options: Any) -> float:
    """Best score after 20 trials, mean over 3 seeds."""
    return float(np.mean([max(t.score or 0 for t in _Trials(chosen(), seed=s, **options).run(20)) for s in range(3)]))


def _optimum() -> float:
    grid = np.linspace(0, 1, 41)
    return max(_accuracy({"a": a, "b": 0.5, "c": 1}) + float(_term(_latency_ms({"a": a}))) for a in grid)


def test_grey_box_finds_the_best_trade_off() -> None:
    assert _best(Bayesian) > _optimum() - 0.005
    assert _best(Bayesian) > _best(RandomSearch)


def test_grey_box_without_cheap_latency() -> None:
    assert _best(Bayesian, screens=False) > _optimum() - 0.01


def test_evolution_is_better_than_chance() -> None:
    assert _best(lambda: Evolution(population=6, tournament=3)) > _best(RandomSearch)


def test_limits_hold_and_refusals_teach() -> None:
    cheap = _Trials(Bayesian(), limit_ms=10.0)
    assert all(trial.latency_ms <= 10 for trial in cheap.run(12))
    assert not cheap.refused, "what breaks a limit is not even suggested"
    dear = _Trials(Bayesian(), screens=False, limit_ms=10.0)
    dear.run(12)
    assert len(dear.refused) < 300
    with pytest.raises(NoSetting):
        _Trials(Bayesian(), limit_ms=0.1).run(1)


def test_first_settings_spread_over_latency_but_are_not_hopeless() -> None:
    first = _Trials(Bayesian(initial=6)).run(6)
    latency_ms = sorted(trial.latency_ms for trial in first)
    assert latency_ms[0] < 20 < 45 < latency_ms[-1]
    assert all(_term(ms) > -0.35 for ms in latency_ms)


def test_running_trials_are_not_suggested_again() -> None:
    trials = _Trials(Bayesian())
    trials.run(12)
    done = list(trials.trials)
    together = trials.run(16, running=True)[12:]
    points = np.array([[trial.values[name] for name in NAMES] for trial in together])
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(4, 1)]
    assert distances.min() > 1e-3
    assert trials.trials[:12] == done


class _Told(_Trials):
    """Knows the accuracies beforehand."""

    def search(self) -> Search:
        def of(settings: Sequence[Mapping[str, Any]]) -> np.ndarray:
            return np.array([_accuracy(values) for values in settings])

        search = super().search()
        return dataclasses.replace(search, expected=Expected(of([t.values for t in search.completed]), of))


def test_what_is_expected_moves_the_search() -> None:
    told = _Told(Bayesian()).run(4)
    assert max(trial.score or 0 for trial in told) > _optimum() - 0.01, "two trials after the first two"
    promised = [trial.score or 0 for trial in told[:2]]
    chance = [trial.score or 0 for trial in _Trials(RandomSearch()).run(20)]
    assert min(promised) > sorted(chance)[15], "the first settings are the most promising ones"


def test_expectations_keep_limits_and_need_no_cheap_latency() -> None:
    assert all(trial.latency_ms <= 10 for trial in _Told(Bayesian(), limit_ms=10.0).run(5))
    assert len(_Told(Bayesian(), screens=False).run(8)) == 8


def test_names() -> None:
    assert isinstance(strategy("bayesian", 0), Bayesian)
    assert isinstance(strategy("random", 0), RandomSearch)
    mine = Evolution(population=3, tournament=2)
    assert strategy(mine, 0) is mine
    with pytest.raises(SearchError, match="must be one of bayesian, evolution, greedy, random.*got 'tpe'"):
        strategy("tpe", 0)
    with pytest.raises(DomainError, match="a tournament takes 1 to 3"):
        Evolution(population=3, tournament=4)
    with pytest.raises(DomainError, match="initial must be 2 or more"):
        Bayesian(initial=1)
