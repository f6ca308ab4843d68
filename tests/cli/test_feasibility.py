"""The commands compare, feasibility and report, one after the other, as a user runs them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import blsm
from blsm.cli.main import main
from blsm.cli.profile import hypermodel_chains
from blsm.fitting import fit_latency_model
from blsm.profiles import ProfileStore
from blsm.testing import FakeDevice, fill_store

NAME = f"{Path(__file__).parent.parent / 'assets/quick_hypermodel.py'}:Quick"


@pytest.fixture(autouse=True)
def fake_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the fake device known by its name."""
    monkeypatch.setitem(sys.modules["blsm.profiling.devices"]._devices, "fake", FakeDevice)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile store, a latency model and images; and the comparison that was made with them."""
    folder = tmp_path_factory.mktemp("compare")
    with ProfileStore(folder / "profiles.db", create=True) as store:
        fill_store(store, hypermodel_chains(NAME, 100, 0))
        blsm.save(fit_latency_model(store, "fake", regressor="roofline"), folder / "fake.blsm")
    labels = np.arange(12) % 3
    np.savez(folder / "data.npz", x_train=np.zeros((12, 8, 8), np.uint8), y_train=labels)
    return folder


def _compare(folder: Path, *more: object) -> int:
    arguments = ["compare", "--hypermodel", NAME, "--device", "fake", "--latency-model", folder / "fake.blsm"]
    arguments += ["--data", folder / "data.npz", "--trials", 5, "--strategy", "random", "--epochs", 1]
    return main([str(argument) for argument in (*arguments, "-o", folder / "found", *more)])


@pytest.fixture(scope="module")
def found(folder: Path) -> Path:
    """The folder of a finished comparison."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules["blsm.profiling.devices"]._devices, "fake", FakeDevice)
        assert _compare(folder, "--reference-latency-ms", "0.02") == 0
    return folder / "found"


def test_compare_prints_a_verdict_and_keeps_it(folder: Path, found: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _compare(folder, "--reference-latency-ms", "0.02") == 0  # again: nothing is left to do
    said = capsys.readouterr().out
    assert "HIL       5         0" in said
    assert "measured again, the surrogate's front dominates 1." in said
    assert "W_overall" in said
    verdict = json.loads((found / "feasibility.json").read_text())
    assert verdict["verdict"] in ("feasible", "not feasible", "not enough trials to tell")
    assert verdict["sentence"] in said
    assert verdict["hypermodel"] == NAME
    assert set(verdict["times"]) == {"hil", "sm"}


def test_feasibility_of_the_two_folders(found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "verdict.json"
    folders = [str(found / "hil"), str(found / "sm")]
    assert main(["feasibility", *folders, "--json", str(path)]) == 0
    said = capsys.readouterr().out
    assert "measured, ms" not in said
    assert main(["feasibility", *folders, "--device", "fake", "--json", str(path)]) == 0
    assert "measured, ms" in capsys.readouterr().out
    figures, kept = json.loads(path.read_text()), json.loads((found / "feasibility.json").read_text())
    assert {name: figures[name] for name in ("hnq", "hnq_low", "hnq_high")} == {
        name: kept[name] for name in ("hnq", "hnq_low", "hnq_high")
    }
    assert figures["remeasured"]["hypervolume_ratio"] == pytest.approx(1, abs=0.2)


def test_feasibility_needs_what_it_needs(found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*arguments: object) -> str:
        assert main(["feasibility", *map(str, arguments)]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    hil, sm = found / "hil", found / "sm"
    assert "not the folder of a search" in fails(tmp_path, sm)
    assert "is a search for fake: its front can't be measured on edge_cpu" in fails(hil, sm, "--device", "edge_cpu")
    assert "did you mean 'fake'" in fails(hil, sm, "--device", "fakee")
    copies = [shutil.copytree(folder, tmp_path / folder.name) for folder in (hil, sm)]
    assert "name it with --hypermodel" in fails(*copies, "--device", "fake")
    state = json.loads((copies[1] / "oracle.json").read_text())
    state["blsm"]["settings"]["device"] = "asic"
    (copies[1] / "oracle.json").write_text(json.dumps(state))
    assert "searches with different devices: fake against asic" in fails(*copies)
    for trial in list(copies[0].glob("trial_*"))[1:]:
        shutil.rmtree(trial)
    state["blsm"]["settings"]["device"] = "fake"
    (copies[1] / "oracle.json").write_text(json.dumps(state))
    assert "has 1 completed trials, at least 5 are needed" in fails(*copies)


def test_a_comparison_that_cannot_be_made_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _compare(folder, "--device", "edge_cpu", "-o", folder / "other") == 2
    assert "the latency model is of fake, the device in the loop is edge_cpu" in capsys.readouterr().err
    assert _compare(folder, "--data", "digits", "-o", folder / "other") == 2
    assert "the hypermodel takes images of (8, 8, 1)" in capsys.readouterr().err
    assert main(["compare", "--hypermodel", NAME, "--device", "fake", "--trials", "5"]) == 2
    assert "fake.blsm" in capsys.readouterr().err


def test_report_of_a_comparison(found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly")
    output = tmp_path / "report.html"
    pictures = ("--pictures", str(tmp_path / "pictures"), "--format", "svg")
    assert main(["report", str(found), "-o", str(output), "--title", "Mine", *pictures]) == 0
    said = capsys.readouterr().out
    assert "4 figures in 2 sections" in said
    assert "No profile store" in said
    text = output.read_text()
    assert "<h1>Mine</h1>" in text
    assert "Is the surrogate good enough?" in text
    assert json.loads((found / "feasibility.json").read_text())["sentence"][1:20] in text
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"accuracy_latency.svg", "score_density.svg", "progress.svg", "breakdown.svg"}


def test_report_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "report.html")]) == 2
    assert "holds nothing to report on" in capsys.readouterr().err
    assert main(["report", str(tmp_path / "none"), "-o", str(tmp_path / "report.html")]) == 2
    assert "no folder" in capsys.readouterr().err
