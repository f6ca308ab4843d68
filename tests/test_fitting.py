from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import blsm
from blsm.errors import FitError, StoreError, UnknownRegressorError
from blsm.evaluation import compare_blocks, compare_networks
from blsm.fitting import fit_latency_model, split
from blsm.profiles import Fingerprint, ProfileStore, Visit, digest, latencies
from blsm.testing import FakeDevice, fill_store


def test_a_split_is_seeded_disjoint_and_complete() -> None:
    parts = split(1000, seed=0)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [700, 150, 150]
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test])) == list(range(1000))
    assert split(1000, seed=0).test.tolist() == parts.test.tolist() != split(1000, seed=1).test.tolist()


def test_figures_come_from_blocks_that_were_not_fitted(fake_store: Path, fake_model: blsm.LatencyModel) -> None:
    with ProfileStore(fake_store) as store:
        comparisons = compare_blocks(fake_model, store)
        blocks = [p.blocks for p in store.profiles("fake") if len(p.blocks) == 1 and p.blocks[0].family == "mbconv"]
    surrogate = fake_model.surrogates["mbconv"]
    held_out = [chain for chain in blocks if digest(chain) not in surrogate.fitted]
    assert len(held_out) == comparisons["mbconv"].agreement.count == 18
    assert len(surrogate.fitted) == 102
    assert comparisons["mbconv"].agreement.to_json() == pytest.approx(surrogate.metrics)


def test_networks_measured_whole_are_compared_with_their_intervals(
    fake_store: Path, fake_model: blsm.LatencyModel
) -> None:
    with ProfileStore(fake_store) as store:
        networks = {c: ms for c, ms in latencies(store.profiles("fake")).items() if len(c) > 1}
    comparison = compare_networks(fake_model, networks)
    assert comparison.agreement.count == 20
    assert comparison.agreement.mape < 5
    assert comparison.inside is not None
    assert comparison.inside >= 0.8
    halved = compare_networks(fake_model, {chain: ms / 2 for chain, ms in networks.items()})
    assert halved.inside == 0
    assert halved.agreement.bias == pytest.approx(2 * comparison.agreement.bias)


def test_a_store_of_another_machine_is_refused(fake_model: blsm.LatencyModel, tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        fill_store(store, [(c,) for c in blsm.block_family("conv").sample(40)], FakeDevice(cpu="other"))
        with pytest.raises(ValueError, match="'formula' against 'other'"):
            compare_blocks(fake_model, store)


def test_too_few_profiles_name_the_command_that_gets_more(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        with pytest.raises(StoreError, match="it holds no profiles yet"):
            fit_latency_model(store, "fake")
        fill_store(store, [(c,) for c in blsm.block_family("conv").sample(20)])
        with pytest.raises(FitError, match=r"20 profiles of conv on fake are too few.*blsm profile --block conv"):
            fit_latency_model(store, "fake")
        with pytest.raises(FitError, match="0 profiles of mbconv"):
            fit_latency_model(store, "fake", families=["mbconv"])
        with pytest.raises(UnknownRegressorError):
            fit_latency_model(store, "fake", regressor="trees")


def test_without_the_dispatch_cost_there_is_no_model(tmp_path: Path) -> None:
    with ProfileStore(tmp_path / "p.db", create=True) as store:
        store.register_device("fake", Fingerprint({"cpu": "A"}))
        for config in blsm.block_family("conv").sample(40):
            store.add_visit("fake", (config,), Visit.from_samples([1000]))
        with pytest.raises(FitError, match="dispatch cost"):
            fit_latency_model(store, "fake")
