from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import blsm
from blsm.cli.evaluate import to_json
from blsm.errors import FileError
from blsm.estimates import estimate_to_json
from blsm.evaluation import compare_blocks
from blsm.profiles import ProfileStore
from blsm.report.contents import Contents, read_contents
from blsm.report.sections import sections
from blsm.searches import FinishedSearch, SearchTrial


@pytest.fixture
def folder(fake_store: Path, fake_bundle: Path, keras_file: Path, tmp_path: Path) -> Path:
    """A folder with profiles, a latency model and a network."""
    shutil.copyfile(fake_store, tmp_path / "profiles.db")
    shutil.copyfile(fake_bundle, tmp_path / "fake.blsm")
    shutil.copyfile(keras_file, tmp_path / "best.keras")
    return tmp_path


def _trials(count: int, latency_ms: float = 1.0) -> tuple[SearchTrial, ...]:
    return tuple(SearchTrial(0.5 + 0.01 * n, latency_ms + n, 0.3 + 0.01 * n, name=str(n)) for n in range(count))


def test_profiles_a_model_and_a_network_are_all_shown(folder: Path) -> None:
    found, missing = sections(read_contents(folder))
    assert [section.title for section in found] == [
        "Where the time goes",
        "How well latency is predicted",
        "Profiling on fake",
    ]
    breakdown, accuracy, profiling = found
    assert [row[1] for row in breakdown.tables[0].rows] == ["conv", "mbconv", "res_v1", "head", "dispatch"]
    assert sum(row[4] for row in breakdown.tables[0].rows) == pytest.approx(1)
    subjects = [row[0] for row in accuracy.tables[0].rows]
    assert sorted(subjects) == ["conv", "head", "mbconv", "networks", "res_v1", "res_v2"]
    assert [panel.title.split(",")[0] for panel in accuracy.charts[0].panels] == subjects
    assert dict(profiling.facts)["profiles"] == "621"
    assert missing == [
        "No search: run `blsm search` or `blsm compare` for accuracy against latency.",
        "No drift of fake: profiles.db holds no visits of the sentinel block.",
    ]


def test_an_evaluation_is_a_table(folder: Path, fake_model: blsm.LatencyModel, fake_store: Path) -> None:
    with ProfileStore(fake_store) as store:
        figures = to_json(fake_model, compare_blocks(fake_model, store))
    for path in folder.iterdir():
        path.unlink()
    (folder / "evaluation.json").write_text(json.dumps(figures))
    (folder / "other.json").write_text("[1, 2]")
    found, missing = sections(read_contents(folder))
    (section,) = found
    assert [row[0] for row in section.tables[0].rows] == list(figures["figures"])
    assert all(row[1] == "evaluation.json" for row in section.tables[0].rows)
    drawn, errors = section.charts
    assert [panel.title.split(",")[0] for panel in drawn.panels] == list(figures["figures"])
    assert list(drawn.panels[0].series[-1].y) == next(iter(figures["points"].values()))["predicted_ms"]
    assert errors.key == "normal_probability"
    assert not any("latency model" in sentence for sentence in missing if "breakdown" not in sentence)

    del figures["points"]  # as older ones are
    (folder / "evaluation.json").write_text(json.dumps(figures))
    found, missing = sections(read_contents(folder))
    assert not found[0].charts
    assert len(found[0].tables[0].rows) == len(section.tables[0].rows)
    assert any(sentence.startswith("No latency model and its errors") for sentence in missing)


def test_an_evaluation_beside_its_profiles_is_not_drawn_twice(
    folder: Path, fake_model: blsm.LatencyModel, fake_store: Path
) -> None:
    with ProfileStore(fake_store) as store:
        figures = to_json(fake_model, compare_blocks(fake_model, store))
    (folder / "evaluation.json").write_text(json.dumps(figures))
    accuracy = sections(read_contents(folder))[0][1]
    assert {series.name for panel in accuracy.charts[0].panels for series in panel.series} == {"", "fake.blsm"}


def test_the_best_of_a_search_is_broken_down_without_its_model(
    fake_model: blsm.LatencyModel, network: list[blsm.BlockConfig], tmp_path: Path
) -> None:
    estimate = fake_model.latency(network)
    trials = _trials(6)
    search = FinishedSearch("SM", trials, device="fake", folder=tmp_path)
    best = tmp_path / f"trial_{search.best.name}"
    best.mkdir()
    (best / "blocks.json").write_text(json.dumps(estimate_to_json(estimate)))
    section = sections(Contents(tmp_path, searches={"sm": search}))[0][1]
    assert section.text == f"Trial {search.best.name}, the best of the surrogate search, as predicted on fake."
    assert [row[3] for row in section.tables[0].rows[:-1]] == [block.latency_ms for block in estimate.blocks]
    (best / "blocks.json").write_text("[]")
    _, missing = sections(Contents(tmp_path, searches={"sm": search}))
    assert any("No breakdown of the best network" in s and "blocks.json is damaged" in s for s in missing)


