"""What accuracy the networks of a search will reach, by earlier searches and the first few trainings of this one.

predictor = AccuracyPredictor.fit(["found"], hypermodel)     # finished searches, also of other tasks and families
predictor.save("found.accuracy")
LatencyOracle(latency_model, accuracy_prior=predictor)
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.errors import DomainError, FitError, SearchError
from blsm.hypermodels.reach import random_settings
from blsm.hypermodels.settings import list_blocks
from blsm.profiles import Chain
from blsm.screening import Screening
from blsm.searches import AnySearch, FinishedSearch, as_search
from blsm.strategies import Encoding, Expected, Observation
from blsm.transfer.accuracy import AccuracyPrior, KnownSearch
from blsm.transfer.base import Stored, arrays_from_bytes, arrays_to_bytes
from blsm.transfer.network_encoding import NetworkEncoder, normal_scores
from blsm.transfer.ridge import Ridge

if TYPE_CHECKING:
    from keras_tuner import HyperModel, HyperParameters

#: Trials that it takes to learn from a search.
LEAST_TRIALS = 10
#: Random networks that say what is usual in a search space.
REFERENCE_NETWORKS = 256
#: Raised whenever the encoding of networks changes.
_ENCODING = 1
_UNLISTED = (
    "accuracy is predicted from blocks, and the hypermodel, a {}, does not list them: give it a method blocks(hp), as "
    "those of blsm.hypermodels have"
)
_DATA, _COEFFICIENTS = "accuracy.json", "coefficients.npz"


class AccuracyPredictor(Stored):
    """Predicts validation accuracy in new searches, of the same or another task, hypermodel or block family.

    Accuracy transfer as in Multi-Predict (Akhauri and Abdelfattah 2023): an encoding that search spaces share, and
    learning from earlier ones before a few trainings of the new one. In place of a neural network that is fine-tuned,
    each earlier search is a ridge regression on the encoding, and the regression of the block prior learns from the
    trainings how far to trust them, see `AccuracyPrior`.

    Attributes:
        searches: what was learned.
        proxies: names of the zero-cost proxies in the encoding.
        seed: of every random choice.
    """

    name: ClassVar[str] = "accuracy"

    def __init__(self, searches: Sequence[KnownSearch], proxies: Sequence[str] = (), seed: int = 0) -> None:
        self.searches = tuple(searches)
        self.proxies = tuple(proxies)
        self.seed = seed

    @classmethod
    def fit(
        cls,
        searches: Sequence[AnySearch],
        hypermodels: HyperModel | Sequence[HyperModel],
        *,
        proxies: Sequence[str] = (),
        seed: int = 0,
    ) -> Self:
        """Learns from finished searches; trials that failed are skipped.

        Args:
            searches: their folders, `blsm.searches.FinishedSearch`, or lists of trials.
            hypermodels: what was searched: one for all, or one for each search. They must list the blocks of a setting
                without building Keras, as those of `blsm.hypermodels` do.
            proxies: zero-cost proxies to use besides costs and block parameters; at the start of a search they are
                computed for 64 random networks, which takes seconds to minutes.
            seed: the same seed and searches give the same predictions.

        Raises:
            FitError: no search, too few trials, or accuracies that can't be learned from.
            SearchError: a hypermodel is not the one that was searched, or does not list its blocks.
            FileError: a folder is no search.
            UnknownNameError: no such proxy.
        """
        if not searches:
            raise FitError("an accuracy predictor learns from one or more finished searches, got none")
        each = list(hypermodels) if isinstance(hypermodels, Sequence) else [hypermodels] * len(searches)
        if len(each) != len(searches):
            raise DomainError(f"one hypermodel for all searches, or one for each: got {len(each)} for {len(searches)}")
        finished = [as_search(search, f"search {number}") for number, search in enumerate(searches, start=1)]
        learned = [_learn(*pair, proxies, seed) for pair in zip(finished, each, strict=True)]
        return cls(learned, proxies, seed)

    def space(self, networks: Sequence[Chain]) -> AccuracyPrior:
        """What is known of the networks of a search space before any of them was trained.

        Args:
            networks: random ones of the space, see `random_networks`.

        Raises:
            CoverageError: no networks.
        """
        return AccuracyPrior(self.searches, networks, self.proxies, self.seed)

    @cached_property
    def digest(self) -> str:
        """Equal for equal predictors."""
        return hashlib.sha256(b"".join(self.to_files().values())).hexdigest()[:16]

    def to_files(self) -> dict[str, bytes]:
        searches = [
            {"name": known.name, "columns": known.columns, "level": known.level, "spread": known.spread}
            for known in self.searches
        ]
        data = {"encoding": _ENCODING, "searches": searches, "proxies": self.proxies, "seed": self.seed}
        arrays = {str(number): known.coefficients for number, known in enumerate(self.searches)}
        return {_DATA: json.dumps(data).encode(), _COEFFICIENTS: arrays_to_bytes(arrays)}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        data = json.loads(files[_DATA])
        if data["encoding"] != _ENCODING:
            raise ValueError(f"it encodes networks by scheme {data['encoding']}, not {_ENCODING}: fit it anew")
        arrays = arrays_from_bytes(files[_COEFFICIENTS])
        searches = [
            KnownSearch(**{**known, "columns": tuple(known["columns"])}, coefficients=arrays[str(number)])
            for number, known in enumerate(data["searches"])
        ]
        return cls(searches, data["proxies"], int(data["seed"]))

    @classmethod
    def kind(cls) -> str:
        return "predictor"


class SearchPrior:
    """What a predictor says in a search, with all that the search has trained so far.

    Args:
        predictor: what was learned before.
        screening: knows the blocks of settings.
        space: KerasTuner's `HyperParameters`, the whole space.

    Raises:
        SearchError: the hypermodel does not list its blocks.
    """

    def __init__(self, predictor: AccuracyPredictor, screening: Screening, space: Any) -> None:
        self._screening = screening
        self._space = space
        encoding = Encoding(space.space)
        random = np.random.default_rng([predictor.seed, 1])
        networks = screening.chains(encoding.values(encoding.sample(REFERENCE_NETWORKS, random)), space)
        if not any(networks):
            raise SearchError(_UNLISTED.format(type(screening.hypermodel).__name__))
        self._prior = predictor.space([network for network in networks if network])

    def expected(self, completed: Sequence[Observation]) -> Expected:
        """The accuracies to expect after these trials."""
        networks = self._screening.chains([trial.values for trial in completed], self._space)
        model = self._prior.adapt(
            [network or () for network in networks], [trial.accuracy or 0.0 for trial in completed]
        )

        def of(settings: Sequence[Mapping[str, Any]]) -> Array:
            networks = self._screening.chains(settings, self._space)
            # What is no network will be refused.
            accuracies = np.zeros(len(networks))
            accuracies[[bool(network) for network in networks]] = model.predict([n for n in networks if n])
            return accuracies

        return Expected(model.left_out, of)


def random_networks(hypermodel: HyperModel, seed: int = 0, count: int = REFERENCE_NETWORKS) -> list[Chain]:
    """Blocks of random settings of a hypermodel; those that fit together to no network are left out.

    Raises:
        SearchError: it does not list its blocks.
    """
    settings = islice(random_settings(hypermodel, seed), count)
    return [network for network in (_blocks(hypermodel, hp) for hp in settings) if network]


def _learn(search: FinishedSearch, hypermodel: HyperModel, proxies: Sequence[str], seed: int) -> KnownSearch:
    trials = [trial for trial in search.trials if math.isfinite(trial.accuracy)]
    if len(trials) < LEAST_TRIALS:
        failed = search.failed + len(search.trials) - len(trials)
        raise FitError(
            f"to learn from a search takes {LEAST_TRIALS} trials with an accuracy, {search.name} has {len(trials)} "
            f"({failed} failed): search on, or leave it out"
        )
    accuracies = np.array([trial.accuracy for trial in trials])
    if accuracies.min() < 0 or accuracies.max() > 1 or np.ptp(accuracies) == 0:
        raise FitError(
            f"accuracies must differ and be from 0 to 1, those of {search.name} are from {accuracies.min():g} to "
            f"{accuracies.max():g}"
        )
    networks = _networks_of(search, [trial.setting for trial in trials], hypermodel, seed)
    encoder = NetworkEncoder(random_networks(hypermodel, seed), proxies, seed)
    coefficients = Ridge.fit(encoder.encode(networks), normal_scores(accuracies)).coefficients
    return KnownSearch(search.name, encoder.names, coefficients, float(accuracies.mean()), float(accuracies.std()))


def _networks_of(search: FinishedSearch, settings: Sequence[str], hypermodel: HyperModel, seed: int) -> list[Chain]:
    hp = next(random_settings(hypermodel, seed)).copy()
    names = {spec.name for spec in hp.space}
    networks = []
    for setting in settings:
        hp.values = json.loads(setting) if setting else {}
        if not (setting and hp.values.keys() <= names and (network := _blocks(hypermodel, hp))):
            raise SearchError(
                f"{search.name} has the setting {setting or 'unknown'}, which is none of the hypermodel's, whose "
                f"hyperparameters are {', '.join(sorted(names))}: give the hypermodel that was searched"
            )
        networks.append(network)
    return networks


def _blocks(hypermodel: HyperModel, hp: HyperParameters) -> Chain | None:
    """The blocks of a setting; None where they fit together to no network."""
    try:
        network = list_blocks(hypermodel, hp)
    except DomainError:
        return None
    if network is None:
        raise SearchError(_UNLISTED.format(type(hypermodel).__name__))
    return network
