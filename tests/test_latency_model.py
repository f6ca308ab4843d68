from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import blsm
from blsm.additivity import Additivity, Sums
from blsm.errors import CoverageError, DomainError
from blsm.hypermodels import sample_networks
from blsm.intervals import conformal_quantile
from blsm.surrogates.joined import JoinedSurrogate
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


def test_sums_are_corrected_by_what_those_of_measured_blocks_lack(fake_model: blsm.LatencyModel) -> None:
    sums = Sums(20, 0.9, 1.0, 0.95, 0.02, 1.0, factor=1.05)
    model = dataclasses.replace(fake_model, additivity=Additivity({"isolated": sums}))
    networks = sample_networks(5, seed=9)
    inner_ms = fake_model.latencies(networks) - fake_model.dispatch_ms
    np.testing.assert_allclose(model.latencies(networks), fake_model.dispatch_ms + 1.05 * inner_ms)
    for network, latency_ms in zip(networks, model.latencies(networks).tolist(), strict=True):
        estimate = model.latency(network)
        assert estimate.latency_ms == pytest.approx(latency_ms)
        assert estimate.dispatch_ms + sum(b.latency_ms for b in estimate.blocks) == pytest.approx(latency_ms)
    # Blocks alone are what they are, and where pairs are recommended, isolated blocks stray in more than one way.
    np.testing.assert_array_equal(model.predict(networks[0]), fake_model.predict(networks[0]))
    strays = dataclasses.replace(sums, deviation=0.2)
    against = dataclasses.replace(fake_model, additivity=Additivity({"isolated": strays, "chain": sums}))
    np.testing.assert_allclose(against.latencies(networks), fake_model.latencies(networks))


