from __future__ import annotations

import dataclasses
import json
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import blsm
from blsm import bundle
from blsm.additivity import Additivity, Sums
from blsm.calibration import calibrate
from blsm.errors import BundleError
from blsm.fitting import fit_latency_model
from blsm.hypermodels import sample_networks
from blsm.profiles import ProfileStore
from blsm.surrogates.joined import JoinedSurrogate
from blsm.testing import fake_latency_ms

ASSETS = Path(__file__).parent / "assets"


def _rewrite(source: Path, target: Path, **changes: object) -> Path:
    """A copy with other values in its manifest."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "manifest.json":
                content = json.dumps(json.loads(content) | changes).encode()
            new.writestr(name, content)
    return target


def test_a_bundle_predicts_what_was_saved(
    fake_bundle: Path, fake_model: blsm.LatencyModel, network: list[blsm.BlockConfig]
) -> None:
    loaded = blsm.load(fake_bundle)
    assert loaded.latency(network) == fake_model.latency(network)
    assert loaded.fingerprint == fake_model.fingerprint
    assert loaded.surrogates["conv"].domain == fake_model.surrogates["conv"].domain


def test_the_same_model_gives_the_same_bytes(fake_bundle: Path, tmp_path: Path) -> None:
    blsm.save(blsm.load(fake_bundle), tmp_path / "again.blsm")
    assert (tmp_path / "again.blsm").read_bytes() == fake_bundle.read_bytes()


@pytest.mark.parametrize(("schema", "scores"), [(1, ()), (2, (0.5, 1.0)), (3, (0.5, 1.0)), (4, (0.5, 1.0))])
def test_a_bundle_of_an_older_schema_predicts_what_it_did(schema: int, scores: tuple[float, ...]) -> None:
    expected = json.loads((ASSETS / f"schema_{schema}.json").read_text())
    model = blsm.load(ASSETS / f"schema_{schema}.blsm")
    configs = blsm.block_family("head").sample(40, seed=0)
    assert model.predict(configs[:5]).tolist() == pytest.approx(expected["predicted_ms"], rel=1e-12)
    estimate = model.latency(configs[:2])
    assert estimate.latency_ms == pytest.approx(expected["latency_ms"], rel=1e-12)
    assert estimate.low_ms < estimate.latency_ms < estimate.high_ms
    assert model.network_scores == scores
    assert model.joined.keys() == ({"mbconv"} if "joined_ms" in expected else set())
    if model.joined:
        networks = sample_networks(8, seed=1, families=["mbconv"])
        pairs = [pair for network in networks for pair in pairwise(network) if pair[1].family == "mbconv"][:5]
        isolated_ms = np.array([fake_latency_ms([after]) for _, after in pairs])
        predicted_ms = model.joined["mbconv"].predict(pairs, isolated_ms)
        assert predicted_ms.tolist() == pytest.approx(expected["joined_ms"], rel=1e-12)


def test_former_calibrations_know_no_cold_caches(fake_model: blsm.LatencyModel, tmp_path: Path) -> None:
    measured_ms = {network: 1.2 * fake_latency_ms(network) for network in sample_networks(10, seed=1)}
    model = calibrate(fake_model, measured_ms)
    assert model.calibration is not None
    blsm.save(model, tmp_path / "new.blsm")
    data = model.calibration.to_json()
    del data["cold"]
    former = blsm.load(_rewrite(tmp_path / "new.blsm", tmp_path / "former.blsm", schema=6, calibration=data))
    assert former.calibration == dataclasses.replace(model.calibration, cold=0.0)


def test_calibrations_that_count_cold_caches_otherwise_say_calibrate_again(
    fake_model: blsm.LatencyModel, tmp_path: Path
) -> None:
    model = calibrate(fake_model, {network: 1.2 * fake_latency_ms(network) for network in sample_networks(6, seed=1)})
    assert model.calibration is not None
    blsm.save(model, tmp_path / "new.blsm")
    data = model.calibration.to_json()
    with pytest.raises(BundleError, match="counts cold caches otherwise than this blsm: fit and calibrate it again"):
        blsm.load(_rewrite(tmp_path / "new.blsm", tmp_path / "c.blsm", schema=7, calibration={**data, "cold": 0.1}))
    plain = _rewrite(tmp_path / "new.blsm", tmp_path / "plain.blsm", schema=7, calibration={**data, "cold": 0.0})
    assert blsm.load(plain).calibration == model.calibration


def test_former_verdicts_do_not_correct_sums(fake_model: blsm.LatencyModel, tmp_path: Path) -> None:
    sums = Sums(20, 0.9, 1.0, 0.95, 0.02, 1.0, factor=1.05)
    blsm.save(dataclasses.replace(fake_model, additivity=Additivity({"isolated": sums})), tmp_path / "new.blsm")
    verdict = {"isolated": {name: value for name, value in dataclasses.asdict(sums).items() if name != "factor"}}
    former = blsm.load(_rewrite(tmp_path / "new.blsm", tmp_path / "former.blsm", schema=8, additivity=verdict))
    assert blsm.load(tmp_path / "new.blsm").sums_factor == 1.05
    assert former.sums_factor == 1


def test_former_cycles_of_arrays_are_refused_and_surrogates_without_them_are_not(
    fake_store: Path, tmp_path: Path
) -> None:
    def former(features: str) -> tuple[blsm.LatencyModel, Path]:
        with ProfileStore(fake_store) as store:
            model = fit_latency_model(
                store, "fake", regressor="plain_boosted_trees", features=features, families=["conv"]
            )
        blsm.save(model, tmp_path / "new.blsm")
        return model, _rewrite(tmp_path / "new.blsm", tmp_path / f"{features}.blsm", schema=5)

    with pytest.raises(BundleError, match="fit it again"):
        blsm.load(former("costs")[1])
    model, path = former("vector")
    configs = blsm.block_family("conv").sample(5, seed=0)
    np.testing.assert_array_equal(blsm.load(path).predict(configs), model.predict(configs))


def test_joined_surrogates_are_kept(
    fake_model: blsm.LatencyModel, joined: dict[str, JoinedSurrogate], tmp_path: Path
) -> None:
    model = dataclasses.replace(fake_model, joined=joined)
    blsm.save(model, tmp_path / "joined.blsm")
    loaded = blsm.load(tmp_path / "joined.blsm")
    network = sample_networks(1, seed=5, families=["mbconv"])[0]
    assert loaded.latency(network) == model.latency(network)
    assert loaded.context == "chain"
    damaged = _rewrite(tmp_path / "joined.blsm", tmp_path / "damaged.blsm", joined={"mbconv": ["joined.json"]})
    with pytest.raises(BundleError, match="it is damaged"):
        blsm.load(damaged)


def test_networks_scores_are_kept(fake_model: blsm.LatencyModel, tmp_path: Path) -> None:
    calibrated = dataclasses.replace(fake_model, network_scores=(0.5, 1.25))
    blsm.save(calibrated, tmp_path / "calibrated.blsm")
    assert blsm.load(tmp_path / "calibrated.blsm").network_scores == (0.5, 1.25)


def test_a_bundle_holds_data_only(fake_bundle: Path) -> None:
    with zipfile.ZipFile(fake_bundle) as archive:
        assert {Path(name).suffix for name in archive.namelist()} == {".json", ".txt"}
        assert not any(archive.read(name).startswith(b"\x80") for name in archive.namelist())


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "it is empty"), (b"hello", "truncated or no blsm bundle"), (b"PK\x05\x06" + bytes(18), "no blsm bundle")],
)
def test_files_that_are_no_bundles(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.blsm"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=message):
        blsm.load(path)


def test_a_missing_bundle_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="make one with `blsm fit"):
        blsm.load(tmp_path / "missing.blsm")
    with pytest.raises(BundleError):
        blsm.load(tmp_path)


def test_every_truncation_is_noticed(fake_bundle: Path, tmp_path: Path) -> None:
    content = fake_bundle.read_bytes()
    path = tmp_path / "cut.blsm"
    for share in (0.01, 0.3, 0.7, 0.99):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(BundleError):
            blsm.load(path)


def test_a_flipped_byte_is_noticed(fake_bundle: Path, tmp_path: Path) -> None:
    content = bytearray(fake_bundle.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "flipped.blsm"
    path.write_bytes(content)
    with pytest.raises(BundleError, match="damaged"):
        blsm.load(path)


def test_a_newer_schema_says_upgrade(fake_bundle: Path, tmp_path: Path) -> None:
    path = _rewrite(fake_bundle, tmp_path / "new.blsm", schema=bundle.SCHEMA + 1)
    with pytest.raises(BundleError, match="upgrade blsm"):
        blsm.load(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": None},
        {"schema": 0},
        {"network_scores": 1},
        {"surrogates": 3},
        {"dispatch_ms": "fast"},
        {"format": "other"},
        {"sha256": {"a": "b"}},
        {"fingerprint": 1},
    ],
)
def test_a_manifest_with_other_content_is_refused(
    changes: dict[str, object], fake_bundle: Path, tmp_path: Path
) -> None:
    with pytest.raises(BundleError):
        blsm.load(_rewrite(fake_bundle, tmp_path / "odd.blsm", **changes))


def test_what_a_bundle_needs_but_is_not_installed_is_named(fake_bundle: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(fake_bundle) as archive:
        surrogates = json.loads(archive.read("manifest.json"))["surrogates"]
    conv = surrogates["conv"]
    unknown = {"conv": conv | {"regressor": "oracle"}}
    with pytest.raises(BundleError, match="unknown regressor 'oracle'"):
        blsm.load(_rewrite(fake_bundle, tmp_path / "a.blsm", surrogates=unknown))
    with pytest.raises(BundleError, match="unknown block family 'transformer'"):
        blsm.load(_rewrite(fake_bundle, tmp_path / "b.blsm", surrogates={"transformer": conv}))
    other = {"conv": conv | {"parameters": ["height", "depth"]}}
    with pytest.raises(BundleError, match="its parameters are height, depth"):
        blsm.load(_rewrite(fake_bundle, tmp_path / "c.blsm", surrogates=other))


def test_a_full_disk_leaves_the_old_bundle(fake_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.blsm"
    path.write_bytes(fake_bundle.read_bytes())

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("blsm.files.os.fsync", full)
    with pytest.raises(BundleError, match="No space left on device; nothing was changed"):
        blsm.save(blsm.load(fake_bundle), path)
    assert path.read_bytes() == fake_bundle.read_bytes()
    assert list(tmp_path.iterdir()) == [path]
