"""What a figure shows, apart from how it is drawn: `interactive` draws it for the page, `picture` as PNG or SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from blsm._types import Array

#: points, crosses: markers; line: straight from point to point; front: markers joined by steps; area: filled down to
#: zero; band: filled, a closed outline; bars: horizontal, y are their names.
Kind = Literal["points", "crosses", "line", "front", "area", "band", "bars"]

#: Role -> colour on a light and on a dark page. Blue and orange stay apart for colour-blind readers too.
COLOURS: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#161b22"),
    "ground": ("#f3f5f8", "#0d1117"),
    "ink": ("#1d2733", "#e4e9f0"),
    "muted": ("#5c6875", "#93a0af"),
    "hil": ("#1763c7", "#6cb2ff"),
    "sm": ("#cf4a00", "#ffa24a"),
    "good": ("#2b8a3e", "#69c779"),
    "bad": ("#b3261e", "#ff8a80"),
    "group_0": ("#1763c7", "#6cb2ff"),
    "group_1": ("#cf4a00", "#ffa24a"),
    "group_2": ("#2b8a3e", "#69c779"),
    "group_3": ("#a1339a", "#e58ee0"),
    "group_4": ("#8a6d00", "#e3c34d"),
    "group_5": ("#007f8c", "#56cfdc"),
    "group_6": ("#b02a4c", "#ff8fab"),
}
#: Labels of a logarithmic axis: so many at least, and so many characters at most, or they would overlap.
_FEWEST_TICKS, _MOST_CHARACTERS = 3, 40
_GROUPS = sum(role.startswith("group_") for role in COLOURS)


def group(number: int) -> str:
    """The colour role of the n-th of several equals, counted from 0; they repeat after seven."""
    return f"group_{number % _GROUPS}"


@dataclass(frozen=True)
class Axis:
    """One axis.

    Attributes:
        title: what it shows, with its unit.
        log: logarithmic.
        percent: values are shares, 0 to 1, shown in percent.
        span: (least, most) value shown; None for all that there are.
    """

    title: str
    log: bool = False
    percent: bool = False
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Series:
    """Values drawn alike.

    Attributes:
        name: in the legend; where empty, it is not listed.
        x: shape (n,).
        y: shape (n,); names of bars.
        kind: how to draw them.
        colour: a role of `COLOURS`.
        hover: what a reader sees who points at each value; empty: nothing.
        dashed: for lines.
    """

    name: str
    x: Sequence[float] | Array
    y: Sequence[float] | Sequence[str] | Array
    kind: Kind = "points"
    colour: str = "ink"
    hover: Sequence[str] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        title: above it; may be empty.
        x: the horizontal axis.
        y: the vertical axis.
        series: drawn in this order.
        margin: drawn in a narrow strip on the right that shares the vertical axis.
    """

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    margin: tuple[Series, ...] = ()


@dataclass(frozen=True)
class Chart:
    """One figure of one or more panels.

    Attributes:
        key: names its files and its place in the page, e.g. `accuracy_latency`.
        title: above it.
        caption: how to read it, a sentence or two.
        panels: side by side as far as there is room.
        narrow: shares a row with the next narrow figure where there is room.
    """

    key: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    narrow: bool = False


def log_ticks(low: float, high: float) -> list[float]:
    """Values to label on a logarithmic axis of this range: powers of ten, and multiples of these where that is few."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in ((1,), (1, 2, 5), range(1, 10), [step / 2 for step in range(2, 20)]):
        ticks = [tick for decade in decades for step in steps if low <= (tick := float(f"{step}e{decade}")) <= high]
        if len(ticks) >= _FEWEST_TICKS:
            break
    characters = sum(len(f"{tick:g}") + 2 for tick in ticks)
    return ticks[:: -(-characters // _MOST_CHARACTERS)] if ticks else []


def density(values: Sequence[float] | Array, points: int = 120) -> tuple[Array, Array]:
    """A Gaussian kernel density, Scott's bandwidth.

    Returns:
        Where, and how dense, each of shape (points,); both empty where fewer than two values differ.
    """
    from scipy.stats import gaussian_kde

    values = np.asarray(values, float)
    if len(values) < 2 or np.ptp(values) < 1e-12 * max(1.0, float(np.abs(values).max())):
        return np.empty(0), np.empty(0)
    kernel = gaussian_kde(values)
    reach = 3 * float(np.sqrt(kernel.covariance[0, 0]))
    at = np.linspace(values.min() - reach, values.max() + reach, points)
    return at, kernel(at)
