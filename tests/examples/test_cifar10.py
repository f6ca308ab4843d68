"""The CIFAR-10 searches in a small form: digits instead of CIFAR-10, one trial, a latency model of a formula."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

import blsm
from blsm.cli.profile import hypermodel_chains
from blsm.fitting import fit_latency_model
from blsm.network import load_keras_model
from blsm.profiles import ProfileStore
from blsm.testing import FakeDevice, fill_store

EXAMPLES = Path(__file__).parents[2] / "examples"


class _Formula(FakeDevice):
    """Called as a device whose hardware is at hand."""

    key: ClassVar[str] = "edge_cpu"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latency model that covers what the examples search."""
    folder = tmp_path_factory.mktemp("bundle")
    device = _Formula()
    with ProfileStore(folder / "profiles.db", create=True) as store:
        fill_store(store, hypermodel_chains("blsm.hypermodels:Cifar10", 120, 0), device)
        blsm.save(fit_latency_model(store, device.name, regressor="roofline"), folder / "edge_cpu.blsm")
    return folder / "edge_cpu.blsm"


@pytest.fixture
def run(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], str]:
    """Runs an example in this process, which has TensorFlow loaded; returns what it prints."""

    def example(name: str) -> str:
        small = ("--data", "digits", "--images", "64", "--epochs", "1", "--max-trials", "1")
        arguments = [name, "--latency-model", str(bundle), "--output", str(tmp_path), *small]
        monkeypatch.setattr(sys, "argv", arguments)
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return example


@pytest.mark.parametrize("name", ["cifar10_keras_tuner.py", "cifar10_autokeras.py"])
def test_a_search_gives_a_network_and_a_front(
    name: str, run: Callable[[str], str], bundle: Path, tmp_path: Path
) -> None:
    printed = run(name)
    best = load_keras_model(tmp_path / "best.keras")
    assert blsm.parse(best).coverage == 1
    latency_ms = blsm.load(bundle).latency(best).latency_ms
    assert f"best: {latency_ms:.4f} ms, saved as" in printed
    assert f"{latency_ms:.4f} ms, score" in printed
    assert len(list(tmp_path.rglob("trial.json"))) == 1


def test_measuring_and_predicting_are_compared(run: Callable[[str], str], tmp_path: Path) -> None:
    printed = run("cifar10_hil_vs_surrogate.py")
    assert "sm: best score" in printed
    assert "hil: best score" in printed
    assert "no verdict: " in printed
    assert len(list(tmp_path.rglob("trial.json"))) == 2
