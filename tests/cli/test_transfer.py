"""blsm transfer as a user meets it."""

from __future__ import annotations

import json
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest

import blsm
from blsm.cli.main import main
from blsm.profiles import Fingerprint, ProfileStore, Visit
from blsm.testing import FakeDevice, fake_latency_ms
from blsm.transfer.descriptor import Descriptor, OperationRecord


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two known devices, whose blocks take a factor and a part of their own longer than on the fake device."""
    path = tmp_path_factory.mktemp("pool") / "pool.db"
    configs = [c for name in ("conv", "mbconv", "res_v1", "head") for c in blsm.block_family(name).sample(60, seed=0)]
    with ProfileStore(path, create=True) as store:
        for device, factor, per_weight_ns in (("one", 2.0, 0.1), ("two", 0.7, 0.3)):
            store.register_device(device, Fingerprint({"cpu": device}))
            for config in configs:
                sample_ns = round(1e6 * factor * fake_latency_ms([config]) + per_weight_ns * config.params)
                store.add_visit(device, (config,), Visit.from_samples([sample_ns], started_s=0.0))
    return path


@pytest.fixture(autouse=True)
def fake_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(import_module("blsm.profiling.devices")._devices, "fake", FakeDevice)


def test_transfer_makes_a_bundle_that_predicts(
    capsys: pytest.CaptureFixture[str], pool: Path, keras_file: Path, tmp_path: Path, network: list[blsm.BlockConfig]
) -> None:
    bundle, store = tmp_path / "new.blsm", tmp_path / "profiles.db"
    arguments = [
        "--pool",
        str(pool),
        "--device",
        "fake",
        "--store",
        str(store),
        "-o",
        str(bundle),
        "--invocations",
        "5",
    ]
    assert main(["transfer", "--method", "block_prior", "--samples", "10", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "block_prior of fake from one, two and 41 measured blocks" in printed
    assert main(["predict", str(keras_file), "--latency-model", str(bundle), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["device"] == "fake"
    assert found["latency_ms"] == pytest.approx(blsm.load(bundle).latency(network).latency_ms)
    assert found["latency_ms"] == pytest.approx(fake_latency_ms(network), rel=0.3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "helps"], "did you mean 'help'"),
        (["--block", "res_v2"], "the pool has conv, mbconv, res_v1, head, not res_v2"),
        (["--device", "one@threads=2"], "unknown device"),
        (["--samples", "2", "--block", "head"], "at least 4 measured head blocks"),
    ],
)
def test_mistakes_are_named(
    capsys: pytest.CaptureFixture[str], pool: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    base = ["--pool", str(pool), "--device", "fake", "--store", str(tmp_path / "p.db"), "-o", str(tmp_path / "n.blsm")]
    assert main(["transfer", *base, "--invocations", "5", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("blsm: error: ")
    assert message in error
    assert not (tmp_path / "n.blsm").exists()


@pytest.fixture
def descriptors(tmp_path: Path) -> dict[str, Path]:
    """Descriptors of the known devices and of the new one, of one operation."""
    paths = {}
    for number, (device, fingerprint) in enumerate(
        {
            "one": Fingerprint({"cpu": "one"}),
            "two": Fingerprint({"cpu": "two"}),
            "fake": FakeDevice().fingerprint(),
        }.items()
    ):
        paths[device] = tmp_path / f"{device}.json"
        records = {"conv_1x1": OperationRecord(1.0 + number, {"cycles": 1e6 * number + 1})}
        Descriptor(device, fingerprint, records, {}).save(paths[device])
    return paths


def test_maple_reads_descriptors(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pool: Path,
    tmp_path: Path,
    descriptors: dict[str, Path],
) -> None:
    maple = import_module("blsm.transfer.maple")
    monkeypatch.setattr(maple, "MapleSettings", partial(maple.MapleSettings, units=8, steps=3, mixed_steps=2))
    files = {"--pool": [pool], "--descriptor": descriptors.values(), "--store": [tmp_path / "p.db"]}
    arguments = [text for option, paths in files.items() for text in (option, *map(str, paths))]
    arguments += ["--method", "maple", "--device", "fake", "--block", "head", "--samples", "4", "--invocations", "5"]
    assert main(["transfer", *arguments, "-o", str(tmp_path / "new.blsm")]) == 0
    assert "maple of fake from one, two and 5 measured blocks" in capsys.readouterr().out
    assert blsm.load(tmp_path / "new.blsm").surrogates.keys() == {"head"}
    # Measured on another machine than the blocks.
    Descriptor("fake", Fingerprint({"cpu": "other"}), Descriptor.load(descriptors["one"]).operations, {}).save(
        descriptors["fake"]
    )
    assert main(["transfer", *arguments, "-o", str(tmp_path / "other.blsm")]) == 2
    assert "the descriptor of fake is of another machine or software (cpu: " in capsys.readouterr().err


def test_descriptors_that_do_not_fit_are_named(
    capsys: pytest.CaptureFixture[str], pool: Path, tmp_path: Path, descriptors: dict[str, Path]
) -> None:
    base = ["transfer", "--pool", str(pool), "--device", "fake", "-o", str(tmp_path / "n.blsm")]
    assert main([*base, "--descriptor", str(descriptors["one"])]) == 2
    assert "--descriptor is for --method maple, got --method block_prior" in capsys.readouterr().err
    known = [str(descriptors[name]) for name in ("one", "two")]
    assert main([*base, "--method", "maple", "--descriptor", *known]) == 2
    assert (
        "--descriptor has one, two, not the new device: run `blsm descriptor --device fake" in capsys.readouterr().err
    )


def test_a_missing_pool_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["transfer", "--pool", str(tmp_path / "none.db"), "-o", str(tmp_path / "n.blsm")]) == 2
    assert "no profile store" in capsys.readouterr().err
