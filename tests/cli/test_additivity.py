"""`blsm additivity`, `blsm calibrate` and `blsm profile --context` on a device that is a formula."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest

import blsm
from blsm.cli.main import main
from blsm.profiles import ProfileStore
from blsm.profiling import register_device
from blsm.testing import FakeDevice


@register_device
class StudiedDevice(FakeDevice):
    """The fake device under a name of its own, so that commands find it; its networks find no cold caches."""

    key: ClassVar[str] = "studied"

    def __init__(self, **chosen: object) -> None:
        super().__init__(weight_ns=20.0, **chosen)


def _prints(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def _fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the studied device: blocks, pairs of them, and what a study of 6 networks needs."""
    path = tmp_path_factory.mktemp("studied") / "p.db"
    common = ["--device", "studied", "--store", str(path)]
    profile = ["--block", "mbconv,conv,head", "--samples", "60", "--context", "chain", "--invocations", "3"]
    assert main(["profile", *common, *profile]) == 0
    assert main(["additivity", *common, "--networks", "6", "--block", "mbconv"]) == 0
    return path


def test_additivity_recommends_and_writes_into_the_bundle(
    capsys: pytest.CaptureFixture[str], store: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "m.blsm"
    fit = _prints(
        capsys,
        "fit",
        "--device",
        "studied",
        "--store",
        store,
        "--context",
        "chain",
        "-o",
        bundle,
        "--regressor",
        "roofline",
    )
    assert "context chain" in fit
    assert "mbconv after other blocks: " in fit
    assert "cold caches don't count" in fit
    assert "conv, " in fit.splitlines()[-1]
    study = ("additivity", "--device", "studied", "--store", store, "--networks", 6, "--block", "mbconv")
    said = _prints(capsys, *study, "--latency-model", bundle)
    assert "studied: profile and fit with --context isolated" in said
    assert f"{bundle} was fitted in the context chain" in said
    verdict = blsm.load(bundle).additivity
    assert verdict is not None
    assert verdict.sums.keys() == {"isolated", "chain"}
    assert {sums.cold for sums in verdict.sums.values()} == {False}
    assert said.count("not found") == 2
    assert blsm.load(bundle).cold_share == 0
    figures = json.loads(_prints(capsys, *study, "--json"))
    assert figures == {"device": "studied", "context": "isolated", "sums": verdict.to_json()}


def test_auto_profiles_in_the_context_that_the_store_recommends(
    capsys: pytest.CaptureFixture[str], store: Path
) -> None:
    with ProfileStore(store) as opened:
        before = {profile.blocks for profile in opened.profiles("studied")}
    arguments = ("--block", "mbconv", "--samples", 5, "--seed", 4, "--invocations", 3)
    said = _prints(capsys, "profile", "--device", "studied", "--store", store, "--context", "auto", *arguments)
    assert said.startswith("context isolated: ")
    with ProfileStore(store) as opened:
        new = {profile.blocks for profile in opened.profiles("studied")} - before
    assert new
    assert all(len(chain) == 1 for chain in new)


def test_calibrate_measures_and_keeps_the_correction(
    capsys: pytest.CaptureFixture[str], store: Path, tmp_path: Path
) -> None:
    bundle, calibrated = tmp_path / "m.blsm", tmp_path / "c.blsm"
    _prints(
        capsys,
        "fit",
        "--device",
        "studied",
        "--store",
        store,
        "--context",
        "chain",
        "-o",
        bundle,
        "--regressor",
        "roofline",
    )
    said = _prints(capsys, "calibrate", bundle, "--store", store, "--networks", 5, "-o", calibrated)
    assert f"{calibrated}: calibrated by 5 networks: conv x" in said
    assert blsm.load(bundle).calibration is None
    assert len(blsm.load(calibrated).network_scores) == 5
    assert "4 measured networks are too few" in _fails(capsys, "calibrate", bundle, "--store", store, "--networks", 4)


def test_bundles_of_other_devices_are_refused(
    capsys: pytest.CaptureFixture[str], fake_bundle: Path, store: Path
) -> None:
    arguments = ("additivity", "--device", "studied", "--store", store, "--latency-model", fake_bundle)
    assert "the latency model is of fake, not of studied" in _fails(capsys, *arguments)


def test_active_sampling_is_for_isolated_blocks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ("--block", "mbconv", "--context", "chain", "--active", "--samples", 30)
    said = _fails(capsys, "profile", "--device", "studied", "--store", tmp_path / "p.db", *arguments)
    assert "--active times blocks alone" in said
