"""Charts of a profile store: what profiling cost, and whether the device itself changed meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from blsm.checking import DRIFTING
from blsm.profiles import QUANTILES, Profile, Visit
from blsm.report.chart import Axis, Chart, Panel, Series

_MEDIAN = QUANTILES.index(0.5)
#: Runs of visits further apart than this are campaigns of their own.
_PAUSE_S = 300.0


def profiling_cost(profiles: Sequence[Profile], device: str) -> Chart:
    """Seconds of measuring for each block family (invocations times their median), and blocks over time."""
    seconds: defaultdict[str, float] = defaultdict(float)
    subjects: defaultdict[str, int] = defaultdict(int)
    visits: defaultdict[str, int] = defaultdict(int)
    for profile in profiles:
        subject = profile.blocks[0].family if len(profile.blocks) == 1 else "networks"
        subjects[subject] += 1
        visits[subject] += len(profile.visits)
        seconds[subject] += sum(visit.invocations * visit.quantiles_ns[_MEDIAN] for visit in profile.visits) / 1e9
    names = sorted(seconds, key=seconds.__getitem__, reverse=True)
    hover = [
        f"<b>{name}</b><br>{subjects[name]} profiles, {visits[name]} visits<br>{seconds[name]:.1f} s measuring"
        for name in names
    ]
    bars = Series("", [seconds[name] for name in names], names, "bars", "hil", hover)
    minutes, complete = completed(profiles)
    over_time = Series(
        "",
        minutes,
        complete,
        "line",
        "hil",
        [f"{n} profiles after {m:.1f} min" for n, m in zip(complete, minutes, strict=True)],
    )
    panels = (
        Panel("Measuring, by block family", Axis("time, s"), Axis(""), (bars,)),
        Panel("Profiles over time", Axis("time, pauses left out, min"), Axis("measured profiles"), (over_time,)),
    )
    total = sum(seconds.values())
    caption = f"{device}: {sum(subjects.values())} profiles, {total:.0f} s of measuring; compiling is not in it."
    return Chart("profiling_cost", "Profiling cost", caption, panels)


def completed(profiles: Sequence[Profile]) -> tuple[list[float], list[int]]:
    """Minutes since the first visit, pauses left out, and how many profiles had their last visit by then."""
    starts = sorted(visit.started_s for profile in profiles for visit in profile.visits)
    if not starts:
        return [], []
    gaps = np.diff(starts, prepend=starts[0])
    at = dict(zip(starts, np.cumsum(np.where(gaps > _PAUSE_S, 0, gaps)) / 60, strict=True))
    ends = sorted(at[profile.visits[-1].started_s] for profile in profiles if profile.visits)
    chosen = np.unique(np.linspace(0, len(ends) - 1, min(len(ends), 200)).round().astype(int))
    return [float(ends[index]) for index in chosen], [int(index) + 1 for index in chosen]


def drift(visits: Sequence[Visit], device: str) -> Chart:
    """The sentinel block, timed again and again: it shows whether the device became slower."""
    best = min(visit.minimum_ns for visit in visits)
    start = visits[0].started_s
    minutes = [(visit.started_s - start) / 60 for visit in visits]
    slower = [visit.minimum_ns / best - 1 for visit in visits]
    hover = [
        f"{visit.minimum_ns / 1e3:.2f} us after {minute:.1f} min<br>{over:+.1%} over its best"
        for visit, minute, over in zip(visits, minutes, slower, strict=True)
    ]
    series = (
        Series(
            "",
            [minutes[0], minutes[-1]],
            [DRIFTING, DRIFTING],
            "line",
            "muted",
            [f"{100 * DRIFTING:.0f} %: `blsm check` calls it drifting"] * 2,
            True,
        ),
        Series("", minutes, slower, "points", "hil", hover),
    )
    panel = Panel("", Axis("time, min"), Axis("sentinel over its best", percent=True), series)
    caption = f"{device}: minima of {len(visits)} visits of the sentinel block, whose best is {best / 1e3:.2f} us."
    return Chart("drift", "Drift of the device", caption, (panel,))
