"""What several commands share: random networks of a latency model's families, measured whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from blsm.cli import common

if TYPE_CHECKING:
    from blsm.latency_model import LatencyModel
    from blsm.profiles import Chain, ProfileStore
    from blsm.profiling import Device

#: Added to the seeds of networks that judge additivity or calibrate: `blsm evaluate` draws others.
STUDY_SEED, CALIBRATION_SEED = 1_000_000, 2_000_000


def of_model(model: LatencyModel, count: int, seed: int) -> list[Chain]:
    """Random networks of a model's families.

    Raises:
        CoverageError: the model lacks the stem, the head, or all families between them.
    """
    from blsm.errors import CoverageError
    from blsm.hypermodels import random_networks, sample_networks

    families = [name for name in random_networks.FAMILIES if name in model.surrogates]
    lacking = [name for name in ("conv", "head") if name not in model.surrogates] + ([] if families else ["mbconv"])
    if lacking:
        names = ",".join(lacking)
        raise CoverageError(
            f"random networks need surrogates for {names}: run `blsm profile --block {names} --device {model.device}` "
            "and fit again"
        )
    return sample_networks(count, seed, families=families)


def measure(
    device: Device, store: ProfileStore, chains: Sequence[Chain], seed: int, description: str
) -> dict[Chain, float]:
    """Measures chains by the protocol of networks, or takes them from the store.

    Returns:
        Chain -> milliseconds, of those that could be measured.

    Raises:
        BlsmError: it was interrupted.
    """
    from blsm.errors import BlsmError
    from blsm.profiles import latencies
    from blsm.profiling import Protocol

    protocol = Protocol.of_networks()
    report = common.run_campaign(device, store, chains, protocol=protocol, seed=seed, description=description)
    if report.stopped == "interrupted":
        raise BlsmError("interrupted; every finished visit is stored, run the same command again to continue")
    measured = latencies(store.profiles(device.name))
    return {chain: measured[chain] for chain in chains if chain in measured}


def check_model(model: LatencyModel, device: Device) -> None:
    """Raises FingerprintError unless a latency model is of this device on this machine."""
    from blsm.evaluation import check_device

    check_device(model, device, f"not of {device.name}: choose it with --device {model.device}")
