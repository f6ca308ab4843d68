"""Transfer of block surrogates between devices that are formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import blsm
from blsm.errors import FingerprintError, FitError, StoreError
from blsm.profiles import DISPATCH_PROBE, Fingerprint, ProfileStore, Visit
from blsm.surrogates import regressor_class
from blsm.transfer import transfer_method
from blsm.transfer.base import Method
from blsm.transfer.blocks import BlockPools, BlockTransfer, Transferred, known_surrogates, learned_together, read_pool

CONFIGS = blsm.block_family("mbconv").sample(120, seed=0)
#: Nanoseconds of an operator, and of a multiply-accumulate.
DEVICES = {"slow": (100.0, 0.01), "fast": (60.0, 0.001), "lean": (10.0, 0.02)}
NEW = (40.0, 0.006)


def _latency_ms(config: blsm.BlockConfig, device: tuple[float, float]) -> float:
    per_operator_ns, per_mac_ns = device
    return (400 + per_operator_ns * len(config.graph().operators) + per_mac_ns * config.macs) / 1e6


def _measured(device: tuple[float, float], configs: list[blsm.BlockConfig]) -> dict[blsm.BlockConfig, float]:
    return {config: _latency_ms(config, device) for config in configs}


def _learn(pools: BlockPools, method: Method) -> BlockTransfer:
    return BlockTransfer.learn(pools, known_surrogates(pools, seed=0), method)


@pytest.fixture(scope="module")
def learned() -> BlockTransfer:
    pool = {name: _measured(device, CONFIGS[:90]) for name, device in DEVICES.items()}
    return _learn({"mbconv": pool}, transfer_method("block_prior")(seed=0))


def test_ten_blocks_make_a_surrogate_of_a_new_device(learned: BlockTransfer) -> None:
    references = learned.references(10)
    assert len(set(references)) == 10
    surrogate = learned.adapt(_measured(NEW, references))["mbconv"]
    unseen = CONFIGS[90:]
    predicted_ms, truth_ms = surrogate.regressor.predict(unseen), np.array(list(_measured(NEW, unseen).values()))
    assert np.mean(np.abs(predicted_ms / truth_ms - 1) <= 0.1) > 0.8
    assert surrogate.metrics["count"] == 10
    assert len(surrogate.fitted) == 10
    assert surrogate.regressor.errs_alike


def test_intervals_are_those_of_the_blocks_not_of_the_samples() -> None:
    # Devices with a tenth of noise: what is measured of one because it tells most is predicted worst from the rest.
    pool = {name: _measured(device, CONFIGS[:90]) for name, device in DEVICES.items()}
    noises = np.exp(0.1 * np.random.default_rng(0).normal(size=(6, len(CONFIGS))))
    truth_ms = np.array(list(_measured(NEW, CONFIGS).values()))
    margins = {}
    for name in ("block_prior", "from_scratch"):
        learned = _learn({"mbconv": pool}, transfer_method(name)(seed=0))
        samples = learned.references(10)
        margins[name], inside = [], []
        for noisy_ms in truth_ms * noises:
            measured = dict(zip(CONFIGS, noisy_ms.tolist(), strict=True))
            surrogate = learned.adapt({config: measured[config] for config in samples})["mbconv"]
            margins[name].append(surrogate.margin(0.9, in_domain=True))
            inside.append(np.abs(np.log(surrogate.regressor.predict(CONFIGS) / noisy_ms)) <= margins[name][-1])
        others = [config not in samples for config in CONFIGS]
        assert np.mean(np.array(inside)[:, others]) >= 0.85
    assert np.mean(margins["block_prior"]) < np.mean(margins["from_scratch"])


def test_families_learned_together_know_more_of_the_new_device() -> None:
    # Four blocks of each family: what a multiply-accumulate takes is known from eight.
    configs = {"mbconv": CONFIGS[:60], "res_v1": blsm.block_family("res_v1").sample(60, seed=0)}
    pools = {
        family: {name: _measured(device, members[:40]) for name, device in DEVICES.items()}
        for family, members in configs.items()
    }
    together = _learn(pools, transfer_method("block_prior")(seed=0))
    samples = together.references(4)
    assert [config.family for config in samples] == 4 * ["mbconv"] + 4 * ["res_v1"]
    surrogates = together.adapt(_measured(NEW, samples))
    assert surrogates.keys() == configs.keys()
    for family, members in configs.items():
        truth_ms = np.array(list(_measured(NEW, members[40:]).values()))
        error = np.abs(surrogates[family].regressor.predict(members[40:]) / truth_ms - 1)
        assert np.median(error) < 0.1
        assert surrogates[family].metrics["count"] == 4


def test_families_on_the_same_devices_are_learned_together_if_a_method_can() -> None:
    blocks = _measured(NEW, CONFIGS[:1])
    pools = {"mbconv": {"a": blocks, "b": blocks}, "res_v1": {"b": blocks, "a": blocks}, "conv": {"a": blocks}}
    block_prior, maple = (
        [list(found) for found in learned_together(pools, transfer_method(name))] for name in ("block_prior", "maple")
    )
    assert block_prior == [["mbconv", "res_v1"], ["conv"]]
    assert maple == [["mbconv"], ["res_v1"], ["conv"]]


def test_a_transferred_surrogate_survives_files(learned: BlockTransfer) -> None:
    regressor = learned.adapt(_measured(NEW, learned.references(6)))["mbconv"].regressor
    again = regressor_class("transferred").from_files(regressor.to_files())
    np.testing.assert_array_equal(again.predict(CONFIGS), regressor.predict(CONFIGS))


def test_a_transferred_surrogate_survives_a_bundle(learned: BlockTransfer, tmp_path: Path) -> None:
    surrogates = learned.adapt(_measured(NEW, learned.references(10)))
    model = blsm.LatencyModel("new", Fingerprint({"cpu": "formula"}), surrogates, 4e-4)
    blsm.save(model, tmp_path / "new.blsm")
    loaded = blsm.load(tmp_path / "new.blsm")
    assert loaded.latency(CONFIGS[:1]) == model.latency(CONFIGS[:1])
    estimate = loaded.latency(CONFIGS[:1])
    assert estimate.low_ms < estimate.latency_ms < estimate.high_ms


def test_too_few_measured_blocks_are_refused(learned: BlockTransfer) -> None:
    with pytest.raises(FitError, match="at least 4 measured mbconv blocks of the new device, got 3.*--samples"):
        learned.adapt(_measured(NEW, CONFIGS[:3]))
    learned.adapt(_measured(NEW, CONFIGS[:4]))


def test_it_is_no_regressor_to_fit() -> None:
    latency_ms = np.ones(5)
    with pytest.raises(FitError, match="made by `blsm transfer`"):
        Transferred().fit(CONFIGS[:5], latency_ms, CONFIGS[5:10], latency_ms, 0)


def _store(
    path: Path, devices: dict[str, tuple[float, float]], configs: list[blsm.BlockConfig], cpu: str = "a"
) -> Path:
    with ProfileStore(path, create=True) as store:
        for name, device in devices.items():
            store.register_device(name, Fingerprint({"cpu": cpu}))
            for chain in [DISPATCH_PROBE, *((config,) for config in configs)]:
                sample_ns = round(1e6 * _latency_ms(chain[0], device))
                store.add_visit(name, chain, Visit.from_samples([sample_ns], started_s=0.0))
    return path


def test_a_pool_is_read_from_several_stores_without_the_new_device(tmp_path: Path) -> None:
    one = _store(tmp_path / "one.db", {"slow": DEVICES["slow"], "new": NEW}, CONFIGS[:40])
    two = _store(tmp_path / "two.db", {"fast": DEVICES["fast"]}, CONFIGS[:35])
    pools = read_pool([one, two], without="new")
    assert pools.keys() == {"mbconv"}
    assert {device: len(blocks) for device, blocks in pools["mbconv"].items()} == {"slow": 40, "fast": 35}


def test_pools_that_say_too_little_are_refused(tmp_path: Path) -> None:
    one = _store(tmp_path / "one.db", {"slow": DEVICES["slow"]}, CONFIGS[:40])
    few = _store(tmp_path / "few.db", {"fast": DEVICES["fast"]}, CONFIGS[:20])
    with pytest.raises(FitError, match="at least 2 devices other than the new one, it has slow, fast"):
        read_pool([one, few])
    with pytest.raises(StoreError, match="no profile store"):
        read_pool([tmp_path / "missing.db"])


def test_a_pool_whose_fingerprints_clash_is_refused(tmp_path: Path) -> None:
    one = _store(tmp_path / "one.db", {"slow": DEVICES["slow"]}, CONFIGS[:3])
    two = _store(tmp_path / "two.db", {"slow": DEVICES["slow"]}, CONFIGS[:3], cpu="b")
    with pytest.raises(FingerprintError, match="slow from different machines or software .*cpu: 'b' against 'a'"):
        read_pool([one, two])


def test_devices_measured_on_disjoint_blocks_are_refused() -> None:
    pool = {"slow": _measured(DEVICES["slow"], CONFIGS[:40]), "fast": _measured(DEVICES["fast"], CONFIGS[40:80])}
    with pytest.raises(FitError, match="slow and fast have 0 architectures in common"):
        _learn({"mbconv": pool}, transfer_method("block_prior")(seed=0))
