"""Charts as PNG or SVG files, drawn without a browser."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from blsm.errors import FileError
from blsm.report.chart import COLOURS, Axis, Chart, Panel, Series, log_ticks

_INCHES = 3.6
#: Panels side by side, at most.
_COLUMNS = 4
#: More labels than this would overlap on a logarithmic axis: they are turned.
_UPRIGHT_TICKS = 4


def save_pictures(charts: Iterable[Chart], folder: Path, suffix: str) -> list[Path]:
    """Writes each chart as `KEY.png` or `KEY.svg` into a folder, which is made if missing; returns the files.

    Raises:
        FileError: a file can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {folder}: {error.strerror}") from None
    paths = []
    for chart in charts:
        paths.append(folder / f"{chart.key}.{suffix}")
        save_picture(chart, paths[-1])
    return paths


def save_picture(chart: Chart, path: Path) -> None:
    """Draws a chart into a file of the format that its suffix names.

    Raises:
        FileError: the file can't be written, or its suffix names no picture format.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = -(-len(chart.panels) // _COLUMNS)
    columns = -(-len(chart.panels) // rows)
    height = max(_height(panel) for panel in chart.panels)
    figure = plt.figure(figsize=(max(6.0, _INCHES * columns), 0.5 + height * rows), layout="constrained")
    cells = figure.subfigures(rows, columns, squeeze=False).flat
    for panel, cell in zip(chart.panels, cells, strict=False):
        _draw(panel, cell)
    figure.suptitle(chart.title)
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot draw {path}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        plt.close(figure)


def _height(panel: Panel) -> float:
    bars = max((len(series.y) for series in panel.series if series.kind == "bars"), default=0)
    return max(_INCHES, 0.25 * bars)


def _draw(panel: Panel, cell: Any) -> None:
    widths = [4, 1] if panel.margin else [1]
    axes = cell.subplots(1, len(widths), sharey=True, squeeze=False, gridspec_kw={"width_ratios": widths})[0]
    for axis, drawn in zip(axes, (panel.series, panel.margin), strict=False):
        for series in drawn:
            _draw_series(series, axis, sideways=drawn is panel.margin)
        axis.grid(alpha=0.25)
    main = axes[0]
    if panel.x.span:
        main.set_xlim(panel.x.span)
    if panel.y.span:
        main.set_ylim(panel.y.span)
    _scale(main.xaxis, main.set_xscale, main.get_xlim, panel.x)
    if panel.x.log and len(main.get_xticks()) > _UPRIGHT_TICKS:
        main.tick_params(axis="x", labelrotation=45)
    if any(series.kind == "bars" for series in panel.series):
        main.invert_yaxis()
        main.grid(visible=False, axis="y")
    else:
        _scale(main.yaxis, main.set_yscale, main.get_ylim, panel.y)
    main.set(xlabel=panel.x.title, ylabel=panel.y.title)
    main.set_title(panel.title, fontsize=10)
    if panel.margin:
        axes[1].set(xticks=[])
    if sum(bool(series.name) for series in panel.series) > 1:
        main.legend(fontsize=7, framealpha=0.7)


def _draw_series(series: Series, axis: Any, sideways: bool) -> None:
    colour, x, y = COLOURS[series.colour][0], series.x, series.y
    label = series.name or None
    style = "--" if series.dashed else "-"
    if series.kind == "bars":
        axis.barh(list(y), list(x), color=colour, label=label)
    elif series.kind == "band":
        axis.fill(x, y, color=colour, alpha=0.16, lw=0, label=label)
    elif series.kind == "points":
        axis.scatter(x, y, s=9, alpha=0.65, lw=0, color=colour, label=label)
    elif series.kind == "crosses":
        axis.scatter(x, y, s=40, marker="x", color=colour, label=label, zorder=3)
    elif series.kind == "front":
        axis.plot(x, y, drawstyle="steps-post", marker="o", ms=5, lw=1.5, color=colour, label=label)
    else:
        axis.plot(x, y, style, lw=1.3, color=colour, label=label)
        if series.kind == "area":
            fill = (axis.fill_betweenx, y, x) if sideways else (axis.fill_between, x, y)
            fill[0](*fill[1:], color=colour, alpha=0.18, lw=0)


def _scale(ticked: Any, set_scale: Any, limits: Any, axis: Axis) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator, PercentFormatter

    if axis.percent:
        ticked.set_major_formatter(PercentFormatter(1.0))
    if axis.log:
        set_scale("log")
        ticks = log_ticks(*limits())
        ticked.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        ticked.set_minor_locator(NullLocator())
        ticked.set_minor_formatter(NullFormatter())
