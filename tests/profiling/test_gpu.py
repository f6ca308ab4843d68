"""JAX on its CPU backend: what is computed, and that a CPU never passes for a GPU."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import blsm
from blsm.errors import DeviceError
from blsm.profiling import Protocol, device, measure_model, worker
from blsm.profiling.devices import gpu

PROTOCOL = Protocol(visits=1, invocations=3, max_visit_s=None, min_invocations=3)
#: A convolution with batch normalisation and activation.
BLOCK = blsm.block_family("conv").config(height=8, width=8, in_channels=3, filters=8, kernel_size=3, strides=1)
needs_jax = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="pip install jax")


def test_without_jax_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert device("gpu").missing() == "pip install 'jax[cuda12]'"
    assert device("gpu@platform=cpu").missing() == "pip install jax"


def test_without_a_gpu_it_says_so_and_names_no_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(gpu, "_describe", lambda platform: {"error": "Unknown backend"})
    assert "no GPU that JAX can use" in str(device("gpu").missing())
    with pytest.raises(DeviceError, match="gpu is not usable here: Unknown backend"):
        device("gpu").fingerprint()


@needs_jax
def test_a_cpu_never_passes_for_a_gpu() -> None:
    on_cpu = device("gpu@platform=cpu")
    assert on_cpu.missing() is None
    assert on_cpu.name == "gpu@platform=cpu"
    identity = on_cpu.fingerprint().identity
    assert identity["platform"] == "cpu"
    assert {"cpu", "threads", "runtime", "precision"} <= set(identity)
    assert "gpu" not in identity


@needs_jax
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_dispatch_computes_what_as_many_calls_do_one_after_the_other(count: int) -> None:
    import jax
    import numpy as np

    random = np.random.default_rng(0)
    weights = random.normal(size=(4, 4)).astype(np.float32)
    start = [random.random((1, 4), np.float32), random.random((2, 3), np.float32)]

    def apply(weights: Any, inputs: list[Any]) -> list[Any]:
        hidden = jax.numpy.tanh(inputs[0] @ weights)
        return [hidden @ weights, inputs[1] + hidden.sum()]

    def one_by_one(count: int) -> list[Any]:
        inputs, outputs = [x.copy() for x in start], [np.zeros((1, 4)), np.zeros((2, 3))]
        for _ in range(count):
            for x in inputs:
                x[0, 0] = np.tanh(sum(y[0, 0] for y in outputs))
            outputs = [np.asarray(y) for y in apply(weights, inputs)]
        return outputs

    chained = jax.jit(worker.chain(apply, count))(weights, [jax.numpy.asarray(x) for x in start])
    for ours, theirs, fewer in zip(chained, one_by_one(count), one_by_one(count - 1), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)
        assert not np.allclose(ours, fewer)  # each of them counts


def test_a_sample_is_one_invocation_of_a_dispatch(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(artifact: str) -> worker.Dispatch:
        return worker.Dispatch(lambda: time.sleep(0.01), 1000)

    request = {"artifact": "", "invocations": 2, "max_visit_s": None, "min_invocations": 2, "warmup": 0}
    monkeypatch.setitem(worker.RUNNERS, "sleep", load)
    monkeypatch.setattr(worker, "spread_threads", lambda invoke, cores: None)
    samples_ns = worker.answer(request, "sleep", {}, worker.available_cores(), worker.Pulse())["samples_ns"]
    assert len(samples_ns) == 2
    assert all(10_000 <= sample_ns < 5_000_000 for sample_ns in samples_ns)


def test_a_dispatch_makes_enough_invocations_to_take_its_time() -> None:
    dispatch = worker.long_dispatch(lambda count: lambda: time.sleep(count * 2e-5), dispatch_s=0.004)
    assert dispatch.invocations * 2e-5 >= 0.002


_COMPUTE = """
import json, sys
import numpy as np
from blsm.profiling import worker
apply, weights, _ = worker.read_keras(sys.argv[1], "cpu")
print(json.dumps(np.asarray(apply(weights, [np.load(sys.argv[2])])[0]).tolist()))
"""


@needs_jax
def test_the_artifact_computes_what_keras_does(tmp_path: Path) -> None:
    import numpy as np

    model = blsm.build_network([BLOCK])
    image = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    np.save(tmp_path / "image.npy", image)
    device("gpu@platform=cpu").compile(model, tmp_path / "model.keras")
    command = [sys.executable, "-c", _COMPUTE, str(tmp_path / "model.keras"), str(tmp_path / "image.npy")]
    output = subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
    np.testing.assert_allclose(json.loads(output), model(image, training=False), rtol=1e-3, atol=1e-4)


@needs_jax
def test_blocks_are_measured_and_odd_files_refused(tmp_path: Path) -> None:
    on_cpu = device("gpu@platform=cpu")
    with on_cpu.open() as session:
        (tmp_path / "odd.keras").write_text("no model")
        with pytest.raises(DeviceError, match="the runtime refused it"):
            session.visit(tmp_path / "odd.keras", PROTOCOL)
        on_cpu.compile_blocks((BLOCK,), tmp_path / "block.keras")
        visit = session.visit(tmp_path / "block.keras", PROTOCOL)
    assert visit.invocations == 3
    assert visit.minimum_ns > 0


def test_a_model_that_cannot_be_measured_here_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="gpu is not usable here: pip install"):
        measure_model(None, device("gpu"))
