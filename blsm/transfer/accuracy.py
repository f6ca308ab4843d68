"""Accuracy in a new search space: what earlier searches foretell, corrected by the first trainings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blsm._types import Array
from blsm.errors import FitError
from blsm.profiles import Chain
from blsm.transfer import bayesian_regression
from blsm.transfer.bayesian_regression import Posterior
from blsm.transfer.network_encoding import NetworkEncoder

#: Trainings from which on they are learned from.
_LEAST = 3
#: Trainings are noisy, and few: rows of features shorter than 1 make the regression slow to leave what is expected.
_LENGTH = 0.1


@dataclass(frozen=True)
class KnownSearch:
    """What an earlier search taught: which networks of its space are better than others.

    Attributes:
        name: its folder, or what it is called in messages.
        columns: of the encoding.
        coefficients: of the columns, for accuracies as normal scores, shape (len(columns),).
        level: mean accuracy of its trials.
        spread: their standard deviation.
    """

    name: str
    columns: tuple[str, ...]
    coefficients: Array
    level: float
    spread: float


class AccuracyPrior:
    """What earlier searches say of the networks of one search space.

    Trainings in the space decide, by the marginal likelihood of `bayesian_regression`, how far to trust the mean of the
    earlier searches, each of them, and each group of the encoding itself.

    Args:
        known: the earlier searches; without any, trainings are all there is to go by.
        networks: random ones of the space.
        proxies: names of zero-cost proxies, see `blsm.transfer.zero_cost.PROXIES`.
        seed: of every random choice.

    Raises:
        CoverageError: no networks.
        UnknownNameError: no such proxy.
    """

    def __init__(
        self, known: Sequence[KnownSearch], networks: Sequence[Chain], proxies: Sequence[str] = (), seed: int = 0
    ) -> None:
        self._known = tuple(known)
        self._seed = seed
        self._encoder = NetworkEncoder(networks, proxies, seed)
        columns = {name: number for number, name in enumerate(self._encoder.names)}
        self._coefficients = np.zeros((len(columns), len(self._known)))
        for number, search in enumerate(self._known):
            for name, coefficient in zip(search.columns, search.coefficients, strict=True):
                if name in columns:
                    self._coefficients[columns[name], number] = coefficient
        self._lengths = np.array(
            [math.sqrt(np.square(table).sum(axis=1).mean()) or 1.0 for table in self._sources(networks)]
        )

    def adapt(self, networks: Sequence[Chain], accuracies: Sequence[float]) -> AccuracyModel:
        """Learns from the trainings of the new search so far; changes nothing here.

        Args:
            networks: that were trained.
            accuracies: that they reached, 0 to 1.

        Raises:
            FitError: not one finite accuracy from 0 to 1 for each network.
        """
        target = np.array(accuracies, float)
        if target.shape != (len(networks),) or not np.all((target >= 0) & (target <= 1)):
            raise FitError(
                f"{len(networks)} trained networks need as many accuracies from 0 to 1, got {list(accuracies)[:5]}: "
                "leave out trials that failed"
            )
        expected = self.expected(networks)
        if len(networks) < _LEAST:
            return AccuracyModel(self, None, expected)
        posterior = bayesian_regression.fit(self.features(networks), target - expected, self._seed)
        return AccuracyModel(self, posterior, expected + posterior.left_out(target - expected))

    def expected(self, networks: Sequence[Chain]) -> Array:
        """Accuracies without any training in the new search, shape (len(networks),)."""
        if not (networks and self._known):
            return np.zeros(len(networks))
        level, spread = np.mean([[search.level, search.spread] for search in self._known], axis=0)
        scores = (self._encoder.encode(networks) @ self._coefficients).mean(axis=1)
        accuracies: Array = np.clip(level + spread * scores, 0.0, 1.0)
        return accuracies

    def features(self, networks: Sequence[Chain]) -> list[Array]:
        """The sources of knowledge as tables of features, each with rows of a length of about `_LENGTH`."""
        scales = _LENGTH / self._lengths
        return [scale * source for scale, source in zip(scales, self._sources(networks), strict=True)]

    def _sources(self, networks: Sequence[Chain]) -> list[Array]:
        encoded = self._encoder.encode(networks)
        stops = np.cumsum([len(names) for names in self._encoder.groups.values()])
        groups = [group for group in np.split(encoded, stops[:-1], axis=1) if group.size]
        if not self._known:
            return groups
        scores = encoded @ self._coefficients
        return [scores.mean(axis=1, keepdims=True), *np.split(scores, len(self._known), axis=1), *groups]


@dataclass(frozen=True)
class AccuracyModel:
    """Accuracies in a search space, by earlier searches and by trainings in it.

    Attributes:
        prior: what is known without these trainings.
        posterior: of what they add to it; None while they are too few.
        left_out: what the others say of each training, accuracies of shape (trainings,).
    """

    prior: AccuracyPrior
    posterior: Posterior | None
    left_out: Array

    def predict(self, networks: Sequence[Chain]) -> Array:
        """Accuracies that are expected, not clipped to 0 to 1, shape (len(networks),)."""
        if not networks:
            return np.zeros(0)
        expected = self.prior.expected(networks)
        if self.posterior is None:
            return expected
        return expected + self.posterior.predict(np.hstack(self.prior.features(networks)))
