"""Figures of an evaluation as PNG or SVG files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from blsm.report import model_charts
from blsm.report.picture import save_picture

if TYPE_CHECKING:
    from blsm.evaluation import Comparison


def predicted_versus_measured(comparisons: Mapping[str, Comparison], path: Path, title: str) -> None:
    """Draws one panel per comparison: measured against predicted latency on logarithmic axes, with a 10 % band.

    Raises:
        FileError: the file can't be written, or its suffix names no picture format.
    """
    chart = model_charts.predicted_versus_measured({name: {"": found} for name, found in comparisons.items()})
    panels = []
    for panel, comparison in zip(chart.panels, comparisons.values(), strict=True):
        agreement = comparison.agreement
        figures = f"$\\rho$ {agreement.spearman:.4f}, MAPE {agreement.mape:.1f} %"
        panels.append(replace(panel, title=f"{panel.title}\n{figures}"))
    save_picture(replace(chart, title=f"{title} (band: within 10 %)", panels=tuple(panels)), path)
