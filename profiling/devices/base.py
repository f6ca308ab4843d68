"""What a device is: it compiles a Keras model to an artifact, and opens sessions that time artifacts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

from blsm.profiles import Fingerprint, Visit


@dataclass(frozen=True)
class Protocol:
    """How a chain is timed. Latency is the minimum over all invocations of all visits.

    Attributes:
        visits: how often a chain is visited, interleaved with others.
        invocations: timed invocations of one visit; with `max_visit_s`, the most.
        max_visit_s: a visit ends after this many seconds, or `min_invocations` if these take longer; None for no limit.
        min_invocations: the least number of invocations.
        warmup: invocations before the timed ones.
        timeout_s: a visit that takes longer counts as hung.
    """

    visits: int = 3
    invocations: int = 150
    max_visit_s: float | None = 0.08
    min_invocations: int = 5
    warmup: int = 2
    timeout_s: float = 60.0

    def to_json(self) -> dict[str, Any]:
        """The protocol as JSON data."""
        return asdict(self)


class Session(ABC):
    """Times artifacts one after the other; a context manager that frees the device at its end."""

    @abstractmethod
    def visit(self, artifact: Path, protocol: Protocol) -> Visit:
        """Times one visit.

        Raises:
            DeviceError: the artifact crashed, hung or was refused; the session stays usable.
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
        name: as in `--device NAME`.
        summary: one line for `blsm devices`.
        suffix: of its artifact files.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    suffix: ClassVar[str]

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

    @abstractmethod
    def open(self, core: int | None = None) -> Session:
        """Opens a session; its measuring process runs on CPU `core` alone if one is given and it uses one thread."""
