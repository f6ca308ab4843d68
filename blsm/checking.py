"""Are the profiles of a store to be trusted? Failures, minima without a second witness, and drift of the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blsm.profiles import Profile, ProfileStore, Visit

#: Drift of more than this says that the device itself changed.
DRIFTING = 0.10
#: Shares of unconfirmed profiles above which a store as a whole is called unstable.
_UNCONFIRMED = 0.02


@dataclass(frozen=True)
class StoreCheck:
    """The state of one device's profiles.

    Attributes:
        device: name of the device.
        measured: profiles with at least one visit.
        failed: profiles that can't be measured, with their reasons.
        unconfirmed: profiles whose two smallest visits disagree, or that have one visit only; worst first.
        sentinel: visits of the sentinel block, in order of time.
    """

    device: str
    measured: tuple[Profile, ...]
    failed: tuple[Profile, ...]
    unconfirmed: tuple[Profile, ...]
    sentinel: tuple[Visit, ...]

    @property
    def drift(self) -> float:
        """See `drift_of`."""
        return drift_of(self.sentinel)

    @property
    def verdict(self) -> str:
        """`good`, or what is wrong, in a word or two."""
        found = []
        if len(self.unconfirmed) > _UNCONFIRMED * max(1, len(self.measured)):
            found.append("unstable")
        if self.drift > DRIFTING:
            found.append("drifting")
        if self.failed:
            found.append("has failures")
        return ", ".join(found) or "good"


def drift_of(sentinel: Sequence[Visit]) -> float:
    """How much slower than its best the sentinel was at the 95th percentile of its visits, relative; 0 for none."""
    if not sentinel:
        return 0.0
    minima = np.array([visit.minimum_ns for visit in sentinel])
    return float(np.quantile(minima, 0.95) / minima.min() - 1)


def check_store(store: ProfileStore) -> list[StoreCheck]:
    """Checks each device of a store."""
    checks = []
    for device in store.devices():
        profiles = store.profiles(device)
        measured = tuple(profile for profile in profiles if profile.visits and not profile.failure)
        unconfirmed = sorted((p for p in measured if not p.confirmed), key=lambda p: -p.disagreement)
        failed = tuple(profile for profile in profiles if profile.failure)
        sentinel = tuple(store.sentinel_visits(device))
        checks.append(StoreCheck(device, measured, failed, tuple(unconfirmed), sentinel))
    return checks
