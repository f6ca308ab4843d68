from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import blsm
from blsm.additivity import Additivity, Sums
from blsm.calibration import Calibration, calibrate
from blsm.errors import FitError
from blsm.evaluation import compare_networks
from blsm.fitting import fit_latency_model
from blsm.hypermodels import sample_networks
from blsm.profiles import Chain, ProfileStore
from blsm.testing import FakeDevice, fake_latency_ms, fill_store


def slower_ms(chain: Chain) -> float:
    """A device on which networks are a quarter slower than their blocks say, and each block 2 us more."""
    return 1.25 * fake_latency_ms(chain) + 0.002 * len(chain)


def error(model: blsm.LatencyModel, networks: list[Chain], measured_ms: Callable[[Chain], float] = slower_ms) -> float:
    """Mean absolute relative error."""
    truth = np.array([measured_ms(network) for network in networks])
    return float(np.abs(model.latencies(networks) / truth - 1).mean())


def assert_breakdown_agrees(model: blsm.LatencyModel, network: Chain) -> None:
    """Blocks sum up to the network, as it is predicted among many, and lie in their intervals."""
    estimate = model.latency(network)
    assert estimate.latency_ms == pytest.approx(estimate.dispatch_ms + sum(b.latency_ms for b in estimate.blocks))
    assert estimate.latency_ms == pytest.approx(model.latencies([network])[0])
    assert estimate.low_ms < estimate.latency_ms < estimate.high_ms
    for block in estimate.blocks:
        assert block.low_ms <= block.latency_ms <= block.high_ms


@pytest.fixture(scope="module")
def calibrated(fake_model: blsm.LatencyModel) -> blsm.LatencyModel:
    return calibrate(fake_model, {network: slower_ms(network) for network in sample_networks(20, seed=1)})


def test_calibration_mends_what_networks_have_in_common(
    fake_model: blsm.LatencyModel, calibrated: blsm.LatencyModel
) -> None:
    others = sample_networks(60, seed=2)
    assert error(fake_model, others) > 0.2
    assert error(calibrated, others) < 0.05


def test_latency_breakdown_and_many_at_once_agree(calibrated: blsm.LatencyModel) -> None:
    assert_breakdown_agrees(calibrated, sample_networks(1, seed=4)[0])


def test_a_model_that_is_right_is_left_as_it_is(fake_model: blsm.LatencyModel) -> None:
    networks = sample_networks(12, seed=1)
    exact = dict(zip(networks, fake_model.latencies(networks).tolist(), strict=True))
    calibration = calibrate(fake_model, exact).calibration
    assert calibration is not None
    np.testing.assert_allclose(list(calibration.factors.values()), 1, atol=1e-6)
    assert calibration.each_ms == pytest.approx(0, abs=1e-9)


def test_sums_that_were_corrected_are_calibrated_from_there(fake_model: blsm.LatencyModel) -> None:
    sums = Sums(20, 0.8, 0.9, 0.85, 0.02, 1.0, factor=1.2)
    model = replace(fake_model, additivity=Additivity({"isolated": sums}))
    networks = sample_networks(12, seed=1)
    exact = dict(zip(networks, model.latencies(networks).tolist(), strict=True))
    calibrated = calibrate(model, exact)
    assert calibrated.calibration is not None
    np.testing.assert_allclose(list(calibrated.calibration.factors.values()), 1.2, atol=1e-6)
    np.testing.assert_allclose(calibrated.latencies(networks), list(exact.values()))
    # It takes the place of the factor, whatever that is by then.
    anew = replace(calibrated, additivity=None)
    np.testing.assert_array_equal(anew.latencies(networks), calibrated.latencies(networks))


