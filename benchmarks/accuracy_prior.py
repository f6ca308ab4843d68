"""Accuracy from few trainings: what earlier searches are worth, on the searches that `accuracy_searches.py` recorded.

Each recorded search is the new one in turn. First, its accuracies are predicted after a few random trainings, with the
other searches and without, and compared with those reached: Spearman, mean over draws of the trainings. Then the
Bayesian strategy searches among the recorded settings, with and without the other searches as its prior mean, until it
has found the best score; latency is that of a formula device.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accuracy_searches import SEARCHES, hypermodel
from common import write_result

from blsm.accuracy_prior import AccuracyPredictor, random_networks
from blsm.cli.common import print_table
from blsm.profiles import Chain
from blsm.score import balanced_score, latency_term
from blsm.searches import FinishedSearch, SearchTrial
from blsm.strategies import Bayesian, Encoding, Expected, Observation, Search
from blsm.strategies.gaussian_process import GaussianProcess
from blsm.testing import fake_latency_ms
from blsm.transfer.accuracy import AccuracyPrior, KnownSearch

#: A search has found a good setting when it has one of so many best.
GOOD = 3
#: What is known before a search.
NOTHING, ALL = "nothing", "all of these"


@dataclass(frozen=True)
class Record:
    """A recorded search.

    Attributes:
        name: family and task.
        settings: that were trained.
        networks: their blocks.
        accuracies: that they reached.
        latency_ms: on the formula device.
        reference_ms: twice the median latency.
        space: random networks of the hypermodel.
    """

    name: str
    settings: list[dict[str, Any]]
    networks: list[Chain]
    accuracies: np.ndarray
    latency_ms: np.ndarray
    reference_ms: float
    space: list[Chain]

    @property
    def family(self) -> str:
        """Block family of the hypermodel."""
        return self.name.split(", ")[0]

    @property
    def scores(self) -> np.ndarray:
        """Balanced accuracy-latency scores."""
        return balanced_score(self.accuracies, self.latency_ms, reference_latency_ms=self.reference_ms)

    def finished(self) -> FinishedSearch:
        """As the predictor takes it."""
        columns = (self.accuracies, self.latency_ms, self.scores, map(json.dumps, self.settings))
        return FinishedSearch(self.name, tuple(SearchTrial(*row) for row in zip(*columns, strict=True)))


def read(path: Path) -> list[Record]:
    """The recorded searches."""
    import keras_tuner

    records = []
    for name, trials in json.loads(path.read_text()).items():
        model = hypermodel(name.split(", ")[0])
        settings, networks = [trial["setting"] for trial in trials], []
        for values in settings:
            hp = keras_tuner.HyperParameters()
            hp.values = values
            networks.append(model.blocks(hp))
        latency_ms = np.array([fake_latency_ms(network) for network in networks])
        accuracies = np.array([trial["accuracy"] for trial in trials])
        reference_ms = 2 * float(np.median(latency_ms))
        space = random_networks(model)
        records.append(Record(name, settings, networks, accuracies, latency_ms, reference_ms, space))
    return records


def others(record: Record, records: Sequence[Record]) -> dict[str, list[Record]]:
    """What may be known before a search: label -> earlier searches."""

    def alike(other: Record, number: int) -> bool:
        return other.name.split(", ")[number] == record.name.split(", ")[number]

    rest = [other for other in records if other is not record]
    return {
        NOTHING: [],
        "same family, other task": [other for other in rest if alike(other, 0)],
        "same task, other family": [other for other in rest if alike(other, 1)],
        "other family and task": [other for other in rest if not (alike(other, 0) or alike(other, 1))],
        ALL: rest,
    }


def learn(records: Sequence[Record], proxies: Sequence[str]) -> dict[str, KnownSearch]:
    """What each recorded search teaches, by its name."""
    finished = [record.finished() for record in records]
    predictor = AccuracyPredictor.fit(finished, [hypermodel(record.family) for record in records], proxies=proxies)
    return {known.name: known for known in predictor.searches}


#: Networks that were trained, their accuracies, networks to predict -> accuracies; networks are rows of a record.
Predict = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def regression(record: Record, prior: AccuracyPrior) -> Predict:
    """Predicts with the Bayesian regression."""

    def predict(trained: np.ndarray, accuracies: np.ndarray, asked: np.ndarray) -> np.ndarray:
        model = prior.adapt([record.networks[row] for row in trained], accuracies)
        return model.predict([record.networks[row] for row in asked])

    return predict


def process(record: Record) -> Predict:
    """Predicts as the Bayesian strategy does without a prior mean."""
    encoding = Encoding(space_of(record).space)
    groups = [encoding.features(encoding.units(record.settings)), np.log(record.latency_ms)[:, None]]

    def predict(trained: np.ndarray, accuracies: np.ndarray, asked: np.ndarray) -> np.ndarray:
        return GaussianProcess([g[trained] for g in groups], accuracies).predict([g[asked] for g in groups])[0]

    return predict


def correlations(record: Record, predict: Predict, samples: int, draws: int) -> list[float]:
    """Spearman of predicted and reached accuracy of the other settings, for each draw of the samples; 0 where all
    predictions are equal."""
    from scipy.stats import spearmanr

    found = []
    for seed in range(draws):
        trained, asked = np.split(np.random.default_rng(seed).permutation(len(record.networks)), [samples])
        predicted = predict(trained, record.accuracies[trained], asked)
        found.append(float(np.nan_to_num(spearmanr(predicted, record.accuracies[asked]).statistic)))
    return found


def space_of(record: Record) -> Any:
    """KerasTuner's hyperparameters of the hypermodel that was searched."""
    import keras_tuner

    space = keras_tuner.HyperParameters()
    hypermodel(record.family).declare_hyperparameters(space)
    return space


