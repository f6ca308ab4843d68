"""What a transfer method is: it learns from a pool of known devices, then a new device from few measurements."""

from __future__ import annotations

import io
import json
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from blsm._types import Array
from blsm.errors import DomainError, FileError, FitError
from blsm.files import write_atomically
from blsm.transfer.pool import DevicePool, check_encodings, check_latencies

_KIND = "kind.json"


class Stored(ABC):
    """Something fitted that is saved as files of plain data."""

    name: ClassVar[str]

    @abstractmethod
    def to_files(self) -> dict[str, bytes]:
        """The fitted state as named files of plain data."""

    @classmethod
    @abstractmethod
    def from_files(cls, files: Mapping[str, bytes]) -> Self:
        """Inverse of `to_files`; raises KeyError, ValueError or TypeError for anything else."""

    def save(self, path: str | Path) -> None:
        """Writes it as one file (a zip of plain data), atomically.

        Raises:
            FileError: the file can't be written.
        """
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in {_KIND: json.dumps([self.kind(), self.name]).encode(), **self.to_files()}.items():
                archive.writestr(zipfile.ZipInfo(name), content)
        write_atomically(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what `save` wrote. Executes nothing from it.

        Raises:
            FileError: the file is missing, damaged or holds something else.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                files = {name: archive.read(name) for name in archive.namelist()}
            found = json.loads(files.pop(_KIND))
            if found != [cls.kind(), cls.name]:
                raise FileError(f"{path} holds the {found[0]} {found[1]}, not the {cls.kind()} {cls.name}")
            return cls.from_files(files)
        except FileError:
            raise
        except OSError as error:
            raise FileError(f"cannot read {path}: {error.strerror}") from None
        except (zipfile.BadZipFile, KeyError, ValueError, TypeError, IndexError) as error:
            raise FileError(f"cannot read {path}: it is damaged or of another kind ({error})") from None

    @classmethod
    @abstractmethod
    def kind(cls) -> str:
        """`method` or `predictor`."""


class Predictor(Stored):
    """Predicts latencies on one device.

    Attributes:
        name: of the method that made it.
        width: columns of an encoding.
    """

    width: int
    _classes: ClassVar[dict[str, type[Predictor]]] = {}

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls._classes[cls.name] = cls

    @staticmethod
    def named(name: str) -> type[Predictor]:
        """The class of predictors of this name; its module has been imported, raises KeyError otherwise."""
        return Predictor._classes[name]

    def predict(self, encodings: Array) -> Array:
        """Latencies in milliseconds, positive, float64, shape (n,).

        Args:
            encodings: shape (n, width), encoded like the pool.

        Raises:
            DomainError: they have another width or are not finite.
        """
        return self._predict(check_encodings(encodings, self.width))

    def log_deviations(self, encodings: Array) -> Array | None:
        """Standard deviations of the logarithms of what will be measured, shape (n,); None if the method has no idea.

        Args:
            encodings: shape (n, width), encoded like the pool.

        Raises:
            DomainError: they have another width or are not finite.
        """
        return None

    @abstractmethod
    def _predict(self, encodings: Array) -> Array:
        """Predicts from encodings that were checked."""

    @classmethod
    def kind(cls) -> str:
        return "predictor"


class Method(Stored):
    """Learns what devices have in common from a pool, and a new device from a few of its measurements.

    Attributes:
        name: as in `blsm transfer --method NAME`.
        least_samples: measurements of the new device that it needs.
        joint: whether it learns blocks of several families together, or each family for itself.
        seed: of every random choice.
        width: columns of an encoding; 0 before it is fitted.

    Args:
        seed: the same seed, pool and samples give the same predictions.
    """

    name: ClassVar[str]
    least_samples: ClassVar[int] = 1
    joint: ClassVar[bool] = False

    def __init__(self, *, seed: int = 0) -> None:
        self.seed = seed
        self.width = 0

    def fit(self, pool: DevicePool) -> Self:
        """Learns from the known devices; returns itself.

        Raises:
            FitError: the method can't learn from this pool.
        """
        self._fit(pool)
        self.width = pool.encodings.shape[1]
        return self

    def references(self, pool: DevicePool, count: int) -> Array:
        """Which architectures of the pool to measure on a new device: `count` distinct rows, int64; of a pool of
        several families so many of each, or all there are.

        Any other samples do, too; these tell the fitted method most. By default they are random.

        Raises:
            DomainError: the pool has fewer architectures.
        """
        if not 1 <= count <= len(pool):
            raise DomainError(f"the number of samples must be from 1 to {len(pool)}, the size of the pool, got {count}")
        return self._references(pool, count)

    def adapt(self, encodings: Array, latencies_ms: Array) -> Predictor:
        """Learns a new device; changes nothing in the method, which can adapt to any number of devices.

        Args:
            encodings: of the architectures that were measured on it, shape (samples, width).
            latencies_ms: their latencies in milliseconds, shape (samples,).

        Raises:
            FitError: the method was not fitted, or has fewer samples than it needs.
            DomainError: encodings of another width; latencies that are not positive or not finite.
        """
        if not self.width:
            raise FitError(f"{self.name} must be fitted to a pool before it adapts to a device")
        encodings = check_encodings(encodings, self.width)
        latencies_ms = check_latencies(latencies_ms, len(encodings))
        if len(encodings) < self.least_samples:
            raise FitError(
                f"{self.name} needs at least {self.least_samples} measurements of the new device, got {len(encodings)}"
            )
        return self._adapt(encodings, latencies_ms)

    @abstractmethod
    def _fit(self, pool: DevicePool) -> None:
        """Learns from the known devices."""

    @abstractmethod
    def _adapt(self, encodings: Array, latencies_ms: Array) -> Predictor:
        """Learns a new device from samples that were checked."""

    def _references(self, pool: DevicePool, count: int) -> Array:
        random = np.random.default_rng(self.seed)
        return np.concatenate([random.permutation(rows)[:count] for rows in pool.families()])

    @classmethod
    def kind(cls) -> str:
        return "method"


def arrays_to_bytes(arrays: Mapping[str, Any]) -> bytes:
    """Named arrays of numbers as one file."""
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.asarray(value) for name, value in arrays.items()})
    return buffer.getvalue()


def arrays_from_bytes(content: bytes) -> dict[str, Array]:
    """Inverse of `arrays_to_bytes`; raises ValueError for anything else, objects included."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(str(error)) from None