def test_few_networks_are_trusted_less_than_many(fake_model: blsm.LatencyModel) -> None:
    """Noise without a common part must hardly move the factors."""
    networks = sample_networks(6, seed=1)
    random = np.random.default_rng(0)
    noisy = fake_model.latencies(networks) * random.lognormal(0, 0.1, len(networks))
    calibration = calibrate(fake_model, dict(zip(networks, noisy.tolist(), strict=True))).calibration
    assert calibration is not None
    assert all(0.8 < factor < 1.25 for factor in calibration.factors.values())


def test_noise_hardly_moves_the_factors(fake_model: blsm.LatencyModel) -> None:
    """What networks have in common by chance is shrunk away, most of it."""
    networks = sample_networks(12, seed=1)
    exact_ms = fake_model.latencies(networks)
    moved, common = [], []
    for seed in range(8):
        noise = np.random.default_rng(seed).lognormal(0, 0.1, len(networks))
        calibration = calibrate(fake_model, dict(zip(networks, (exact_ms * noise).tolist(), strict=True))).calibration
        assert calibration is not None
        moved.append(abs(calibration.shared - 1))
        common.append(abs(noise.mean() - 1))
    assert np.mean(moved) < 0.6 * np.mean(common)


def test_intervals_know_what_calibration_left_over(fake_model: blsm.LatencyModel) -> None:
    inside = []
    for seed in (0, 10, 20):
        random = np.random.default_rng(seed)
        networks = sample_networks(140, seed)
        noisy = {network: slower_ms(network) * random.lognormal(0, 0.1) for network in networks}
        model = calibrate(fake_model, {network: noisy[network] for network in networks[:40]})
        inside.append(compare_networks(model, noisy).inside)
    assert 0.8 <= np.mean(np.array(inside, float)) <= 0.97


def test_what_each_block_adds_beyond_must_show(fake_model: blsm.LatencyModel, calibrated: blsm.LatencyModel) -> None:
    assert calibrated.calibration is not None
    assert calibrated.calibration.each_ms == pytest.approx(0.002, rel=0.3)
    random = np.random.default_rng(0)
    noisy = {n: 1.1 * fake_latency_ms(n) * random.lognormal(0, 0.05) for n in sample_networks(20, seed=1)}
    calibration = calibrate(fake_model, noisy).calibration
    assert calibration is not None
    assert calibration.each_ms == 0


def test_calibrating_again_starts_anew(calibrated: blsm.LatencyModel, fake_model: blsm.LatencyModel) -> None:
    measured = {network: slower_ms(network) for network in sample_networks(10, seed=7)}
    assert calibrate(calibrated, measured) == calibrate(fake_model, measured)


def test_networks_that_it_was_calibrated_by_are_not_judged(calibrated: blsm.LatencyModel) -> None:
    measured = {network: slower_ms(network) for network in sample_networks(25, seed=1)}
    assert compare_networks(calibrated, measured).agreement.count == 5


def test_a_bundle_keeps_the_calibration(calibrated: blsm.LatencyModel, tmp_path: Path) -> None:
    blsm.save(calibrated, tmp_path / "c.blsm")
    loaded = blsm.load(tmp_path / "c.blsm")
    assert loaded.calibration == calibrated.calibration
    network = sample_networks(1, seed=4)[0]
    assert loaded.latency(network) == calibrated.latency(network)


def colder_ms(chain: Chain) -> float:
    """A device on which blocks take up to a fifth more, the longer the others of their network take."""
    blocks_ms = np.array([fake_latency_ms([config]) for config in chain])
    others_ms = blocks_ms.sum() - blocks_ms
    return fake_latency_ms(chain) + float((0.2 * blocks_ms * (1 - np.exp(-others_ms / 5))).sum())


@pytest.fixture(scope="module")
def timed_cold(tmp_path_factory: pytest.TempPathFactory) -> blsm.LatencyModel:
    """A model of blocks that were timed with cold caches as well, and then take longer for each parameter."""
    families = ["mbconv", "res_v1", "res_v2", "conv", "head"]
    chains: list[Chain] = [(config,) for name in families for config in blsm.block_family(name).sample(60)]
    with ProfileStore(tmp_path_factory.mktemp("cold") / "p.db", create=True) as store:
        fill_store(store, chains, FakeDevice(weight_ns=20.0))
        return fit_latency_model(store, "fake", regressor="roofline", families=families)


