"""Judging a latency model on measurements that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from blsm._types import Array
from blsm.additivity import block_latencies
from blsm.errors import FingerprintError, FitError
from blsm.latency_model import LatencyModel
from blsm.metrics import Agreement
from blsm.profiles import Chain, ProfileStore, digest, latencies

if TYPE_CHECKING:
    from blsm.profiling import Device


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


def check_device(model: LatencyModel, device: Device, otherwise: str) -> None:
    """Raises FingerprintError unless a model is of this device on this machine.

    Args:
        model: the latency model.
        device: what measures beside it.
        otherwise: ends the sentence that says of which device the model is, where it is another one.
    """
    if model.device != device.name:
        raise FingerprintError(f"the latency model is of {model.device}, {otherwise}")
    if different := model.fingerprint.differences(device.fingerprint()):
        raise FingerprintError(
            f"the latency model of {model.device} is of another machine or software (model against this one: "
            f"{'; '.join(different)}); measure on its own machine, or profile this one and fit again"
        )


def compare_blocks(model: LatencyModel, store: ProfileStore) -> dict[str, Comparison]:
    """Each family's held-out blocks: those in the store that the surrogate was not fitted on.

    Raises:
        FingerprintError: model and store are of different machines.
        FitError: the store has no such blocks.
    """
    check_fingerprint(model, store)
    measured = latencies(store.profiles(model.device))
    blocks_ms = block_latencies(measured)
    found = {}
    for family, surrogate in model.surrogates.items():
        held_out = [
            config for config in blocks_ms if config.family == family and digest((config,)) not in surrogate.fitted
        ]
        if len(held_out) >= 2:
            measured_ms = np.array([blocks_ms[config] for config in held_out])
            found[family] = Comparison(model.predict(held_out), measured_ms)
    if not found:
        raise FitError(f"{store.path} holds no blocks beyond those that the latency model was fitted on")
    return found


def compare_networks(model: LatencyModel, measured_ms: Mapping[Chain, float]) -> Comparison:
    """Networks measured whole; those that the model was calibrated by are left out.

    Args:
        model: predicts them.
        measured_ms: network -> measured latency, milliseconds; at least 2.
    """
    known = frozenset() if model.calibration is None else model.calibration.networks
    networks: Sequence[Chain] = [network for network in measured_ms if digest(network) not in known]
    estimates = [model.latency(network) for network in networks]
    inside = [e.low_ms <= measured_ms[network] <= e.high_ms for e, network in zip(estimates, networks, strict=True)]
    return Comparison(
        np.array([estimate.latency_ms for estimate in estimates]),
        np.array([measured_ms[network] for network in networks]),
        float(np.mean(inside)),
    )
