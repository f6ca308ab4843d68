"""Accuracy in a new space: by earlier searches, and by trainings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from blsm.errors import FitError
from blsm.hypermodels import sample_networks
from blsm.profiles import Chain
from blsm.transfer.accuracy import AccuracyPrior, KnownSearch
from blsm.transfer.network_encoding import NetworkEncoder, normal_scores
from blsm.transfer.ridge import Ridge


def _networks(family: str, count: int, seed: int) -> list[Chain]:
    return sample_networks(count, seed, families=[family], input_shape=(16, 16, 3), depth=(2, 5))


def _accuracies(networks: Sequence[Chain], sign: int = 1) -> np.ndarray:
    """Large and deep networks are accurate; or the other way round."""
    size = np.log10([sum(config.macs for config in network) for network in networks])
    depth = np.array(list(map(len, networks)))
    return 0.5 + sign * (0.15 * (size - 6.5) + 0.03 * (depth - 5))


def _known(family: str, sign: int = 1) -> KnownSearch:
    networks = _networks(family, 60, seed=1)
    encoder = NetworkEncoder(_networks(family, 100, seed=2))
    reached = _accuracies(networks, sign)
    fit = Ridge.fit(encoder.encode(networks), normal_scores(reached))
    return KnownSearch(family, encoder.names, fit.coefficients, float(reached.mean()), float(reached.std()))


SPACE = _networks("res_v1", 100, seed=3)
TRAINED, ASKED = _networks("res_v1", 8, seed=4), _networks("res_v1", 60, seed=5)


def _correlation(prior: AccuracyPrior, samples: int) -> float:
    model = prior.adapt(TRAINED[:samples], _accuracies(TRAINED[:samples]))
    return float(np.corrcoef(model.predict(ASKED), _accuracies(ASKED))[0, 1])


def test_a_search_of_another_family_foretells_accuracy() -> None:
    prior = AccuracyPrior([_known("mbconv")], SPACE)
    assert _correlation(prior, 0) > 0.9
    assert _correlation(prior, 8) > 0.95
    assert _correlation(prior, 8) > _correlation(AccuracyPrior([], SPACE), 8)


def test_trainings_overrule_searches_that_mislead() -> None:
    prior = AccuracyPrior([_known("mbconv", sign=-1)], SPACE)
    assert _correlation(prior, 0) < -0.9
    assert _correlation(prior, 8) > 0.8


def test_without_trainings_the_level_is_that_of_earlier_searches() -> None:
    known = _known("mbconv")
    model = AccuracyPrior([known], SPACE).adapt([], [])
    predicted = model.predict(ASKED)
    assert abs(predicted.mean() - known.level) < known.spread
    assert predicted.min() >= 0
    assert predicted.max() <= 1
    assert model.predict([]).shape == (0,)


def test_what_is_left_out_is_predicted_by_the_others() -> None:
    prior = AccuracyPrior([_known("mbconv")], SPACE)
    reached = _accuracies(TRAINED)
    honest = prior.adapt(TRAINED, reached).left_out
    wrong = reached.copy()
    wrong[3] += 0.2
    assert np.abs(honest - reached).max() < 0.1 < np.ptp(reached)
    assert abs(prior.adapt(TRAINED, wrong).left_out[3] - wrong[3]) > 0.1, "an outlier does not foretell itself"


def test_the_same_seed_gives_the_same_predictions() -> None:
    first, second = (
        AccuracyPrior([_known("mbconv")], SPACE, seed=7).adapt(TRAINED, _accuracies(TRAINED)) for _ in "12"
    )
    np.testing.assert_array_equal(first.predict(ASKED), second.predict(ASKED))


@pytest.mark.parametrize("accuracies", [[0.5], [0.5, float("nan")], [0.5, 93.0]])
def test_trainings_need_an_accuracy_each(accuracies: list[float]) -> None:
    with pytest.raises(FitError, match="2 trained networks need as many accuracies from 0 to 1.*leave out"):
        AccuracyPrior([], SPACE).adapt(TRAINED[:2], accuracies)