@pytest.fixture(scope="module")
def cold(fake_model: blsm.LatencyModel) -> blsm.LatencyModel:
    return calibrate(fake_model, {network: colder_ms(network) for network in sample_networks(20, seed=1)})


def test_caches_that_long_networks_find_cold_are_learned(
    fake_model: blsm.LatencyModel, cold: blsm.LatencyModel
) -> None:
    assert cold.calibration is not None
    assert cold.calibration.cold == pytest.approx(0.2, rel=0.3)
    others = sample_networks(60, seed=2)
    assert error(cold, others, colder_ms) < error(fake_model, others, colder_ms) / 3
    slower = np.array([colder_ms(network) / fake_latency_ms(network) for network in others])
    slowed = cold.latencies(others) / fake_model.latencies(others)
    np.testing.assert_allclose(slowed, slower, rtol=0.05)
    assert slower.min() < 1.02 < 1.13 < slower.max()


def test_breakdown_and_bundles_know_cold_caches(
    cold: blsm.LatencyModel, timed_cold: blsm.LatencyModel, tmp_path: Path
) -> None:
    network = max(sample_networks(10, seed=4), key=fake_latency_ms)
    for model in (cold, timed_cold):
        blsm.save(model, tmp_path / "cold.blsm")
        loaded = blsm.load(tmp_path / "cold.blsm")
        for one in (model, loaded):
            assert_breakdown_agrees(one, network)
        assert loaded.latency(network) == model.latency(network)


def test_nothing_is_cold_where_networks_are_short_or_no_longer_than_their_blocks_say(
    calibrated: blsm.LatencyModel,
) -> None:
    assert calibrated.calibration is not None
    assert abs(calibrated.calibration.cold) < 0.05


def test_timed_with_cold_caches_a_model_needs_no_calibration_for_them(
    fake_model: blsm.LatencyModel, timed_cold: blsm.LatencyModel
) -> None:
    """And calibration tells how much of it shows."""
    others = sample_networks(40, seed=2)
    for shows, factor in ((1.0, 1.0), (0.5, 1.0), (0.0, 1.1)):

        def measured_ms(chain: Chain, shows: float = shows, factor: float = factor) -> float:
            return factor * (fake_latency_ms(chain) + shows * sum(ms for *_, ms in timed_cold.contributions(chain)))

        calibrated = calibrate(timed_cold, {network: measured_ms(network) for network in sample_networks(20, seed=1)})
        assert calibrated.calibration is not None
        assert calibrated.calibration.cold == pytest.approx(factor * shows, abs=0.1)
        assert error(calibrated, others, measured_ms) < 0.02
        if shows == 1:
            assert error(timed_cold, others, measured_ms) < 0.02 < error(fake_model, others, measured_ms)


def test_families_that_no_network_had_share_the_common_factor() -> None:
    calibration = Calibration({"conv": 1.1}, 1.2, 0.0, 0.0, frozenset(), 1.0)
    blocks = [blsm.block_family(name).sample(1)[0] for name in ("conv", "res_v1")]
    np.testing.assert_allclose(calibration.apply(blocks, np.ones(2)), [1.1, 1.2])
    below = replace(calibration, each_ms=-5.0)
    np.testing.assert_array_equal(below.apply(blocks, np.ones(2)), [0, 0])


def test_too_few_networks_are_refused(fake_model: blsm.LatencyModel) -> None:
    measured = {network: slower_ms(network) for network in sample_networks(4, seed=1)}
    with pytest.raises(FitError, match="4 measured networks are too few to calibrate, 5 are the least"):
        calibrate(fake_model, measured)
