"""Hardware descriptors: measured, written, read, and never a 0 for what is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from blsm.cli.main import main
from blsm.errors import DeviceError, FileError
from blsm.profiles import Fingerprint
from blsm.profiling import Protocol, device, register_device
from blsm.profiling.devices import _devices
from blsm.testing import FakeDevice, fake_latency_ms
from blsm.transfer import perf_counters
from blsm.transfer.descriptor import PRIMITIVES, Descriptor, OperationRecord, describe, descriptor_vectors
from blsm.transfer.perf_counters import HARDWARE_COUNTERS, SOFTWARE_COUNTERS

ALL = {*HARDWARE_COUNTERS, *SOFTWARE_COUNTERS}
QUICK = Protocol(visits=1, invocations=5, max_visit_s=None)
ONE = {"conv_1x1": PRIMITIVES["conv_1x1"]}


def test_operator_latencies_of_a_device_without_counters() -> None:
    descriptor = describe(FakeDevice(noise=0.0), protocol=QUICK)
    assert descriptor.operations.keys() == PRIMITIVES.keys()
    for name, record in descriptor.operations.items():
        assert record.latency_ms == pytest.approx(fake_latency_ms(PRIMITIVES[name]), rel=1e-3)
        assert record.counters == dict.fromkeys(record.counters)  # all None, none 0
    assert descriptor.missing.keys() == ALL


def test_a_runtime_on_this_cpu() -> None:
    descriptor = describe(device("edge_cpu"), ONE, QUICK)
    (record,) = descriptor.operations.values()
    assert record.counters.keys() == ALL
    for name, count in record.counters.items():
        assert (count is None) == (name in descriptor.missing)
    task_clock_ns = record.counters["task_clock_ns"]
    if task_clock_ns is not None:
        # What runs on one thread occupies it for about as long as it takes.
        assert 0.3 < task_clock_ns / (1e6 * record.latency_ms) < 30


def test_where_the_kernel_counts_nothing_latencies_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(kind: int, config: int, *, user_only: bool) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(perf_counters, "_open", refuse)
    descriptor = describe(device("edge_cpu"), ONE, QUICK)
    (record,) = descriptor.operations.values()
    assert record.latency_ms > 0
    assert record.counters == dict.fromkeys(descriptor.missing)
    assert all("ENOSYS" in reason for reason in descriptor.missing.values())


def test_an_npu_counts_for_itself() -> None:
    pytest.importorskip("ethosu", reason="needs pip install 'blsm[asic]'")
    descriptor = describe(device("asic"), ONE, QUICK)
    (record,) = descriptor.operations.values()
    counted = {name: value for name, value in record.counters.items() if value is not None}
    assert counted["cycles_total"] == pytest.approx(counted["cycles_npu"], rel=1.0)
    assert counted["nn_macs"] == 16 * 16 * 32 * 32
    assert all(record.counters[name] is None for name in ALL)


def test_a_device_that_is_not_usable() -> None:
    class Absent(FakeDevice):
        def missing(self) -> str | None:
            return "pip install luck"

    with pytest.raises(DeviceError, match="not usable here: pip install luck"):
        describe(Absent())


def _descriptor(name: str, **counters: float | None) -> Descriptor:
    records = {"a": OperationRecord(1.0, counters), "b": OperationRecord(2.0, counters)}
    return Descriptor(name, Fingerprint({"cpu": "x"}), records, {k: "why" for k, v in counters.items() if v is None})


def test_vectors_have_one_layout_and_nan_for_what_is_missing() -> None:
    vectors = descriptor_vectors([_descriptor("one", cycles=5.0, faults=None), _descriptor("two", cycles=7.0)])
    np.testing.assert_array_equal(vectors["one"], [1, 2, 5, 5, np.nan, np.nan])
    np.testing.assert_array_equal(vectors["two"], [1, 2, 7, 7, np.nan, np.nan])


def test_written_and_read(tmp_path: Path) -> None:
    descriptor = _descriptor("one", cycles=5.0, faults=None)
    descriptor.save(tmp_path / "one.json")
    assert Descriptor.load(tmp_path / "one.json") == descriptor
    assert json.loads((tmp_path / "one.json").read_text())["operations"]["a"]["counters"]["faults"] is None


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "blsm hardware descriptor", "schema": 9}'])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(FileError, match="no hardware descriptor"):
        Descriptor.load(tmp_path / "file")
    with pytest.raises(FileError, match="No such file"):
        Descriptor.load(tmp_path / "none")


@pytest.fixture
def fake_device() -> Iterator[None]:
    register_device(FakeDevice)
    yield
    _devices.pop("fake")


@pytest.mark.usefixtures("fake_device")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fake.json"
    assert main(["descriptor", "--device", "fake", "--visits", "1", "-o", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "conv_1x1" in printed
    assert "not available: cycles, instructions," in printed
    assert Descriptor.load(path).device == "fake"
    assert main(["descriptor", "--device", "fake", "--visits", "1", "--json"]) == 0
    assert Descriptor.from_json(json.loads(capsys.readouterr().out)).operations.keys() == PRIMITIVES.keys()
    assert main(["descriptor", "--device", "fakee"]) == 2
    assert "did you mean 'fake'" in capsys.readouterr().err
