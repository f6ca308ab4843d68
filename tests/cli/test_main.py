"""The command line as a user meets it: every command, and bad input with one clear message and exit code 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import blsm
from blsm.cli.main import main
from blsm.profiles import ProfileStore


def _fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The message of a command that must fail."""
    assert main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("blsm: ")
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == 1
    return captured.err


def _prints(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The output of a command that must succeed."""
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def test_help_names_every_command() -> None:
    done = subprocess.run([sys.executable, "-m", "blsm.cli.main", "--help"], capture_output=True, text=True, check=True)
    for command in ("devices", "blocks", "profile", "export", "measure", "fit", "evaluate", "predict"):
        assert f"    {command} " in done.stdout


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {line.split()[0]: line for line in _prints(capsys, "devices").splitlines()}
    assert lines["edge_cpu"].split()[1] == "yes"
    assert "pip install" in lines["asic"] or lines["asic"].split()[1] == "yes"


def test_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    assert "mbconv" in _prints(capsys, "blocks")
    one = _prints(capsys, "blocks", "mbconv")
    assert "kernel_size   3, 5, 7" in one
    assert "same as height" in one


def test_export(capsys: pytest.CaptureFixture[str], fake_store: Path, tmp_path: Path) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    for name, read in (("p.parquet", pyarrow.parquet.read_table), ("p.csv", pyarrow.csv.read_csv)):
        assert "621 rows" in _prints(capsys, "export", "--store", fake_store, "-o", tmp_path / name)
        rows = read(tmp_path / name).to_pylist()
        assert len(rows) == 621
        mbconv = next(row for row in rows if row["family"] == "mbconv")
        assert mbconv["latency_ms"] > 0
        assert mbconv["cold_ms"] is None
        assert mbconv["kernel_size"] in (3, 5, 7)
        assert sum(row["family"] == "network" for row in rows) == 20
    assert ".parquet or .csv" in _fails(capsys, "export", "--store", fake_store, "-o", tmp_path / "p.xlsx")


def test_fit_and_predict(
    capsys: pytest.CaptureFixture[str], fake_store: Path, keras_file: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "fake.blsm"
    table = _prints(capsys, "fit", "--device", "fake", "--store", fake_store, "-o", bundle, "--regressor", "roofline")
    assert "res_v2" in table
    text = _prints(capsys, "predict", keras_file, "--latency-model", bundle)
    assert "coverage 100%" in text
    assert "dispatch" in text
    data = json.loads(_prints(capsys, "predict", keras_file, "--latency-model", bundle, "--json"))
    assert [block["family"] for block in data["blocks"]] == ["conv", "mbconv", "res_v1", "head"]
    total = data["dispatch_ms"] + sum(block["latency_ms"] for block in data["blocks"])
    assert data["latency_ms"] == pytest.approx(total)
    assert data["low_ms"] < data["latency_ms"] < data["high_ms"]


def test_fit_with_another_regressor_on_config_vectors_alone(
    capsys: pytest.CaptureFixture[str], fake_store: Path, tmp_path: Path
) -> None:
    options = ("--device", "fake", "--store", fake_store, "-o", tmp_path / "f.blsm", "--regressor", "linear")
    assert "linear of fake" in _prints(capsys, "fit", *options, "--features", "vector")
    assert blsm.load(tmp_path / "f.blsm").surrogates["mbconv"].regressor.features == "vector"
    assert "a roofline is made of costs" in _fails(capsys, "fit", *options[:-1], "roofline", "--features", "vector")


def test_predict_with_another_interval(capsys: pytest.CaptureFixture[str], fake_bundle: Path, keras_file: Path) -> None:
    arguments = ("predict", keras_file, "--latency-model", fake_bundle)
    assert ", 80 % interval " in _prints(capsys, *arguments, "--interval", "0.8")
    usual, narrow = (json.loads(_prints(capsys, *arguments, "--json", "--interval", level)) for level in ("0.9", "0.8"))
    assert (usual["interval"], narrow["interval"]) == (0.9, 0.8)
    assert usual["low_ms"] < narrow["low_ms"] < narrow["high_ms"] < usual["high_ms"]
    assert "above 0 and below 1, e.g. 0.9, got 80.0" in _fails(capsys, *arguments, "--interval", "80")


def test_evaluate(capsys: pytest.CaptureFixture[str], fake_store: Path, fake_bundle: Path, tmp_path: Path) -> None:
    figures, picture = tmp_path / "f.json", tmp_path / "f.png"
    out = _prints(capsys, "evaluate", fake_bundle, "--store", fake_store, "--json", figures, "--figure", picture)
    assert "mbconv" in out
    assert json.loads(figures.read_text())["figures"]["mbconv"]["count"] == 18
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_profile_continues_and_measures_nothing_twice(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    store = tmp_path / "p.db"
    arguments = (
        "profile",
        "--block",
        "output,conv",
        "--samples",
        3,
        "--visits",
        2,
        "--invocations",
        5,
        "--store",
        store,
    )
    assert "7 of 7 blocks on edge_cpu are complete" in _prints(capsys, *arguments)
    assert "0 visits" in _prints(capsys, *arguments)
    with ProfileStore(store) as profiles:
        assert {len(profile.visits) for profile in profiles.profiles("edge_cpu")} <= {2, 3, 4}
    assert "too few to fit" in _fails(
        capsys, "fit", "--device", "edge_cpu", "--store", store, "-o", tmp_path / "m.blsm"
    )


def test_measure(capsys: pytest.CaptureFixture[str], keras_file: Path) -> None:
    data = json.loads(_prints(capsys, "measure", keras_file, "--visits", 2, "--invocations", 5, "--json"))
    assert data["latency_ms"] > 0
    assert data["visits"] >= 2
    assert data["invocations"] == 5 * data["visits"]
    assert data["fingerprint"]["identity"]["threads"] == 1


def test_unknown_names(capsys: pytest.CaptureFixture[str], fake_store: Path, tmp_path: Path, keras_file: Path) -> None:
    store = tmp_path / "p.db"
    assert "did you mean 'mbconv'" in _fails(capsys, "profile", "--block", "mbconvv", "--store", store)
    assert "did you mean 'edge_cpu'" in _fails(
        capsys, "profile", "--block", "conv", "--device", "edge-cpu", "--store", store
    )
    assert "did you mean 'mbconv'" in _fails(capsys, "blocks", "mbcon")
    assert "did you mean 'edge_cpu'" in _fails(capsys, "measure", keras_file, "--device", "edgecpu")
    fit = ("fit", "--device", "fake", "--store", fake_store, "-o", tmp_path / "m.blsm")
    assert "did you mean 'roofline'" in _fails(capsys, *fit, "--regressor", "rooflin")
    assert "it holds fake" in _fails(
        capsys, "fit", "--device", "edge_cpu", "--store", fake_store, "-o", tmp_path / "m.blsm"
    )
    assert not store.exists()


def test_bad_files(capsys: pytest.CaptureFixture[str], fake_bundle: Path, keras_file: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("hello " * 500)
    empty = tmp_path / "empty"
    empty.touch()
    missing = tmp_path / "missing"
    for bad, said in (
        (missing, "blsm fit"),
        (text, "no blsm bundle"),
        (empty, "empty"),
        (keras_file, "no blsm bundle"),
    ):
        assert said in _fails(capsys, "predict", keras_file, "--latency-model", bad)
    for bad, said in (
        (missing, "no model file"),
        (text, "no readable Keras model"),
        (fake_bundle, "no readable Keras model"),
    ):
        assert said in _fails(capsys, "predict", bad, "--latency-model", fake_bundle)
    for bad, said in ((missing, "blsm profile"), (text, "no profile store"), (empty, "empty file")):
        assert said in _fails(capsys, "evaluate", fake_bundle, "--store", bad)
        assert said in _fails(capsys, "fit", "--store", bad, "-o", tmp_path / "m.blsm")


def test_unwritable_outputs(
    capsys: pytest.CaptureFixture[str], fake_store: Path, fake_bundle: Path, tmp_path: Path
) -> None:
    nowhere = tmp_path / "no such folder"
    fit = ("fit", "--device", "fake", "--store", fake_store, "--regressor", "roofline", "-o", nowhere / "m.blsm")
    assert "No such file or directory" in _fails(capsys, *fit)
    evaluate = ("evaluate", fake_bundle, "--store", fake_store)
    assert "cannot write" in _fails(capsys, *evaluate, "--json", nowhere / "f.json")
    assert "cannot draw" in _fails(capsys, *evaluate, "--figure", nowhere / "f.png")
    assert "cannot draw" in _fails(capsys, *evaluate, "--figure", tmp_path / "f.doc")
    assert "folder does not exist" in _fails(capsys, "profile", "--block", "conv", "--store", nowhere / "p.db")


def test_a_model_that_is_not_covered(capsys: pytest.CaptureFixture[str], fake_bundle: Path, tmp_path: Path) -> None:
    import keras

    keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.MaxPooling2D(name="shrink")]).save(
        tmp_path / "m.keras"
    )
    arguments = ("predict", tmp_path / "m.keras", "--latency-model", fake_bundle)
    assert "shrink (pool)" in _fails(capsys, *arguments)
    assert "not covered, counted as 0 ms: shrink (pool)" in _prints(capsys, *arguments, "--allow-partial")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["profile", "--block", "conv", "--samples", "0"], "at least 1"),
        (["profile", "--block", "conv", "--budget", "soon"], "a duration such as"),
        (["profile"], "--block"),
        (["predict", "m.keras"], "--latency-model"),
        (["explain"], "invalid choice"),
    ],
)
def test_bad_arguments(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("blsm.cli.devices.run", interrupted)
    assert "interrupted" in _fails(capsys, "devices")


def test_a_space_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from blsm.cli.profile import sample_chains

    space = tmp_path / "space.toml"
    space.write_text("[conv]\nheight = [8]\nfilters = [8, 16]\n")
    chains = sample_chains("conv", 10, 0, str(space))
    assert {chain[0].to_dict()["filters"] for chain in chains[1:]} == {8, 16}
    space.write_text("[conv]\nfilter = [8, 16]\n")
    arguments = ("profile", "--block", "conv", "--store", tmp_path / "p.db", "--space", space)
    assert "did you mean 'filters'" in _fails(capsys, *arguments)
