from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import blsm
from blsm.errors import CoverageError, DomainError
from blsm.hypermodels import sample_networks
from blsm.testing import fake_latency_ms


def test_a_network_is_dispatch_plus_what_its_blocks_add(
    fake_model: blsm.LatencyModel, network: list[blsm.BlockConfig]
) -> None:
    estimate = fake_model.latency(network)
    isolated_ms = fake_model.predict(network)
    assert estimate.dispatch_ms == fake_model.dispatch_ms > 0
    assert estimate.latency_ms == pytest.approx(estimate.dispatch_ms + sum(isolated_ms - estimate.dispatch_ms))
    assert estimate.latency_ms == pytest.approx(estimate.dispatch_ms + sum(b.latency_ms for b in estimate.blocks))
    assert [block.config for block in estimate.blocks] == network
    assert estimate.low_ms < estimate.latency_ms < estimate.high_ms


def test_sums_of_blocks_are_near_the_truth(fake_model: blsm.LatencyModel) -> None:
    networks = sample_networks(30, seed=9)
    predicted = fake_model.latencies(networks)
    truth = np.array([fake_latency_ms(network) for network in networks])
    assert np.median(np.abs(predicted / truth - 1)) < 0.05


def test_all_ways_to_give_a_network_agree(fake_model: blsm.LatencyModel, network: list[blsm.BlockConfig]) -> None:
    model = blsm.build_network(network)
    expected = fake_model.latency(network)
    assert fake_model.latency(model) == expected
    assert fake_model.latency(blsm.parse(model)) == expected
    np.testing.assert_allclose(fake_model.latencies([network, network[:1]])[0], expected.latency_ms)


def test_predictions_keep_the_order_of_mixed_families(fake_model: blsm.LatencyModel) -> None:
    configs = [blsm.block_family(name).sample(3, seed=1)[2] for name in ("head", "conv", "head", "mbconv")]
    together = fake_model.predict(configs)
    np.testing.assert_array_equal(together, [fake_model.predict([config])[0] for config in configs])


def test_nothing_costs_zero_in_silence(fake_model: blsm.LatencyModel, network: list[blsm.BlockConfig]) -> None:
    import keras

    odd = keras.Sequential([keras.layers.Input((16, 16, 3)), keras.layers.MaxPooling2D(name="shrink")])
    with pytest.raises(CoverageError, match=r"shrink \(pool\) \(coverage 0%\)"):
        fake_model.latency(odd)
    rescaled = [blsm.block_family("rescale").config(height=16, width=16, in_channels=3, mode="scale"), *network]
    with pytest.raises(
        CoverageError, match="no surrogate for rescale; profile them with `blsm profile --block rescale"
    ):
        fake_model.latency(rescaled)
    partial = fake_model.latency(rescaled, allow_partial=True)
    assert 0.9 < partial.coverage < 1
    assert partial.latency_ms == fake_model.latency(network).latency_ms


def test_blocks_outside_the_profiled_domain_are_flagged_and_less_certain(fake_model: blsm.LatencyModel) -> None:
    family = blsm.block_family("conv")
    values = {"in_channels": 8, "filters": 16, "kernel_size": 3, "strides": 1}
    inside = fake_model.latency([family.config(height=16, width=16, **values)])
    wide = fake_model.latency([family.config(height=16, width=8, **values)])
    large = fake_model.latency([family.config(height=64, width=64, **values)])
    assert inside.extrapolated == ()
    for estimate in (wide, large):
        assert estimate.extrapolated == estimate.blocks
        relative = (estimate.high_ms - estimate.low_ms) / estimate.latency_ms
        assert relative > 1.5 * (inside.high_ms - inside.low_ms) / inside.latency_ms


def test_empty_networks_and_strangers_are_refused(fake_model: blsm.LatencyModel) -> None:
    with pytest.raises(DomainError, match="at least one block"):
        fake_model.latency([])
    with pytest.raises(DomainError, match="at least one block"):
        fake_model.latencies([[]])
    with pytest.raises(DomainError, match="got a str"):
        fake_model.latency(["conv"])  # type: ignore[list-item]


def test_predicting_from_configs_imports_neither_keras_nor_tensorflow(fake_bundle: Path) -> None:
    code = (
        "import sys, blsm\n"
        f"model = blsm.load({str(fake_bundle)!r})\n"
        "model.latency(blsm.block_family('conv').sample(1))\n"
        "assert not {'keras', 'tensorflow'} & set(sys.modules), 'heavy import'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