def test_errors_that_go_together_do_not_cancel_out(
    fake_model: blsm.LatencyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = blsm.block_family("mbconv").sample(1, seed=0)[0]
    # Far from the sum of its blocks no network strays here: their own errors decide.
    sure = dataclasses.replace(fake_model, additivity=Additivity({"isolated": Sums(20, 1.0, 1.0, 1.0, 0.0, 1.0)}))
    wide = {name: dataclasses.replace(surrogate, scores=(0.1, 0.2, 0.3)) for name, surrogate in sure.surrogates.items()}
    apart, alike = (dataclasses.replace(sure, surrogates=wide) for _ in range(2))
    alone = apart.deviation([block])
    assert apart.deviation(16 * [block]) < 0.5 * alone
    monkeypatch.setattr(type(wide["mbconv"].regressor), "errs_alike", True)
    assert alike.deviation(16 * [block]) == pytest.approx(alone, rel=0.1)


def test_joined_blocks_add_what_their_surrogate_says(
    fake_model: blsm.LatencyModel, joined: dict[str, JoinedSurrogate]
) -> None:
    # Both new: which blocks are predicted together moves the last bit, and a model remembers what it has predicted.
    isolated, model = dataclasses.replace(fake_model), dataclasses.replace(fake_model, joined=joined)
    assert (model.context, isolated.context) == ("chain", "isolated")
    for network in sample_networks(10, seed=9, families=["mbconv"]):
        estimate, alone = model.latency(network), isolated.latency(network)
        assert estimate.latency_ms == pytest.approx(estimate.dispatch_ms + sum(b.latency_ms for b in estimate.blocks))
        assert estimate.latency_ms == pytest.approx(model.latencies([network, network])[1])
        assert estimate.low_ms < estimate.latency_ms < estimate.high_ms
        # Stem and head have no such surrogate.
        assert [estimate.blocks[place].latency_ms for place in (0, -1)] == [
            alone.blocks[place].latency_ms for place in (0, -1)
        ]
        middle = list(zip(estimate.blocks, alone.blocks, strict=True))[1:-1]
        assert all(together.low_ms < together.latency_ms < together.high_ms for together, _ in middle)
        ratios = [together.latency_ms / (by_itself.latency_ms + 4e-4) for together, by_itself in middle]
        assert np.median(ratios) == pytest.approx(2, rel=0.1)


def test_many_networks_in_chains_take_what_each_takes_alone(
    fake_model: blsm.LatencyModel, joined: dict[str, JoinedSurrogate]
) -> None:
    model = dataclasses.replace(fake_model, joined=joined)
    networks = sample_networks(6, seed=9, families=["mbconv"])
    # The same blocks begin a network, follow another block, and follow it in a second network.
    networks += [networks[0][1:], networks[0][2:4], networks[1]]
    alone = [model.latency(network).latency_ms for network in networks]
    np.testing.assert_allclose(model.latencies(networks), alone)
    assert len(set(np.round(alone, 9))) == len(networks) - 1


def test_blocks_that_were_prepared_are_not_looked_at_again(
    fake_model: blsm.LatencyModel, joined: dict[str, JoinedSurrogate], monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = sample_networks(20, seed=11, families=["mbconv"])
    expected = dataclasses.replace(fake_model, joined=joined).latencies(networks)
    model = dataclasses.replace(fake_model, joined=joined)
    model.prepare(list(dict.fromkeys(config for network in networks for config in network)))
    # Nothing looks at the operators of a block any more.
    monkeypatch.setattr("blsm.features.trace", None)
    monkeypatch.setattr(blsm.BlockConfig, "graph", None)
    np.testing.assert_allclose(model.latencies(networks), expected)


def test_only_a_block_that_reads_the_one_before_it_is_joined(
    fake_model: blsm.LatencyModel, joined: dict[str, JoinedSurrogate]
) -> None:
    model = dataclasses.replace(fake_model, joined=joined)
    block = next(b for b in sample_networks(1, seed=9, families=["mbconv"])[0][1:] if b.output_shape != b.input_shape)
    expected_ms = fake_model.latency([block, block]).latency_ms
    assert model.latency([block, block]).latency_ms == pytest.approx(expected_ms)
    assert model.latencies([[block, block]])[0] == pytest.approx(expected_ms)


def test_less_certain_joined_blocks_make_a_network_less_certain(
    fake_model: blsm.LatencyModel, joined: dict[str, JoinedSurrogate]
) -> None:
    network = sample_networks(1, seed=9, families=["mbconv"])[0]
    unsure = {"mbconv": dataclasses.replace(joined["mbconv"], deviation=0.5)}
    sure, other = (dataclasses.replace(fake_model, joined=surrogates) for surrogates in (joined, unsure))
    assert other.deviation(network) > 2 * sure.deviation(network)


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


def test_intervals_have_the_level_that_was_asked_for(
    fake_model: blsm.LatencyModel, network: list[blsm.BlockConfig]
) -> None:
    narrow, usual, wide = (fake_model.latency(network, interval=level) for level in (0.5, 0.9, 0.94))
    assert usual == fake_model.latency(network)
    assert narrow.latency_ms == usual.latency_ms == wide.latency_ms
    assert wide.low_ms < usual.low_ms < narrow.low_ms < usual.latency_ms < narrow.high_ms < usual.high_ms < wide.high_ms
    block = usual.blocks[1]
    predicted_ms = fake_model.predict([block.config])[0]
    margin = conformal_quantile(fake_model.surrogates["mbconv"].scores, 0.9)
    assert block.high_ms + usual.dispatch_ms == pytest.approx(predicted_ms * math.exp(margin))
    assert block.low_ms + usual.dispatch_ms == pytest.approx(predicted_ms / math.exp(margin))
    with pytest.raises(DomainError, match="above 0 and below 1"):
        fake_model.latency(network, interval=90)


def test_a_level_that_the_test_split_is_too_small_for_gets_a_wider_interval(fake_model: blsm.LatencyModel) -> None:
    surrogate = fake_model.surrogates["conv"]
    assert conformal_quantile(surrogate.scores, 0.99) == math.inf
    assert max(surrogate.scores) < surrogate.margin(0.99, in_domain=True) < math.inf
    assert surrogate.margin(0.9, in_domain=True) < surrogate.margin(0.9, in_domain=False)


def test_measured_networks_set_the_width_of_network_intervals(fake_model: blsm.LatencyModel) -> None:
    networks = sample_networks(120, seed=5)
    rng = np.random.default_rng(0)
    # A device whose networks stray from the sum of their blocks, which no block tells of.
    measured_ms = [fake_latency_ms(network) * math.exp(0.1 * rng.standard_normal()) for network in networks]
    scores = map(fake_model.network_score, networks[:60], measured_ms[:60])
    calibrated = dataclasses.replace(fake_model, network_scores=tuple(scores))

    def inside(model: blsm.LatencyModel) -> float:
        found = [model.latency(network) for network in networks[60:]]
        return float(np.mean([e.low_ms <= ms <= e.high_ms for e, ms in zip(found, measured_ms[60:], strict=True)]))

    assert inside(fake_model) < 0.8 < inside(calibrated)
    assert calibrated.latency(networks[0]).latency_ms == fake_model.latency(networks[0]).latency_ms


def test_twenty_lucky_networks_do_not_make_intervals_much_narrower(fake_model: blsm.LatencyModel) -> None:
    (network,) = sample_networks(1, seed=5)

    def width(scores: tuple[float, ...]) -> float:
        estimate = dataclasses.replace(fake_model, network_scores=scores).latency(network)
        return math.log(estimate.high_ms / estimate.latency_ms)

    assert 0.6 * width(()) < width((0.1,) * 20) < width(())
    assert width((0.1,) * 500) < 0.2 * width(())
    # Never narrower than conformal intervals.
    assert width((3.0,) * 20) == pytest.approx(3.0 * fake_model.deviation(network))


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


def test_networks_that_added_up_exactly_make_no_interval_narrower_than_what_was_seen(
    fake_model: blsm.LatencyModel, network: list[blsm.BlockConfig]
) -> None:
    def width(deviation: float) -> float:
        sums = Sums(networks=20, low=0.9, high=1.1, median=1.0, deviation=deviation, spearman=1.0)
        estimate = dataclasses.replace(fake_model, additivity=Additivity({"isolated": sums})).latency(network)
        return estimate.high_ms / estimate.latency_ms

    assert width(0.0) == width(0.01)
    assert width(0.0) > 1.016
    assert width(0.05) > width(0.0)