def test_what_is_damaged_is_a_note_and_not_the_end(folder: Path) -> None:
    (folder / "fake.blsm").write_bytes(b"no bundle")
    (folder / "search").mkdir()
    (folder / "search" / "oracle.json").write_text("{}")
    found, missing = sections(read_contents(folder))
    assert [section.title for section in found] == ["Profiling on fake"]
    assert any("fake.blsm" in sentence for sentence in missing)
    assert any("was not searched with a LatencyOracle" in sentence for sentence in missing)


def test_a_store_of_another_machine_gives_no_comparison(folder: Path) -> None:
    (folder / "profiles.db").unlink()
    with ProfileStore(folder / "other.db", create=True) as store:
        from blsm.testing import FakeDevice, fill_store

        fill_store(store, [(blsm.block_family("head").sample(1, seed=0)[0],)], FakeDevice(cpu="another"))
    _, missing = sections(read_contents(folder))
    assert any("No comparison of fake.blsm with measurements" in sentence for sentence in missing)


def test_hidden_folders_are_left_alone_and_nothing_is_an_error(folder: Path) -> None:
    (folder / ".cache").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        path.rename(folder / ".cache" / path.name)
    with pytest.raises(FileError, match="holds nothing to report on: no search"):
        read_contents(folder)


def test_one_search_has_no_verdict(tmp_path: Path) -> None:
    contents = Contents(tmp_path, searches={"sm": FinishedSearch("SM", _trials(6))})
    found, missing = sections(contents)
    assert found[0].title == "The search"
    assert any("No verdict on the surrogate: it needs a search by measurement" in sentence for sentence in missing)


def test_searches_that_cannot_be_compared_are_still_drawn(tmp_path: Path) -> None:
    searches = {"hil": FinishedSearch("HIL", _trials(6)), "sm": FinishedSearch("SM", _trials(3))}
    found, missing = sections(Contents(tmp_path, searches=searches))
    assert len(found[0].charts) == 3
    assert any("No verdict on the surrogate: SM has 3 completed trials" in sentence for sentence in missing)


def test_what_was_measured_again_is_beside_what_was_predicted(tmp_path: Path) -> None:
    trials = _trials(6)
    searches = {"hil": FinishedSearch("HIL", trials), "sm": FinishedSearch("SM", trials)}
    verdict = {
        "remeasured": {"measured_ms": {trial.name: trial.latency_ms * 2 for trial in trials}, "hypervolume_ratio": 0.9}
    }
    found, _ = sections(Contents(tmp_path, searches=searches, verdict=verdict))
    assert ("hypervolume re-measured, SM / HIL", "0.900") in found[0].facts
    assert (found[0].badge, found[0].colour) == ("its front is not as good", "bad")
    rows = [row for row in found[0].tables[0].rows if row[0] == "SM"]
    assert [row[6] for row in rows] == [-0.5] * len(rows)
    crosses = [series for series in found[0].charts[0].panels[0].series if series.kind == "crosses"]
    assert list(crosses[0].x) == [trial.latency_ms * 2 for trial in trials]


@pytest.mark.parametrize(
    ("ratio", "badge"),
    [(0.98, "its front is as good"), (0.9, "its front is not as good"), (None, "HNQ can't tell")],
)
def test_where_hnq_cannot_tell_the_front_may(tmp_path: Path, ratio: float | None, badge: str) -> None:
    ours = _trials(6)
    theirs = tuple(replace(trial, score=trial.score + 0.001 * (-1) ** n) for n, trial in enumerate(ours))
    remeasured = {"measured_ms": {trial.name: trial.latency_ms for trial in ours}, "hypervolume_ratio": ratio}
    searches = {"hil": FinishedSearch("HIL", ours), "sm": FinishedSearch("SM", theirs)}
    found, _ = sections(Contents(tmp_path, searches=searches, verdict={"remeasured": remeasured}))
    assert "but the searches are alike" in found[0].text
    assert found[0].badge == badge


def test_figures_of_several_stores_have_names_of_their_own(folder: Path) -> None:
    shutil.copyfile(folder / "profiles.db", folder / "other.db")
    found, _ = sections(read_contents(folder))
    keys = [chart.key for section in found for chart in section.charts]
    assert len(set(keys)) == len(keys)
    assert {"profiling_cost", "profiling_cost_2"} <= set(keys)
