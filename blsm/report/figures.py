"""Figures as PNG or SVG files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from blsm.errors import FileError

if TYPE_CHECKING:
    from blsm.evaluation import Comparison


def predicted_versus_measured(comparisons: Mapping[str, Comparison], path: Path, title: str) -> None:
    """Draws one panel per comparison: measured against predicted latency on logarithmic axes, with a 10 % band.

    Raises:
        FileError: the file can't be written, or its suffix names no picture format.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    columns = min(4, len(comparisons))
    rows = -(-len(comparisons) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.3 * columns, 3.4 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat[len(comparisons) :]:
        axis.set_visible(False)
    for axis, (name, comparison) in zip(axes.flat, comparisons.items(), strict=False):
        predicted, measured = comparison.predicted_ms, comparison.measured_ms
        ends = [min(predicted.min(), measured.min()) / 1.3, max(predicted.max(), measured.max()) * 1.3]
        axis.fill_between(ends, [0.9 * e for e in ends], [1.1 * e for e in ends], color="tab:green", alpha=0.2, lw=0)
        axis.plot(ends, ends, color="tab:green", lw=1)
        axis.scatter(measured, predicted, s=7, alpha=0.6, lw=0, color="tab:blue")
        axis.set(
            xscale="log",
            yscale="log",
            xlim=ends,
            ylim=ends,
            aspect="equal",
            xlabel="measured, ms",
            ylabel="predicted, ms",
        )
        decades = math.log10(ends[1] / ends[0])
        axis.tick_params(axis="x", labelrotation=0 if decades > 2 else 45)
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 2.0, 5.0)))
            scale.set_major_formatter("{x:g}")
            scale.set_minor_formatter(NullFormatter())
        agreement = comparison.agreement
        axis.set_title(
            f"{name}, n = {agreement.count}\n$\\rho$ {agreement.spearman:.4f}, MAPE {agreement.mape:.1f} %", fontsize=10
        )
        axis.grid(alpha=0.25)
    figure.suptitle(f"{title} (band: within 10 %)")
    try:
        figure.savefig(path, dpi=130)
    except (OSError, ValueError) as error:
        raise FileError(f"cannot draw {path}: {getattr(error, 'strerror', None) or error}") from None
    finally:
        plt.close(figure)
