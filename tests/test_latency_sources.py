"""Surrogate, hardware in the loop, and both: one interface."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import blsm
from blsm.errors import DeviceError, DomainError, FingerprintError, UnknownDeviceError
from blsm.latency_sources import HardwareInTheLoop, Hybrid
from blsm.profiles import Fingerprint
from blsm.profiling import Protocol
from blsm.testing import FakeDevice, fake_latency_ms

PROTOCOL = Protocol(visits=3, invocations=20)


@pytest.fixture
def hil() -> HardwareInTheLoop:
    return HardwareInTheLoop(FakeDevice(noise=0.1), PROTOCOL)


def test_hardware_measures_a_chain(hil: HardwareInTheLoop, network: list[blsm.BlockConfig]) -> None:
    estimate = hil.latency(network)
    exact_ms = fake_latency_ms(network)
    assert exact_ms <= estimate.latency_ms < 1.1 * exact_ms
    assert estimate.low_ms == estimate.latency_ms < estimate.high_ms
    assert (estimate.coverage, hil.measured, hil.device) == (1.0, 1, "fake")


def test_hardware_measures_a_keras_model_as_if_it_were_trained(
    hil: HardwareInTheLoop, network: list[blsm.BlockConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = blsm.build_network(network)
    before = model.get_weights()
    seen = []
    compile_model = FakeDevice.compile

    def spy(self: FakeDevice, model: object, artifact: object) -> None:
        seen.append(model.get_weights())  # type: ignore[attr-defined]
        compile_model(self, model, artifact)  # type: ignore[arg-type]

    monkeypatch.setattr(FakeDevice, "compile", spy)
    assert hil.latency(model).latency_ms == pytest.approx(fake_latency_ms(network), rel=0.1)
    assert all(np.all(weight > 0) for weight in seen[0]), "an untrained batch normalisation adds 0 and is folded away"
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_a_parsed_network_with_unknown_layers_is_not_measured(hil: HardwareInTheLoop) -> None:
    import keras

    inputs = keras.Input((8, 8, 3))
    parsed = blsm.parse(keras.Model(inputs, keras.layers.GaussianNoise(0.1)(keras.layers.Permute((2, 1, 3))(inputs))))
    with pytest.raises(DomainError, match="only whole networks can be measured"):
        hil.latency(parsed)


def test_what_the_device_refuses(network: list[blsm.BlockConfig]) -> None:
    with pytest.raises(DeviceError, match="refused it"):
        HardwareInTheLoop(FakeDevice(fails=[tuple(network)])).latency(network)


def test_devices_by_name() -> None:
    assert HardwareInTheLoop("edge_cpu").device == "edge_cpu"
    with pytest.raises(UnknownDeviceError, match="did you mean 'edge_cpu'"):
        HardwareInTheLoop("edge_cpuu")


def test_a_hybrid_measures_only_what_is_uncertain(
    fake_model: blsm.LatencyModel, hil: HardwareInTheLoop, network: list[blsm.BlockConfig]
) -> None:
    sure = Hybrid(fake_model, hil, max_relative_width=10.0)
    assert sure.latency(network) == fake_model.latency(network)
    assert hil.measured == 0
    unsure = Hybrid(fake_model, hil, max_relative_width=1e-6)
    measured = unsure.latency(network)
    assert measured.latency_ms >= fake_latency_ms(network)
    assert measured.latency_ms != fake_model.latency(network).latency_ms
    assert hil.measured == 1


def test_a_hybrid_remembers(
    fake_model: blsm.LatencyModel, hil: HardwareInTheLoop, network: list[blsm.BlockConfig]
) -> None:
    hybrid = Hybrid(fake_model, hil, max_relative_width=1e-6)
    first = hybrid.latency(network)
    assert hybrid.latency(blsm.build_network(network)) is first, "the same network as a Keras model"
    assert hil.measured == 1
    hybrid.latency(network[:-1])
    assert hil.measured == 2


def test_a_hybrid_measures_what_the_surrogate_does_not_cover(
    fake_model: blsm.LatencyModel, hil: HardwareInTheLoop, network: list[blsm.BlockConfig]
) -> None:
    partial = replace(fake_model, surrogates={"conv": fake_model.surrogates["conv"]})
    hybrid = Hybrid(partial, hil, max_relative_width=10.0)
    assert hybrid.latency(network).latency_ms == pytest.approx(fake_latency_ms(network), rel=0.1)
    assert hil.measured == 1
    assert hybrid.latencies([network, network[:1]]) == pytest.approx(
        [partial.latency(part, allow_partial=True).latency_ms for part in (network, network[:1])]
    )


def test_models_with_unknown_layers_are_remembered_by_what_they_are(
    fake_model: blsm.LatencyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    def model(rate: float) -> keras.Model:
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(8, 3, name=f"conv_{np.random.default_rng().integers(1 << 30)}")(inputs)
        return keras.Model(inputs, keras.layers.GaussianNoise(rate)(keras.layers.Permute((2, 1, 3))(x)))

    hil = HardwareInTheLoop(FakeDevice())
    monkeypatch.setattr(hil, "latency", lambda network: object())
    hybrid = Hybrid(fake_model, hil)
    first = hybrid.latency(model(0.1))
    assert hybrid.latency(model(0.1)) is first
    assert hybrid.latency(model(0.2)) is not first


def test_surrogate_and_hardware_must_be_of_one_device(fake_model: blsm.LatencyModel) -> None:
    with pytest.raises(FingerprintError, match="latency model is of fake, the hardware is edge_cpu"):
        Hybrid(fake_model, HardwareInTheLoop("edge_cpu"))
    elsewhere = replace(fake_model, fingerprint=Fingerprint({"cpu": "another", "precision": "float32", "threads": 1}))
    with pytest.raises(FingerprintError, match="cpu: 'another' against 'formula'"):
        Hybrid(elsewhere, HardwareInTheLoop(FakeDevice()))
    with pytest.raises(DomainError, match="max_relative_width must be above 0"):
        Hybrid(fake_model, HardwareInTheLoop(FakeDevice()), max_relative_width=0.0)
