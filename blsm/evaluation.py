"""Judging a latency model on measurements that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from blsm._types import Array
from blsm.errors import FingerprintError, FitError
from blsm.latency_model import LatencyModel
from blsm.metrics import Agreement
from blsm.profiles import Chain, ProfileStore, digest, latencies


@dataclass(frozen=True)
class Comparison:
    """Predictions beside measurements, of blocks of one family or of networks.

    Attributes:
        predicted_ms: shape (n,).
        measured_ms: shape (n,).
        inside: share of the measurements within the model's 90 % interval; None for blocks, whose test split is what
            their intervals were made of.
    """

    predicted_ms: Array
    measured_ms: Array
    inside: float | None = None

    @property
    def agreement(self) -> Agreement:
        """The figures."""
        return Agreement.of(self.predicted_ms, self.measured_ms)


def check_fingerprint(model: LatencyModel, store: ProfileStore) -> None:
    """Raises FingerprintError if a store's profiles are of another machine or software than a model's."""
    if different := model.fingerprint.differences(store.fingerprint(model.device)):
        raise FingerprintError(
            f"{store.path} and the latency model are of different machines or software (model against store: "
            f"{'; '.join(different)}); evaluate it with profiles of its own machine"
        )


def compare_blocks(model: LatencyModel, store: ProfileStore) -> dict[str, Comparison]:
    """Each family's held-out blocks: those in the store that the surrogate was not fitted on.

    Raises:
        FingerprintError: model and store are of different machines.
        FitError: the store has no such blocks.
    """
    check_fingerprint(model, store)
    measured = latencies(store.profiles(model.device))
    found = {}
    for family, surrogate in model.surrogates.items():
        held_out = [
            chain
            for chain in measured
            if len(chain) == 1 and chain[0].family == family and digest(chain) not in surrogate.fitted
        ]
        if len(held_out) >= 2:
            predicted_ms = model.predict([chain[0] for chain in held_out])
            found[family] = Comparison(predicted_ms, np.array([measured[chain] for chain in held_out]))
    if not found:
        raise FitError(f"{store.path} holds no blocks beyond those that the latency model was fitted on")
    return found


def compare_networks(model: LatencyModel, measured_ms: Mapping[Chain, float]) -> Comparison:
    """Networks measured whole.

    Args:
        model: predicts them.
        measured_ms: network -> measured latency, milliseconds; at least 2.
    """
    networks: Sequence[Chain] = list(measured_ms)
    estimates = [model.latency(network) for network in networks]
    inside = [e.low_ms <= measured_ms[network] <= e.high_ms for e, network in zip(estimates, networks, strict=True)]
    return Comparison(
        np.array([estimate.latency_ms for estimate in estimates]),
        np.array([measured_ms[network] for network in networks]),
        float(np.mean(inside)),
    )
