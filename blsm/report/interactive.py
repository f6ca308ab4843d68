"""Panels as Plotly figures: JSON data for its JavaScript, with roles in place of colours, which the page fills in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from blsm._types import Array
from blsm.report.chart import Axis, Panel, Series, log_ticks

#: Share of the width that a margin takes, and the gap before it.
_MARGIN, _GAP = 0.22, 0.02
_BAR_HEIGHT = 26
#: Around the values of a logarithmic axis.
_ROOM = 1.12


def plotly_figure(panel: Panel) -> dict[str, Any]:
    """The panel as a Plotly figure, JSON data; colours are `role:NAME` or `role:NAME:OPACITY`."""
    bars = any(series.kind == "bars" for series in panel.series)
    rows = max((len(series.y) for series in panel.series), default=0)
    main = [0.0, 1 - _MARGIN - _GAP] if panel.margin else [0.0, 1.0]
    layout: dict[str, Any] = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "role:ink", "family": "system-ui, sans-serif", "size": 12},
        "title": {"text": panel.title, "font": {"size": 13}, "x": 0, "xref": "paper", "y": 0.985, "yanchor": "top"},
        "margin": {"l": 62, "r": 14, "t": 34 if panel.title else 14, "b": 52},
        "modebar": {"bgcolor": "role:paper", "color": "role:muted", "activecolor": "role:ink"},
        "height": 90 + _BAR_HEIGHT * rows if bars else 360 if panel.title else 340,
        "hovermode": "closest",
        "dragmode": False,
        "hoverlabel": {"bgcolor": "role:paper", "bordercolor": "role:muted", "font": {"color": "role:ink"}},
        "showlegend": sum(bool(series.name) for series in panel.series) > 1,
        "legend": {"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "itemsizing": "constant"},
        "xaxis": {**_axis(panel.x, [series.x for series in panel.series]), "domain": main},
        "yaxis": _bar_axis(panel.y) if bars else _axis(panel.y, [s.y for s in (*panel.series, *panel.margin)]),
    }
    if bars:
        layout["margin"]["l"] = 8
    data = [trace(series) for series in panel.series]
    if panel.margin:
        layout["xaxis2"] = {
            "domain": [1 - _MARGIN, 1.0],
            "showticklabels": False,
            "showgrid": False,
            "zeroline": False,
            "fixedrange": True,
        }
        data += [
            {**trace(series, sideways=True), "xaxis": "x2", "showlegend": False, **_SILENT} for series in panel.margin
        ]
    return {"data": data, "layout": layout}


def trace(series: Series, *, sideways: bool = False) -> dict[str, Any]:
    """One series as a Plotly trace; an area is filled down to zero, or sideways to zero."""
    colour = f"role:{series.colour}"
    common: dict[str, Any] = {
        "name": series.name,
        "x": _values(series.x),
        "y": _values(series.y),
        "showlegend": bool(series.name),
        **({"text": list(series.hover), "hovertemplate": "%{text}<extra></extra>"} if series.hover else _SILENT),
    }
    if series.kind == "bars":
        return {**common, "type": "bar", "orientation": "h", "marker": {"color": colour}, "textposition": "none"}
    line = {"color": colour, "width": 1.6, **({"dash": "dash"} if series.dashed else {})}
    looks: dict[str, dict[str, Any]] = {
        "points": {"mode": "markers", "marker": {"color": f"{colour}:0.65", "size": 6}},
        "crosses": {
            "mode": "markers",
            "marker": {"color": colour, "size": 9, "symbol": "x-thin-open", "line": {"width": 2}},
        },
        "line": {"mode": "lines", "line": line},
        "front": {
            "mode": "lines+markers",
            "line": {**line, "shape": "hv", "width": 2},
            "marker": {"color": colour, "size": 10, "line": {"color": "role:paper", "width": 1.5}},
        },
        "area": {
            "mode": "lines",
            "line": line,
            "fill": "tozerox" if sideways else "tozeroy",
            "fillcolor": f"{colour}:0.18",
        },
        "band": {"mode": "lines", "line": {"width": 0}, "fill": "toself", "fillcolor": f"{colour}:0.16"},
    }
    return {**common, "type": "scatter", **looks[series.kind]}


_SILENT = {"hoverinfo": "skip"}


def _axis(axis: Axis, values: Sequence[Sequence[Any] | Array]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "title": {"text": axis.title, "standoff": 8},
        "gridcolor": "role:muted:0.22",
        "linecolor": "role:muted",
        "zeroline": False,
        "automargin": True,
    }
    if axis.percent:
        found["tickformat"] = ".0%" if _reach(values) > 0.05 else ".1%"
    if axis.span:
        found["range"] = list(axis.span)
    if axis.log:
        numbers = np.concatenate([np.asarray(part, float) for part in values if len(part)] or [np.ones(1)])
        low, high = float(numbers.min()), float(numbers.max())
        low, high = low / _ROOM, high * _ROOM
        ticks = log_ticks(low, high)
        found |= {
            "type": "log",
            "range": [math.log10(low), math.log10(high)],
            "tickvals": ticks,
            "ticktext": [f"{tick:g}" for tick in ticks],
        }
    return found


def _reach(values: Sequence[Sequence[Any] | Array]) -> float:
    numbers = np.concatenate([np.asarray(part, float) for part in values if len(part)] or [np.zeros(1)])
    return float(np.ptp(numbers))


def _bar_axis(axis: Axis) -> dict[str, Any]:
    """Names, the first on top."""
    return {"title": {"text": axis.title}, "autorange": "reversed", "automargin": True, "type": "category"}


def _values(values: Sequence[Any] | Array) -> list[Any]:
    """As JSON values; six digits are more than a screen shows."""
    return [value if isinstance(value, str) else float(f"{float(value):.6g}") for value in values]