class RecordedSettings(Encoding):
    """A space in which the recorded settings are all there is: chance decides about the first ones that are looked at,
    then all of them are."""

    def __init__(self, space: Any, settings: Sequence[dict[str, Any]]) -> None:
        super().__init__(space.space)
        self._known = self.units(settings)

    def sample(self, count: int, random: np.random.Generator) -> np.ndarray:
        return self._known[random.integers(len(self._known), size=len(self._known))]

    def perturb(self, units: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return self._known


@dataclass(frozen=True)
class Replay(Search):
    """A search among recorded settings."""

    recorded: RecordedSettings | None = None

    def encoding(self) -> Encoding:
        assert self.recorded is not None
        return self.recorded


def replay(record: Record, prior: AccuracyPrior | None, seed: int) -> np.ndarray:
    """The scores of a search's trials, in order."""
    space = space_of(record)
    recorded = RecordedSettings(space, record.settings)
    rows = {json.dumps(values, sort_keys=True): row for row, values in enumerate(record.settings)}
    trials: list[Observation] = []

    def of(settings: Sequence[Any]) -> list[int]:
        return [rows[json.dumps(values, sort_keys=True)] for values in settings]

    def expected() -> Expected | None:
        if prior is None:
            return None
        done = of([trial.values for trial in trials])
        model = prior.adapt([record.networks[row] for row in done], record.accuracies[done])
        return Expected(model.left_out, lambda settings: model.predict([record.networks[row] for row in of(settings)]))

    while len(trials) < len(rows):
        search = Replay(
            space,
            trials,
            [],
            np.random.default_rng([seed, len(trials)]),
            lambda values: values not in [trial.values for trial in trials],
            lambda settings: record.latency_ms[of(settings)],
            lambda latency_ms: latency_term(latency_ms, reference_latency_ms=record.reference_ms),
            1.0,
            expected(),
            recorded,
        )
        values = Bayesian().suggest(search)
        (row,) = of([values])
        figures = record.latency_ms[row], record.accuracies[row], record.scores[row]
        trials.append(Observation(str(len(trials)), values, *map(float, figures)))
        if record.scores[row] == record.scores.max():
            break
    return np.array([trial.score for trial in trials])


def seconds(prior: AccuracyPrior, record: Record) -> dict[str, float]:
    """CPU seconds of learning from ten trainings, and of 1,000 networks' accuracies; the better of two."""
    networks, taken = (record.space * (1000 // len(record.space) + 1))[:1000], []
    for _ in range(2):
        started_s = time.process_time()
        model = prior.adapt(record.networks[:10], record.accuracies[:10])
        learned_s = time.process_time()
        model.predict(networks)
        taken.append((learned_s - started_s, time.process_time() - learned_s))
    adapt_s, predict_s = np.min(taken, axis=0).tolist()
    return {"adapt_s": adapt_s, "predict_1000_s": predict_s}


def main() -> None:
    """Judges, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=Path, default=SEARCHES, help="as `accuracy_searches.py` wrote them")
    parser.add_argument("--samples", default="5,10", help="trainings before accuracies are predicted, by commas")
    parser.add_argument("--draws", type=int, default=20, help="of the trainings")
    parser.add_argument("--seeds", type=int, default=10, help="of each search")
    parser.add_argument("--proxies", default="", help="zero-cost proxies, by commas")
    options = parser.parse_args()
    proxies = [name for name in options.proxies.split(",") if name]
    samples = [int(count) for count in options.samples.split(",")]
    records = read(options.searches)
    learned = learn(records, proxies)
    predicted: list[dict[str, Any]] = []
    searched: list[dict[str, Any]] = []
    times = {}
    for record in records:
        priors = {
            known: AccuracyPrior([learned[other.name] for other in earlier], record.space, proxies)
            for known, earlier in others(record, records).items()
        }
        times = seconds(priors[ALL], record)
        predictors = {f"{NOTHING}, Gaussian process": process(record)}
        predictors |= {known: regression(record, prior) for known, prior in priors.items()}
        for known, predict in predictors.items():
            for count in samples if known.startswith(NOTHING) else [0, *samples]:
                found = correlations(record, predict, count, options.draws if count else 1)
                predicted.append({"search": record.name, "known": known, "trainings": count, "spearman": found})
        good = np.sort(record.scores)[-GOOD]
        for known, told in ((NOTHING, None), (ALL, priors[ALL])):
            curves = [replay(record, told, seed) for seed in range(options.seeds)]
            first_good = [int(np.argmax(curve >= good)) + 1 for curve in curves]
            searched.append(
                {"search": record.name, "known": known, "to_best": list(map(len, curves)), "to_good": first_good}
            )
    report(records, predicted, searched)
    print(f"CPU seconds: {times}")
    figures = {
        "settings": {record.name: len(record.settings) for record in records},
        "proxies": proxies,
        "predicted": predicted,
        "searched": searched,
        **times,
    }
    write_result("accuracy_prior", figures)


def report(records: list[Record], predicted: list[dict[str, Any]], searched: list[dict[str, Any]]) -> None:
    """Prints both tables."""

    def cells(rows: list[dict[str, Any]], name: str) -> list[float]:
        found = [float(np.mean(row[name])) for row in rows]
        return [*found, float(np.mean(found))]

    titles = [record.name for record in records]
    table: list[tuple[str, ...]] = []
    for known, count in dict.fromkeys((row["known"], row["trainings"]) for row in predicted):
        rows = [row for row in predicted if (row["known"], row["trainings"]) == (known, count)]
        table.append((known, str(count), *(f"{value:.3f}" for value in cells(rows, "spearman"))))
    print_table(table, ("known before", "trainings", *titles, "mean"))
    print()
    table = []
    for label, name, best in (("the best score", "to_best", 1), (f"one of the best {GOOD}", "to_good", GOOD)):
        chance = [(len(record.settings) + 1) / (best + 1) for record in records]
        table.append((label, "random search", *(f"{value:.1f}" for value in [*chance, float(np.mean(chance))])))
        for known in dict.fromkeys(row["known"] for row in searched):
            found = cells([row for row in searched if row["known"] == known], name)
            table.append((label, f"Bayesian, known: {known}", *(f"{value:.1f}" for value in found)))
    print_table(table, ("trials to", "search", *titles, "mean"))


if __name__ == "__main__":
    main()
