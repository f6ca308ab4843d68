"""What a device is: it compiles a Keras model to an artifact, and opens sessions that time artifacts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from blsm.domains import Domain, Value
from blsm.errors import DomainError
from blsm.network import build_network
from blsm.profiles import AGREEMENT, Chain, Fingerprint, Visit

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Protocol:
    """How a chain is timed. Latency is the minimum over all invocations of all visits.

    A machine has slow spells. Short ones, of the cores that compute, a visit notices and waits for their end; see
    `blsm.profiling.worker.Pulse`. The minimum counts as confirmed once two visits agree on it within `agreement`; until
    then a chain gets further visits, up to twice as many as planned.

    Attributes:
        visits: how often a chain is visited, interleaved with others.
        agreement: relative difference of the two smallest minima that confirms them.
        invocations: timed invocations of one visit; with `max_visit_s`, about so many.
        min_visit_s: with `max_visit_s`, a visit takes at least this many seconds, however many invocations that is: of
            short ones, those that nothing disturbs are rare where threads wake each other.
        max_visit_s: a visit ends after this many seconds, or `min_invocations` if these take longer; None for no limit.
        min_invocations: the least number of invocations.
        warmup: invocations before the timed ones.
        cold_invocations: a visit also times so many invocations that find their data in no cache. Campaigns ask for
            some in the first visits of the first blocks of each family.
        patience_s: a visit waits so long in all for its cores to be fast and its own, seconds; 0 to take them as they
            are.
        timeout_s: a visit that takes longer counts as hung.
    """

    visits: int = 3
    agreement: float = AGREEMENT
    invocations: int = 160
    min_visit_s: float = 0.01
    max_visit_s: float | None = 0.15
    min_invocations: int = 5
    warmup: int = 2
    cold_invocations: int = 0
    patience_s: float = 1.0
    timeout_s: float = 60.0

    @classmethod
    def of_networks(cls) -> Self:
        """The usual one for whole networks, with longer visits.

        The longer an invocation, the rarer those that nothing disturbs: by visits as brief as those of blocks, slow
        networks on `edge_cpu` seemed 1.7 % slower, and did not add up by as much.
        """
        return cls(max_visit_s=0.5)

    def visits_left(self, minima_ns: Sequence[int]) -> int:
        """Visits that a chain still needs.

        Args:
            minima_ns: the minimum of each visit so far.
        """
        made = len(minima_ns)
        if made < self.visits:
            return self.visits - made
        if made == 1 or made >= 2 * self.visits:
            return 0
        best, second = sorted(minima_ns)[:2]
        return 0 if second <= (1 + self.agreement) * best else 1


class Session(ABC):
    """Times artifacts one after the other; a context manager that frees the device at its end.

    Attributes:
        name: what to call it where a device has several.
        transfer_s: time spent so far on moving artifacts and answers, seconds.
    """

    name: str = "session"
    transfer_s: float = 0.0

    @abstractmethod
    def visit(self, artifact: Path, protocol: Protocol) -> Visit:
        """Times one visit.

        Raises:
            DeviceError: the artifact crashed, hung or was refused; the session stays usable.
            HostError: the machine is lost, and the session with it; the artifact is not at fault.
        """

    def close(self) -> None:  # noqa: B027  # most sessions hold nothing
        """Frees the device."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Device(ABC):
    """Target hardware with runtime, precision and threads.

    Attributes:
        key: the name that it is registered under, e.g. `edge_cpu`.
        summary: one line for `blsm devices`.
        suffix: of its artifact files.
        options: name of an option -> its values; `KEY@option=value,...` chooses.
        defaults: option -> value where none is chosen.
        settings: the values of this device's options.

    Args:
        **chosen: values of options.

    Raises:
        DomainError: an option that the device does not have, or a value outside its domain.
    """

    key: ClassVar[str]
    summary: ClassVar[str]
    suffix: ClassVar[str]
    options: ClassVar[Mapping[str, Domain]] = {}
    defaults: ClassVar[Mapping[str, Value]] = {}

    def __init__(self, **chosen: object) -> None:
        self.settings: dict[str, Value] = dict(self.defaults)
        for name, value in chosen.items():
            if name not in self.options:
                has = f"its options are {', '.join(self.options)}" if self.options else "it has no options"
                raise DomainError(f"device {self.key} has no option {name!r}: {has}")
            try:
                self.settings[name] = self.options[name].normalise(value)
            except ValueError:
                allowed = self.options[name]
                raise DomainError(f"device {self.key}: {name} must be one of {allowed}, got {value!r}") from None

    @property
    def name(self) -> str:
        """Its key, and the options that differ from the default: as in `--device NAME`, in stores and in bundles."""
        chosen = [f"{name}={value}" for name, value in self.settings.items() if value != self.defaults.get(name)]
        return "@".join([self.key, ",".join(chosen)]) if chosen else self.key

    @property
    def exclusive(self) -> bool:
        """Whether measuring needs all cores of this machine, so that nothing may be compiled meanwhile."""
        return False

    @property
    def deterministic(self) -> bool:
        """Whether every invocation gives the same latency, so that one visit says all."""
        return False

    @property
    def here(self) -> bool:
        """Whether it times on this machine, so that a core is kept free of compiling."""
        return not self.deterministic

    @property
    def unusable(self) -> Sequence[str]:
        """Why machines could not be used when sessions were opened last, one line each; others took their work."""
        return ()

    @property
    def remote_runner(self) -> tuple[str, Mapping[str, Value]] | None:
        """Runner of `blsm.profiling.worker` that times its artifacts, and the runner's options.

        Another machine can then be this device, through ssh. None where no runner of the worker does it.
        """
        return None

    @abstractmethod
    def missing(self) -> str | None:
        """What to do before this device can be used here, in one line; None when it is usable."""

    @abstractmethod
    def fingerprint(self) -> Fingerprint:
        """The machine and software that measurements are taken with."""

    @abstractmethod
    def compile(self, model: Any, artifact: Path) -> None:
        """Writes a Keras model of batch size 1 as an artifact.

        Raises:
            DeviceError: the model can't be compiled for this device.
        """

    def compile_blocks(self, blocks: Chain, artifact: Path) -> None:
        """Writes a chain of blocks as an artifact; campaigns call this.

        Raises:
            DeviceError: it can't be compiled for this device.
        """
        self.compile(build_with_weights(blocks), artifact)

    @abstractmethod
    def open(self, core: int | None = None) -> Session:
        """Opens a session; its measuring process runs on CPU `core` alone if one is given and it uses one thread."""

    def sessions(self, core: int | None = None) -> Sequence[Session]:
        """Opens all sessions that can be used at once: one, unless the device has several machines."""
        return [self.open(core)]


def build_with_weights(blocks: Chain) -> keras.Model:
    """A Keras model of a chain with seeded random weights, as a trained model has none that are 0.

    An untrained batch normalisation adds 0, which converters fold away, so that less would be measured than deployed.
    """
    model = build_network(blocks)
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.05, 0.15, weight.shape) for weight in model.weights])
    return model
