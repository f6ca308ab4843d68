"""Charts of a latency model: predicted against measured (BLSM, Fig. 4), normal probability (Fig. 5), a breakdown."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from blsm.evaluation import Comparison
from blsm.latency_model import LatencyEstimate
from blsm.report.chart import Axis, Chart, Panel, Series, density, group

#: How far apart the quartiles of a standard normal distribution lie.
_QUARTILES = 1.349

#: Subject (block family, or `networks`) -> regressor -> predictions beside measurements.
Comparisons = Mapping[str, Mapping[str, Comparison]]


def predicted_versus_measured(comparisons: Comparisons) -> Chart:
    """A panel for each block family and for networks, with a 10 % band; a colour for each regressor."""
    panels = []
    colours = _colours(comparisons)
    for subject, found in comparisons.items():
        values = np.concatenate([part for c in found.values() for part in (c.predicted_ms, c.measured_ms)])
        low, high = values.min() / 1.1, values.max() * 1.1
        band = Series("", [low, high, high, low], [0.9 * low, 0.9 * high, 1.1 * high, 1.1 * low], "band", "muted")
        series = [band, Series("", [low, high], [low, high], "line", "muted")]
        for regressor, comparison in found.items():
            pairs = list(zip(comparison.measured_ms, comparison.predicted_ms, strict=True))
            hover = [
                f"<b>{subject}, {regressor}</b><br>measured {measured:.4g} ms<br>predicted {predicted:.4g} ms"
                f"<br>off by {predicted / measured - 1:+.1%}"
                for measured, predicted in pairs
            ]
            series.append(
                Series(
                    regressor,
                    comparison.measured_ms,
                    comparison.predicted_ms,
                    colour=colours[regressor],
                    hover=hover,
                )
            )
        count = max(len(comparison.measured_ms) for comparison in found.values())
        panels.append(
            Panel(
                f"{subject}, n = {count}",
                Axis("measured, ms", log=True),
                Axis("predicted, ms", log=True),
                tuple(series),
            )
        )
    caption = "Blocks that the surrogates were not fitted on, and networks measured whole. Band: within 10 %."
    return Chart("predicted_measured", "Predicted against measured latency", caption, tuple(panels))


def normal_probability(comparisons: Comparisons) -> Chart:
    """Ordered relative errors against what a normal distribution would have, with their kernel density as margin.

    Plotting positions are (i - 3/8) / (n + 1/4) (Blom 1958).
    """
    from scipy.stats import norm

    panels = []
    colours = _colours(comparisons)
    for subject, found in comparisons.items():
        series, margin = [], []
        for regressor, comparison in found.items():
            errors = np.sort(np.log(comparison.predicted_ms / comparison.measured_ms))
            quantiles = norm.ppf((np.arange(1, len(errors) + 1) - 0.375) / (len(errors) + 0.25))
            colour = colours[regressor]
            hover = [
                f"<b>{subject}, {regressor}</b><br>error {np.expm1(error):+.1%}<br>normal quantile {quantile:.2f}"
                for error, quantile in zip(errors, quantiles, strict=True)
            ]
            relative = np.expm1(errors)
            # Through the quartiles, so that outliers don't tilt it.
            lower, middle, upper = np.quantile(errors, [0.25, 0.5, 0.75])
            ends = quantiles[[0, -1]]
            fitted = np.expm1(middle + (upper - lower) / _QUARTILES * ends)
            series.append(Series("", ends, fitted, "line", colour, dashed=True))
            series.append(Series(regressor, quantiles, relative, colour=colour, hover=hover))
            at, dense = density(relative)
            margin.append(Series("", dense, at, "area", colour))
        axes = (Axis("normal quantile, standard deviations"), Axis("predicted / measured - 1", percent=True))
        panels.append(Panel(subject, *axes, tuple(series), tuple(margin)))
    caption = (
        "Errors along the dashed line, drawn through their quartiles, are normally distributed; bends at its ends are "
        "outliers. Right: density of the errors."
    )
    return Chart("normal_probability", "Normal-probability plot of the errors", caption, tuple(panels))


def breakdown(estimate: LatencyEstimate, name: str) -> Chart:
    """What each block adds to the latency of a network, in its order."""
    rows = [
        (f"{number} {block.config.family} {'x'.join(map(str, block.config.input_shape))}", block)
        for number, block in enumerate(estimate.blocks, start=1)
    ]
    hover = [
        f"<b>{label}</b><br>{block.latency_ms:.4g} ms, {block.latency_ms / estimate.latency_ms:.1%} of the network"
        f"<br>interval {block.low_ms:.4g} to {block.high_ms:.4g} ms<br>"
        + "<br>".join(f"{key} {value}" for key, value in block.config.to_dict().items())
        for label, block in rows
    ]
    rest = ("", "dispatch", f"<b>dispatch</b><br>{estimate.dispatch_ms:.4g} ms: entering and leaving the runtime")
    bars = Series(
        "",
        [*(block.latency_ms for _, block in rows), estimate.dispatch_ms],
        [*(label for label, _ in rows), rest[1]],
        "bars",
        "sm",
        [*hover, rest[2]],
    )
    caption = (
        f"{name}: {estimate.latency_ms:.4g} ms, 90 % interval {estimate.low_ms:.4g} to {estimate.high_ms:.4g} ms, "
        f"coverage {estimate.coverage:.0%}."
    )
    panel = Panel("", Axis("predicted latency, ms"), Axis(""), (bars,))
    return Chart("breakdown", "Latency by block", caption, (panel,))


def _colours(comparisons: Comparisons) -> dict[str, str]:
    """Regressor -> colour role, the same in every panel."""
    regressors = dict.fromkeys(regressor for found in comparisons.values() for regressor in found)
    return {regressor: group(number) for number, regressor in enumerate(regressors)}
