"""Charts of searches: accuracy against latency with the Pareto fronts (BLSM, Fig. 6), HA-scores (Fig. 7), progress."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from blsm.feasibility import front, scores
from blsm.report.chart import Axis, Chart, Panel, Series, density
from blsm.searches import FinishedSearch, SearchTrial

#: `hil`, `sm` or both, by role.
Searches = Mapping[str, FinishedSearch]

#: What a search of each role is called; the role is that of its colour too.
SEARCHES = {"hil": "HIL, measured", "sm": "SM, predicted"}


def accuracy_latency(searches: Searches, remeasured: Mapping[SearchTrial, float] = MappingProxyType({})) -> Chart:
    """All completed trials, and the Pareto fronts.

    Args:
        searches: by role.
        remeasured: trial of the surrogate front -> what the device says of it, milliseconds.
    """
    series: list[Series] = []
    for role, search in searches.items():
        trials = search.trials
        series.append(
            Series(
                SEARCHES[role],
                [trial.latency_ms for trial in trials],
                [trial.accuracy for trial in trials],
                colour=role,
                hover=[_hover(trial, role) for trial in trials],
            )
        )
    for role, search in searches.items():
        optimal = front(search.trials)
        series.append(
            Series(
                f"{role.upper()} front",
                [trial.latency_ms for trial in optimal],
                [trial.accuracy for trial in optimal],
                "front",
                role,
                [_hover(trial, f"{role} front") for trial in optimal],
            )
        )
    caption = "Higher and further left is better. Steps join the trials that no other beats in both."
    if remeasured:
        ordered = sorted(remeasured, key=remeasured.__getitem__)
        series.append(
            Series(
                "SM front, re-measured",
                [remeasured[trial] for trial in ordered],
                [trial.accuracy for trial in ordered],
                "crosses",
                "good",
                [f"{_hover(trial, 'sm front')}<br>measured {remeasured[trial]:.4g} ms" for trial in ordered],
            )
        )
        caption += " Crosses: where the device puts the surrogate's front."
    panel = Panel("", Axis("latency, ms", log=True), Axis("validation accuracy", percent=True), tuple(series))
    return Chart("accuracy_latency", "Accuracy against latency", caption, (panel,))


def score_density(searches: Searches) -> Chart:
    """Kernel densities of the HA-scores; where all are equal there is nothing to draw."""
    span, left_out = _span(searches)
    series = []
    for role, search in searches.items():
        at, dense = density(np.maximum(scores(search.trials), span[0]))
        hover = [f"{SEARCHES[role]}<br>HA-score {x:.3f}<br>density {y:.3g}" for x, y in zip(at, dense, strict=True)]
        series.append(Series(SEARCHES[role], at, dense, "area", role, hover))
    panel = Panel("", Axis("HA-score (balanced accuracy-latency score)"), Axis("density"), tuple(series))
    caption = "How often each search tried networks of which score. The closer the curves, the smaller W_overall."
    if left_out:
        caption += (
            f" Of networks slower than the reference latency, {left_out} count as {span[0]:.3g}: they score less."
        )
    return Chart("score_density", "Density of HA-scores", caption, (panel,), narrow=True)


def progress(searches: Searches) -> Chart:
    """The best HA-score so far against the number of completed trials."""
    span, left_out = _span(searches)
    series = []
    for role, search in searches.items():
        values = scores(search.trials)
        numbers = np.arange(1, len(values) + 1)
        best = np.maximum.accumulate(values)
        series.append(Series("", numbers, values, "points", role, [_hover(trial, role) for trial in search.trials]))
        hover = [f"{SEARCHES[role]}<br>best of {number} trials: {score:.4f}" for number, score in enumerate(best, 1)]
        series.append(Series(SEARCHES[role], numbers, best, "line", role, hover))
    panel = Panel("", Axis("completed trials"), Axis("HA-score", span=span), tuple(series))
    caption = "Lines: the best score so far. Points: each trial."
    if left_out:
        caption += f" Networks slower than the reference latency lie far below: {left_out} are not shown."
    return Chart("progress", "Progress", caption, (panel,), narrow=True)


def _span(searches: Searches) -> tuple[tuple[float, float], int]:
    """The HA-scores to show, and how many lie below: beyond the reference latency, scores fall to any depth."""
    values = np.concatenate([scores(search.trials) for search in searches.values()])
    fast = [
        trial.score
        for search in searches.values()
        for trial in search.trials
        if trial.latency_ms < (search.reference_latency_ms or np.inf)
    ]
    low, high = min(fast, default=values.min()), values.max()
    room = 0.05 * max(high - low, 0.01)
    return (float(low - room), float(high + room)), int(np.count_nonzero(values < low - room))


def _hover(trial: SearchTrial, what: str) -> str:
    named = f" {trial.name}" if trial.name else ""
    interval = "" if trial.low_ms is None else f" ({trial.low_ms:.4g} to {trial.high_ms:.4g} ms)"
    return (
        f"<b>{what.replace('hil', 'HIL').replace('sm', 'SM')} trial{named}</b><br>accuracy {trial.accuracy:.2%}<br>"
        f"latency {trial.latency_ms:.4g} ms{interval}<br>HA-score {trial.score:.4f}"
    )
