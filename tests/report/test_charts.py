"""Charts say what the data says, and both renderers draw every kind of series."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import blsm
from blsm.errors import FileError
from blsm.evaluation import Comparison
from blsm.profiles import Profile, Visit
from blsm.report import model_charts, search_charts, store_charts
from blsm.report.chart import COLOURS, Axis, Chart, Panel, Series, density, group, log_ticks
from blsm.report.interactive import plotly_figure
from blsm.report.picture import save_picture, save_pictures
from blsm.searches import FinishedSearch, SearchTrial


def _searches() -> dict[str, FinishedSearch]:
    trials = tuple(SearchTrial(0.5 + 0.1 * n, 1.0 + n, 0.3 + 0.05 * n, name=str(n)) for n in range(4))
    return {"hil": FinishedSearch("HIL", (*trials, SearchTrial(0.4, 3.0, 0.1))), "sm": FinishedSearch("SM", trials)}


def _comparison(count: int = 40, seed: int = 0) -> Comparison:
    random = np.random.default_rng(seed)
    measured_ms = np.exp(random.normal(0, 1, count))
    return Comparison(measured_ms * np.exp(random.normal(0, 0.03, count)), measured_ms)


def _profiles() -> list[Profile]:
    configs = [config for name in ("mbconv", "conv") for config in blsm.block_family(name).sample(5, seed=0)]
    return [
        Profile((config,), tuple(Visit(10, (2_000_000,) * 8, 100.0 * visit + n) for visit in range(2)))
        for n, config in enumerate(configs)
    ]


def _charts(model: blsm.LatencyModel, network: list[blsm.BlockConfig]) -> list[Chart]:
    """Every chart of the report."""
    comparisons = {"mbconv": {"trees": _comparison(), "linear": _comparison(seed=1)}, "conv": {"trees": _comparison()}}
    searches = _searches()
    return [
        search_charts.accuracy_latency(searches, {searches["sm"].trials[0]: 1.1}),
        search_charts.score_density(searches),
        search_charts.progress(searches),
        model_charts.predicted_versus_measured(comparisons),
        model_charts.normal_probability(comparisons),
        model_charts.breakdown(model.latency(network), "network.keras"),
        store_charts.profiling_cost(_profiles(), "fake"),
        store_charts.drift(_profiles()[0].visits, "fake"),
    ]


@pytest.fixture
def charts(fake_model: blsm.LatencyModel, network: list[blsm.BlockConfig]) -> list[Chart]:
    return _charts(fake_model, network)


def test_every_axis_with_numbers_has_a_title_and_every_point_a_hover(charts: list[Chart]) -> None:
    for chart in charts:
        assert chart.caption
        for panel in chart.panels:
            assert panel.x.title
            assert panel.y.title or panel.series[0].kind == "bars"
            for series in panel.series:
                assert len(series.x) == len(series.y)
                assert not series.hover or len(series.hover) == len(series.x)
                assert series.hover or series.kind in ("line", "band")


def test_plotly_knows_every_attribute(charts: list[Chart]) -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")

    def filled(value: Any) -> Any:
        """As the page does: colours in place of roles."""
        if isinstance(value, str) and value.startswith("role:"):
            return COLOURS[value.split(":")[1]][0]
        if isinstance(value, list):
            return [filled(part) for part in value]
        return {key: filled(part) for key, part in value.items()} if isinstance(value, dict) else value

    for chart in charts:
        for panel in chart.panels:
            graph_objects.Figure(filled(plotly_figure(panel)))


def test_pictures_of_every_chart(charts: list[Chart], tmp_path: Path) -> None:
    paths = save_pictures(charts, tmp_path / "pictures", "svg")
    assert [path.stem for path in paths] == [chart.key for chart in charts]
    assert "axes_2" in (tmp_path / "pictures" / "predicted_measured.svg").read_text()
    save_picture(charts[0], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(FileError, match="cannot draw"):
        save_picture(charts[0], tmp_path / "a.nothing")
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match="cannot make the folder"):
        save_pictures(charts, tmp_path / "file", "png")


def test_the_fronts_are_the_pareto_optimal_trials() -> None:
    panel = search_charts.accuracy_latency(_searches()).panels[0]
    fronts = {series.name: series for series in panel.series if series.kind == "front"}
    assert list(fronts) == ["HIL front", "SM front"]
    assert list(fronts["HIL front"].x) == [1.0, 2.0, 3.0, 4.0]
    assert len(next(series for series in panel.series if series.name == "HIL, measured").x) == 5


def test_the_best_so_far_never_falls() -> None:
    lines = [s for s in search_charts.progress(_searches()).panels[0].series if s.kind == "line"]
    assert list(lines[0].y) == pytest.approx([0.3, 0.35, 0.4, 0.45, 0.45])


def test_normal_errors_lie_on_their_line() -> None:
    random = np.random.default_rng(0)
    measured_ms = np.ones(4000)
    comparison = Comparison(np.exp(random.normal(0.01, 0.02, 4000)), measured_ms)
    line, points = model_charts.normal_probability({"conv": {"trees": comparison}}).panels[0].series
    slope = (line.y[1] - line.y[0]) / (line.x[1] - line.x[0])  # type: ignore[operator]
    assert slope == pytest.approx(0.02, rel=0.1)
    middle = [y for x, y in zip(points.x, points.y, strict=True) if abs(x) < 0.01]
    assert np.mean(middle) == pytest.approx(0.01, abs=0.002)


def test_profiling_cost_counts_invocations_and_leaves_pauses_out() -> None:
    chart = store_charts.profiling_cost(_profiles(), "fake")
    bars = dict(zip(chart.panels[0].series[0].y, chart.panels[0].series[0].x, strict=True))
    assert bars == pytest.approx({"mbconv": 5 * 2 * 10 * 0.002, "conv": 5 * 2 * 10 * 0.002})
    late = [replace(p, visits=tuple(replace(v, started_s=v.started_s + 1e6) for v in p.visits)) for p in _profiles()]
    minutes, complete = store_charts.completed([*_profiles(), *late])
    assert complete[-1] == 20
    assert minutes[-1] < 10


@pytest.mark.parametrize(("low", "high"), [(0.001, 100), (0.3, 7), (0.00033, 0.00056), (9.4, 10.6)])
def test_logarithmic_axes_have_labels(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 6
    assert all(low <= tick <= high for tick in ticks)
    assert ticks == sorted(ticks)


def test_networks_slower_than_the_reference_do_not_squeeze_the_others() -> None:
    fast = tuple(SearchTrial(0.5, 1.0, 0.3 + 0.1 * n) for n in range(5))
    slow = (SearchTrial(0.9, 20.0, -30.0), SearchTrial(0.9, 30.0, -60.0))
    searches = {"sm": FinishedSearch("SM", (*fast, *slow), reference_latency_ms=10.0)}
    progress, scores = search_charts.progress(searches), search_charts.score_density(searches)
    low, high = progress.panels[0].y.span or (0, 0)
    assert 0.2 < low < 0.3
    assert 0.7 < high < 0.8
    assert plotly_figure(progress.panels[0])["layout"]["yaxis"]["range"] == [low, high]
    assert "2 are not shown" in progress.caption
    assert scores.panels[0].series[0].x[0] > -1
    assert "2 count as" in scores.caption
    unknown = {"sm": FinishedSearch("SM", (*fast, *slow))}
    assert (search_charts.progress(unknown).panels[0].y.span or (0, 0))[0] < -60


def test_a_density_integrates_to_one_and_needs_values_that_differ() -> None:
    at, dense = density([0.0, 1.0, 1.5])
    assert np.trapezoid(dense, at) == pytest.approx(1, abs=0.01)
    assert len(density([1.0, 1.0, 1.0])[0]) == len(density([1.0])[0]) == 0


def test_searches_with_one_score_are_drawn_without_density(tmp_path: Path) -> None:
    same = FinishedSearch("SM", tuple(SearchTrial(0.5, 1.0, 0.4) for _ in range(5)))
    save_picture(search_charts.score_density({"sm": same}), tmp_path / "a.svg")
    assert plotly_figure(search_charts.score_density({"sm": same}).panels[0])["data"][0]["x"] == []


def test_a_log_axis_spans_all_values() -> None:
    panel = Panel("", Axis("x", log=True), Axis("y"), (Series("a", [0.1, 10], [1, 2]), Series("b", [0.01], [1])))
    low, high = plotly_figure(panel)["layout"]["xaxis"]["range"]
    assert 10**low < 0.01
    assert 10**high > 10


def test_colours_of_many_regressors_repeat() -> None:
    assert group(0) != group(1)
    assert group(0) == group(7)
    assert all(len(pair) == 2 and pair[0] != pair[1] for pair in COLOURS.values())
