"""Grey-box Bayesian optimisation: accuracy is modelled, latency is known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from blsm._types import Array
from blsm.errors import DomainError
from blsm.strategies.base import NoSetting, Observation, Search, Strategy
from blsm.strategies.encoding import Encoding, Values
from blsm.strategies.gaussian_process import GaussianProcess

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

#: Settings that are looked at before one is suggested: random ones, neighbours of the best trials, and neighbours of
#: the most promising settings found so far, in this many rounds. Five times as many random ones found nothing better.
_RANDOM, _NEIGHBOURS, _ROUNDS, _CHILDREN = 200, 200, 4, 50
_PARENTS = 10
#: The first settings lose at most this much of the score to latency, compared with the fastest.
_SLOW = 0.3
#: Where accuracies are foretold, so many first settings will do.
_TOLD = 2
#: A first setting is looked for among this many random ones, this many times; one by one where latency is dear.
_CROWD, _ATTEMPTS = 200, 25


class Bayesian(Strategy):
    """Maximises the expected improvement of the score, of which only the accuracy is uncertain.

    The score is accuracy / reference + term(latency). A Gaussian process of accuracy with mean m and deviation s makes
    it normal with mean m / reference + term(latency) and deviation s / reference, where the term is exact; so its
    expected improvement has a closed form (Jones et al. 1998, Equation 15), evaluated for hundreds of candidates at
    once. Besides the setting, the process sees the logarithm of its latency: large networks tend to be accurate.
    Candidates that break a limit are not considered. Running trials count as if they had reached what is expected.

    The first settings are random ones of different latency, from fast to slow. Where latency is dear (measured, or of
    models that have to be built), a second process guesses it, and the suggestion is then checked.

    Where earlier searches foretell accuracy (`LatencyOracle(accuracy_prior=...)`), that is the process's prior mean,
    and the first settings are the two of which they promise most.

    Args:
        initial: how many settings are random.
    """

    name: ClassVar[str] = "bayesian"

    def __init__(self, initial: int = 6) -> None:
        if initial < 2:
            raise DomainError(f"initial must be 2 or more, got {initial}")
        self.initial = initial

    def suggest(self, search: Search) -> Values:
        # The matrices are small: more threads would mostly wait for each other.
        with _thread_pools().limit(limits=1, user_api="blas"):
            return self._suggest(search, search.encoding())

    def _suggest(self, search: Search, encoding: Encoding) -> Values:
        initial = self.initial if search.expected is None or search.screen is None else _TOLD
        if len(search.completed) < 2 or len(search.trials) < initial:
            return self._first(search, encoding)
        belief = _Belief(search, encoding)
        best = np.repeat(belief.best_units(_PARENTS), _NEIGHBOURS // _PARENTS, axis=0)
        drawn = [encoding.sample(_RANDOM, search.random), encoding.perturb(best, search.random)]
        settings, units, gain = belief.judge(np.concatenate(drawn))
        for _ in range(_ROUNDS):
            parents = units[np.argsort(-gain, kind="stable")[:_PARENTS]]
            children = encoding.perturb(np.repeat(parents, _CHILDREN // _PARENTS, axis=0), search.random)
            more, more_units, more_gain = belief.judge(children)
            settings += more
            units, gain = np.concatenate([units, more_units]), np.concatenate([gain, more_gain])
        if not settings:
            raise NoSetting
        return settings[int(np.argmax(gain))]

    def _first(self, search: Search, encoding: Encoding) -> Values:
        """The most promising of random settings; without expectations they spread over latency."""
        crowd, attempts = (_CROWD, _ATTEMPTS) if search.screen else (1, _CROWD)
        for _ in range(attempts):
            settings = encoding.values(encoding.sample(crowd, search.random))
            if search.screen is not None:
                latency_ms = search.screen(settings)
                order = _spread(search, latency_ms) if search.expected is None else _best(search, settings, latency_ms)
                settings = [settings[index] for index in order]
            for values in settings:
                if search.is_new(values):
                    return values
        raise NoSetting


@cache
def _thread_pools() -> ThreadpoolController:
    """Those of linear algebra; looking for them takes as long as many a suggestion."""
    import scipy.linalg  # noqa: F401  # its threads are found only once it is there
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _spread(search: Search, latency_ms: Array) -> Array:
    """Settings in such an order that the first ones of a search spread evenly by rank of latency."""
    # What is so slow that accuracy can hardly make up for it teaches little.
    term = search.latency_term(latency_ms)
    promising = term >= np.nanmax(term, initial=-np.inf) - _SLOW
    order = np.argsort(latency_ms, kind="stable")[: np.count_nonzero(promising)]
    # The golden ratio spreads any number of points evenly.
    return np.roll(order, -int(len(order) * ((len(search.trials) + 0.5) * 0.6180339887498949 % 1)))


def _best(search: Search, settings: Sequence[Values], latency_ms: Array) -> Array:
    """Settings that keep the limits, the highest expected score first."""
    assert search.expected is not None
    kept = np.flatnonzero(~np.isnan(latency_ms))
    accuracy = search.expected.of([settings[index] for index in kept])
    score = accuracy / search.reference_accuracy + search.latency_term(latency_ms[kept])
    order: Array = kept[np.argsort(-score, kind="stable")]
    return order


class _Belief:
    """What the trials so far say about settings."""

    def __init__(self, search: Search, encoding: Encoding) -> None:
        self._search = search
        self._encoding = encoding
        completed = search.completed
        running = [trial for trial in search.trials if trial.running]
        self._latency = None
        if search.screen is None:
            known = [trial for trial in [*search.trials, *search.refused] if trial.latency_ms > 0]
            targets = np.log([trial.latency_ms for trial in known])
            self._latency = GaussianProcess([self._features(known)], targets)
        accuracy = np.array([trial.accuracy for trial in completed])
        expected = 0.0 if search.expected is None else search.expected.completed
        self._process = GaussianProcess(self._groups(completed), accuracy - expected)
        if running:
            groups = self._groups(running)
            self._process = self._process.with_observations(groups, self._process.predict(groups)[0])
        self._best = max(completed, key=lambda trial: trial.score or 0.0).score or 0.0

    def best_units(self, count: int) -> Array:
        """Points of the best trials, shape (count, dimensions); repeated where there are fewer."""
        best = sorted(self._search.completed, key=lambda trial: -(trial.score or 0.0))[:count]
        return np.resize(self._encoding.units([trial.values for trial in best]), (count, self._encoding.dimensions))

    def judge(self, units: Array) -> tuple[list[Values], Array, Array]:
        """The new settings among points of the cube that keep the limits: settings, points, expected improvement."""
        settings = self._encoding.values(units)
        distinct = {tuple(values.items()): index for index, values in enumerate(settings)}
        new = [index for index in distinct.values() if self._search.is_new(settings[index])]
        settings, units = [settings[index] for index in new], units[new]
        if not settings:
            return settings, units, np.empty(0)
        features = self._encoding.features(units)
        if self._search.screen is not None:
            latency_ms = self._search.screen(settings)
        else:
            assert self._latency is not None
            latency_ms = np.exp(self._latency.predict([features])[0])
        kept = np.flatnonzero(~np.isnan(latency_ms))
        settings, units, latency_ms = [settings[index] for index in kept], units[kept], latency_ms[kept]
        if not settings:
            return settings, units, np.empty(0)
        mean, deviation = self._process.predict([features[kept], np.log(latency_ms)[:, None]])
        if self._search.expected is not None:
            mean = mean + self._search.expected.of(settings)
        score = mean / self._search.reference_accuracy + self._search.latency_term(latency_ms)
        return settings, units, _expected_improvement(score, deviation / self._search.reference_accuracy, self._best)

    def _features(self, trials: Sequence[Observation]) -> Array:
        return self._encoding.features(self._encoding.units([trial.values for trial in trials]))

    def _groups(self, trials: Sequence[Observation]) -> list[Array]:
        return [self._features(trials), np.log([[trial.latency_ms] for trial in trials])]


def _expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """E[max(0, score - best)] of a normal score, as a logarithm where it would vanish; only its order matters."""
    from scipy.special import log_ndtr

    z = (mean - best) / deviation
    # z Phi(z) + phi(z) is the improvement in deviations; far below 0 it behaves as phi(z) / z^2.
    density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    near = np.log(np.maximum(z * np.exp(log_ndtr(z)) + np.exp(density), 1e-300))
    far = density - 2 * np.log(np.maximum(-z, 1.0))
    return np.asarray(np.log(deviation) + np.where(z < -6, far, near))
