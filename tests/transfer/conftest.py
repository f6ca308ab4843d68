"""A made-up data set: architectures of six one-hot operations, and devices on which latency is nearly a sum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from blsm._types import Array
from blsm.transfer import DevicePool
from blsm.transfer.encodings import join, one_hot

_LAYERS, _OPERATIONS = 6, 4


@dataclass(frozen=True)
class MadeUp:
    """A pool of known devices, and a new device on the pool's architectures and on others."""

    pool: DevicePool
    new_ms: Array
    queries: Array
    queries_ms: Array


@pytest.fixture(scope="session")
def made_up() -> MadeUp:
    """Six known devices, 120 architectures; the new device is a mixture of the known ones, and something of its own."""
    random = np.random.default_rng(0)
    codes = random.integers(0, _OPERATIONS, (420, _LAYERS))
    vectors = one_hot(codes, _OPERATIONS)
    counts = vectors.reshape(len(codes), _LAYERS, _OPERATIONS).sum(axis=1)
    proxies = np.exp(counts @ random.normal(size=(_OPERATIONS, 3)) + 0.1 * random.normal(size=(len(codes), 3)))
    encodings, groups = join(vec=vectors, physical=counts, zcp=proxies)
    kinds = np.abs(random.normal(size=(2, vectors.shape[1])))  # two kinds of hardware
    shares = random.dirichlet([1.0, 1.0], 7)
    costs = shares @ kinds + 0.05 * np.abs(random.normal(size=(7, vectors.shape[1])))
    latencies_ms = (0.5 + vectors @ costs.T) * random.uniform(0.5, 20, 7)
    known = {f"d{number}": latencies_ms[:120, number] for number in range(6)}
    pool = DevicePool(encodings[:120], known, groups)
    return MadeUp(pool, latencies_ms[:120, 6], encodings[120:], latencies_ms[120:, 6])
