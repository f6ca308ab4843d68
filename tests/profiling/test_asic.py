"""The NPU: what Vela computes is passed on unchanged, and nothing that it did not compute."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import blsm
from blsm.errors import DeviceError, DomainError
from blsm.profiles import DISPATCH_PROBE, Chain, ProfileStore
from blsm.profiling import Campaign, Device, Protocol, device, machine
from blsm.profiling.devices import asic
from blsm.profiling.devices.litert import convert_int8

needs_vela = pytest.mark.skipif(importlib.util.find_spec("ethosu") is None, reason="pip install ethos-u-vela")

MBCONV = blsm.block_family("mbconv")
BLOCK: Chain = (MBCONV.config(height=8, width=8, in_channels=16, filters=16, kernel_size=3, strides=1, expand_ratio=4),)


def _artifact(target: Device, chain: Chain, folder: Path) -> dict[str, Any]:
    target.compile_blocks(chain, folder / "a.json")
    return dict(json.loads((folder / "a.json").read_text()))


def _log_softmax() -> Any:
    """A convolution, which the NPU runs, and a logarithm of softmax, which it does not."""
    import keras

    inputs = keras.Input((8, 8, 8))
    x = keras.layers.Conv2D(8, 3)(inputs)
    return keras.Model(inputs, keras.layers.Activation("log_softmax")(x))


def test_without_vela_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ethosu" else find(name))
    assert device("asic").missing() == "pip install ethos-u-vela"


def test_options_choose_accelerator_and_system() -> None:
    assert device("asic").name == "asic"
    chosen = device("asic@accelerator=ethos-u55-128")
    assert isinstance(chosen, asic.Asic)
    assert chosen.name == "asic@accelerator=ethos-u55-128"
    assert (chosen.system, chosen.memory) == ("Ethos_U55_High_End_Embedded", "Shared_Sram")
    assert device("asic").deterministic


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("asic@accelerator=ethos-u66", "accelerator must be one of .*ethos-u65-512"),
        ("asic@speed=1", "its options are accelerator, system, memory, cpu_fallback"),
        ("asic@system=Ethos_U55_Deep_Embedded", "systems of ethos-u65-512 are Ethos_U65_Embedded"),
        ("asic@system=Ethos_U65_Embedded", "needs a system with a DRAM"),
    ],
)
def test_options_that_do_not_fit_are_refused(name: str, message: str) -> None:
    with pytest.raises(DomainError, match=message):
        device(name)


def test_an_artifact_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"latency": 3}')
    with device("asic").open() as session, pytest.raises(DeviceError, match="no estimate of Vela: KeyError"):
        session.visit(tmp_path / "a.json", Protocol())


SUMMARY = "core_clock,cycles_total,cycles_npu,nn_macs,sram_total_bytes\n500000000.0,60,50,7,9\n"
OPERATORS = "Original Operator,NNG Operator,Target,Op Cycles,Name\nConv2D,Conv2D,NPU,60,first, or so\n"


def _tables(folder: Path, summary: str = SUMMARY, operators: str = OPERATORS) -> dict[str, Any]:
    (folder / "n_summary_S.csv").write_text(summary)
    (folder / "n_per-layer.csv").write_text(operators)
    return asic._estimate(*asic._read_tables(folder))


def test_tables_are_read(tmp_path: Path) -> None:
    estimate = _tables(tmp_path)
    assert (estimate["cycles"], estimate["clock_hz"], estimate["latency_ns"]) == (60, 500_000_000, 120)
    assert estimate["counters"] == {"cycles_total": 60, "cycles_npu": 50, "nn_macs": 7, "sram_total_bytes": 9}
    (operator,) = estimate["operators"]
    assert (operator["layer"], operator["on"], operator["cycles"]) == ("first, or so", "NPU", 60)


def test_tables_of_another_form_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="did not write its tables"):
        asic._read_tables(tmp_path)
    with pytest.raises(DeviceError, match="lack 'cycles_total'"):
        _tables(tmp_path, summary=SUMMARY.replace("cycles_total", "cycles"))
    with pytest.raises(DeviceError, match="lack 'Target'"):
        _tables(tmp_path, operators=OPERATORS.replace("Target", "On"))
    with pytest.raises(DeviceError, match="did not write its tables"):
        _tables(tmp_path, operators="")


@needs_vela
def test_the_fingerprint_names_npu_and_software_but_no_host() -> None:
    identity = device("asic").fingerprint().identity
    assert identity["accelerator"] == "ethos-u65-512"
    assert identity["precision"] == "int8"
    assert {"system", "memory", "runtime", "compiler"} <= set(identity)
    assert machine.cpu_name() not in identity.values()


@needs_vela
@pytest.mark.parametrize("name", ["asic", "asic@accelerator=ethos-u55-128"])
def test_the_latency_is_that_of_velas_own_summary(name: str, tmp_path: Path, network: list[blsm.BlockConfig]) -> None:
    import csv

    target = device(name)
    assert isinstance(target, asic.Asic)
    model = blsm.build_network(network)
    target.compile(model, tmp_path / "a.json")
    artifact = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "n.tflite").write_bytes(convert_int8(model))
    command = [sys.executable, "-m", "ethosu.vela", str(tmp_path / "n.tflite"), "--output-dir", str(tmp_path)]
    subprocess.run([*command, "--accelerator-config", target.accelerator], check=True, capture_output=True, timeout=120)
    (summary,) = csv.DictReader((tmp_path / f"n_summary_{target.system}.csv").open())
    assert summary["memory_mode"] == target.memory
    with target.open() as session:
        visit = session.visit(tmp_path / "a.json", Protocol())
    assert set(visit.quantiles_ns) == {artifact["latency_ns"]}
    assert artifact["latency_ns"] == pytest.approx(1e9 * float(summary["inference_time"]), abs=1)
    assert sum(operator["cycles"] for operator in artifact["operators"]) == artifact["cycles"]


@needs_vela
def test_the_same_chain_always_takes_the_same_and_a_smaller_npu_longer(tmp_path: Path) -> None:
    first, again = (_artifact(device("asic"), BLOCK, tmp_path)["latency_ns"] for _ in range(2))
    smaller = _artifact(device("asic@accelerator=ethos-u55-32"), BLOCK, tmp_path)["latency_ns"]
    assert first == again
    assert smaller > first


@needs_vela
@pytest.mark.parametrize("activation", MBCONV.space()["activation"].values)  # type: ignore[union-attr]
def test_every_operator_of_a_block_runs_on_the_npu(activation: str, tmp_path: Path) -> None:
    from dataclasses import replace

    block = replace(BLOCK[0], activation=activation, se_ratio=0.25)  # type: ignore[call-arg]
    artifact = _artifact(device("asic"), (block,), tmp_path)
    assert artifact["uncounted"] == []
    assert {operator["on"] for operator in artifact["operators"]} == {"NPU"}


@needs_vela
def test_operators_that_fall_back_to_the_cpu_are_refused_unless_asked(tmp_path: Path) -> None:
    model = _log_softmax()
    with pytest.raises(DeviceError, match="LogSoftmax would fall back to the CPU, whose time Vela does not model"):
        device("asic").compile(model, tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()
    asked = device("asic@cpu_fallback=uncounted")
    asked.compile(model, tmp_path / "a.json")
    artifact = json.loads((tmp_path / "a.json").read_text())
    assert artifact["uncounted"] == ["LogSoftmax"]
    assert artifact["latency_ns"] > 0
    assert asked.fingerprint().differences(device("asic").fingerprint())


@needs_vela
def test_a_model_that_runs_on_the_cpu_alone_has_no_latency(tmp_path: Path) -> None:
    import keras

    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.layers.Activation("log_softmax")(inputs))
    with pytest.raises(DeviceError, match="nothing of it runs on ethos-u65-512"):
        device("asic@cpu_fallback=uncounted").compile(model, tmp_path / "a.json")


@needs_vela
def test_vela_stays_off_the_screen(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = tmp_path / "n.tflite"
    network.write_bytes(convert_int8(_log_softmax()))
    capfd.readouterr()
    target = device("asic")
    assert isinstance(target, asic.Asic)
    limit = sys.getrecursionlimit()
    target._run_vela(network)
    sys.stdout.write("heard\n")
    assert capfd.readouterr() == ("heard\n", "")
    assert sys.getrecursionlimit() == limit


@needs_vela
def test_what_vela_cannot_read_is_refused(tmp_path: Path) -> None:
    target = device("asic")
    assert isinstance(target, asic.Asic)
    (tmp_path / "n.tflite").write_text("no network")
    with pytest.raises(DeviceError, match="Vela refused it"):
        target._run_vela(tmp_path / "n.tflite")


@needs_vela
def test_a_campaign_makes_one_visit_each(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(device("asic"), store).run([DISPATCH_PROBE, BLOCK])
        assert (report.complete, report.visits, report.failed) == (2, 2, {})
        probe, block = store.profiles("asic")
    assert block.latency_ms > probe.latency_ms > 0
