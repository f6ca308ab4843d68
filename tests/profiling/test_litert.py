"""The real thing, small: blocks compiled by TensorFlow and timed by LiteRT on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

import blsm
from blsm.errors import DeviceError, UnknownDeviceError
from blsm.profiles import DISPATCH_PROBE, ProfileStore
from blsm.profiling import Campaign, Protocol, device, devices, measure_model
from blsm.profiling.devices.litert import convert, convert_int8
from blsm.profiling.worker import load_litert

#: Visits and invocations are counted here, however busy the machine is.
PROTOCOL = Protocol(visits=2, invocations=10, max_visit_s=None, patience_s=0.0)


def test_edge_cpu_is_known_and_usable_here() -> None:
    assert "edge_cpu" in devices()
    assert device("edge_cpu").missing() is None
    with pytest.raises(UnknownDeviceError, match="did you mean 'edge_cpu'"):
        device("edge_cp")


def test_the_fingerprint_names_machine_and_software() -> None:
    identity = device("edge_cpu").fingerprint().identity
    assert set(identity) >= {"cpu", "architecture", "governor", "runtime", "compiler", "precision", "threads"}
    assert identity["threads"] == 1
    assert device("edge_cpu").fingerprint() == device("edge_cpu").fingerprint()


def test_an_artifact_computes_what_the_model_does_and_has_no_variables(network: list[blsm.BlockConfig]) -> None:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    model = blsm.build_network(network)
    interpreter = Interpreter(model_content=convert(model), num_threads=1)
    interpreter.allocate_tensors()
    operators = {details["op_name"] for details in interpreter._get_ops_details()}
    assert not {name for name in operators if "VARIABLE" in name or name == "VAR_HANDLE"}
    image = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    output = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(output, model(image, training=False), rtol=1e-3, atol=1e-4)


def test_a_campaign_measures_blocks_and_networks(tmp_path: Path, network: list[blsm.BlockConfig]) -> None:
    chains = [DISPATCH_PROBE, tuple(network), *((config,) for config in network)]
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        report = Campaign(device("edge_cpu"), store, PROTOCOL).run(chains)
        assert (report.complete, report.failed) == (6, {})
        profiles = {profile.blocks: profile for profile in store.profiles("edge_cpu")}
    assert all(len(profile.visits) in (2, 3, 4) for profile in profiles.values())
    assert all(visit.invocations == 10 for profile in profiles.values() for visit in profile.visits)
    slowest_block = max(profiles[(config,)].latency_ms for config in network)
    assert profiles[tuple(network)].latency_ms > slowest_block > profiles[DISPATCH_PROBE].latency_ms > 0


def test_a_whole_model_is_measured(network: list[blsm.BlockConfig]) -> None:
    visits = measure_model(blsm.build_network(network), device("edge_cpu"), PROTOCOL)
    assert len(visits) >= 2
    assert all(visit.invocations == 10 for visit in visits)
    assert all(visit.minimum_ns > 0 for visit in visits)


def test_visits_that_wait_for_a_fast_core_end(network: list[blsm.BlockConfig]) -> None:
    visits = measure_model(blsm.build_network(network), device("edge_cpu"), Protocol(visits=2, patience_s=0.05))
    assert len(visits) >= 2
    assert all(visit.invocations >= Protocol().min_invocations for visit in visits)


def test_models_that_cannot_be_deployed_are_refused() -> None:
    import keras

    inputs = keras.Input((None, None, 3))
    with pytest.raises(DeviceError, match="only its batch axis may be None"):
        measure_model(keras.Model(inputs, keras.layers.Conv2D(4, 3)(inputs)), device("edge_cpu"), PROTOCOL)

    class Strings(keras.layers.Layer):
        def call(self, x: object) -> object:
            import tensorflow as tf

            return tf.strings.length(tf.strings.as_string(x))

    inputs = keras.Input((4,))
    with pytest.raises(DeviceError, match="refused the model"):
        measure_model(keras.Model(inputs, Strings()(inputs)), device("edge_cpu"), PROTOCOL)


def test_quantising_stays_off_the_screen(capfd: pytest.CaptureFixture[str], network: list[blsm.BlockConfig]) -> None:
    convert((network[0],))  # TensorFlow greets when it is imported
    capfd.readouterr()
    assert convert_int8(tuple(network))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("options", "delegated"), [("", True), ("@kernels=builtin", False)])
def test_its_own_kernels_can_be_timed_in_place_of_xnnpack(
    tmp_path: Path, network: list[blsm.BlockConfig], options: str, delegated: bool
) -> None:
    target = device(f"edge_cpu{options}")
    assert measure_model(blsm.build_network(network), target, PROTOCOL)
    (tmp_path / "m.tflite").write_bytes(convert(tuple(network)))
    interpreter = load_litert(str(tmp_path / "m.tflite"), **target.settings).__self__  # type: ignore[attr-defined]
    assert ("DELEGATE" in {details["op_name"] for details in interpreter._get_ops_details()}) == delegated
