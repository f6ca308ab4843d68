"""Shared by all tests: quiet TensorFlow, small stores and models made once."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("GLOG_minloglevel", "3")

from itertools import pairwise
from pathlib import Path

import hypothesis
import numpy as np
import pytest

import blsm
from blsm.fitting import fit_latency_model
from blsm.hypermodels import sample_networks
from blsm.profiles import ProfileStore
from blsm.surrogates.joined import JoinedSurrogate
from blsm.testing import fake_latency_ms, fill_store

# The same examples every time, and no opinion on how fast the machine is.
hypothesis.settings.register_profile(
    "blsm", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("blsm")

FAMILIES = ("mbconv", "res_v1", "res_v2", "conv", "head")


@pytest.fixture(scope="session")
def fake_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 120 exact profiles of each family and 20 networks, on the fake device."""
    path = tmp_path_factory.mktemp("store") / "profiles.db"
    chains = [(config,) for name in FAMILIES for config in blsm.block_family(name).sample(120, seed=0)]
    with ProfileStore(path, create=True) as store:
        fill_store(store, [*chains, *sample_networks(20, seed=0)])
    return path


@pytest.fixture(scope="session")
def fake_model(fake_store: Path) -> blsm.LatencyModel:
    """The latency model fitted on `fake_store`."""
    with ProfileStore(fake_store) as store:
        return fit_latency_model(store, "fake")


@pytest.fixture(scope="session")
def joined() -> dict[str, JoinedSurrogate]:
    """A device where every mbconv adds twice its isolated latency where it follows another block."""
    pairs = [pair for network in sample_networks(20, seed=1, families=["mbconv"]) for pair in pairwise(network)]
    pairs = [pair for pair in pairs if pair[1].family == "mbconv"]
    isolated_ms = np.array([fake_latency_ms([after]) for _, after in pairs])
    return {"mbconv": JoinedSurrogate.fit(pairs, 2 * isolated_ms, isolated_ms, seed=0)}


@pytest.fixture(scope="session")
def fake_bundle(fake_model: blsm.LatencyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`fake_model` as a bundle."""
    path = tmp_path_factory.mktemp("bundle") / "fake.blsm"
    blsm.save(fake_model, path)
    return path


def small_network() -> list[blsm.BlockConfig]:
    """A network of a stem, two blocks and a head."""
    image = {"height": 16, "width": 16}
    return [
        blsm.block_family("conv").config(**image, in_channels=3, filters=8, kernel_size=3, strides=1),
        blsm.block_family("mbconv").config(
            **image, in_channels=8, filters=8, kernel_size=3, strides=1, expand_ratio=2, se_ratio=0.25
        ),
        blsm.block_family("res_v1").config(**image, in_channels=8, filters=16, kernel_size=3, strides=2),
        blsm.block_family("head").config(height=8, width=8, in_channels=16, units=10),
    ]


@pytest.fixture
def network() -> list[blsm.BlockConfig]:
    """A network of a stem, two blocks and a head."""
    return small_network()


@pytest.fixture(scope="session")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_network` as a saved Keras model."""
    path = tmp_path_factory.mktemp("keras") / "network.keras"
    blsm.build_network(small_network()).save(path)
    return path
