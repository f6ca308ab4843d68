"""The pool of known devices: what every transfer method learns from before it meets a new device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from blsm._types import Array
from blsm.errors import DomainError, FileError, FitError

if TYPE_CHECKING:
    from blsm.transfer.encodings import Encodings

#: Two devices are comparable if they were measured on this many common architectures.
LEAST_COMMON = 2
#: A pool is wide if the 5th and 95th percentile of its latencies are this many times apart.
_WIDE = 20.0


@dataclass(frozen=True)
class Graph:
    """Which columns of an encoding are nodes of a graph, for methods that encode architectures as graphs.

    Attributes:
        adjacency: float64, shape (nodes, nodes), 1 where an edge leads from the row's node to the column's.
        nodes: for each node the columns that hold its operation, all one-hot and of one width; None for a node that
            every architecture has alike (input, output, global), which methods tell apart by its position.
    """

    adjacency: Array
    nodes: tuple[slice | None, ...]


@dataclass(frozen=True)
class DevicePool:
    """Architectures, and their latencies on known devices.

    Attributes:
        encodings: one architecture (or block) a row, finite, float64, shape (n, d).
        latencies_ms: device -> latencies in milliseconds, positive, shape (n,); NaN where it was not measured.
        groups: name -> columns of the encoding. Methods look for `vec` (flat or one-hot), `physical` (costs that are
            the same on every device: MACs, bytes, parameters, kernels), `times` (costs each of which is the time of
            some kind of device), `terms` (costs more finely divided),
            `family` (one-hot, of blocks of several families), `known` (what the known devices take) and `zcp`
            (zero-cost proxies), and take what there is; without any, all columns are `vec`.
        graph: the encoding as a graph, if it is one.

    Raises:
        DomainError: encodings or latencies have another shape, are not finite or not positive.
        FitError: there are fewer than two devices, or two of them have no architectures in common.
    """

    encodings: Array
    latencies_ms: Mapping[str, Array]
    groups: Mapping[str, slice] = field(default_factory=dict)
    graph: Graph | None = None

    def __post_init__(self) -> None:
        encodings = check_encodings(self.encodings)
        if len(self.latencies_ms) < 2:
            raise FitError(
                f"a pool needs at least 2 devices, got {', '.join(self.latencies_ms) or 'none'}: profile another "
                "device, or fit this one by itself with `blsm fit`"
            )
        latencies_ms = {device: _check_latencies(device, v, encodings) for device, v in self.latencies_ms.items()}
        for (one, one_ms), (other, other_ms) in combinations(latencies_ms.items(), 2):
            common = int((~np.isnan(one_ms) & ~np.isnan(other_ms)).sum())
            if common < LEAST_COMMON:
                raise FitError(
                    f"{one} and {other} have {common} architectures in common, {LEAST_COMMON} are the least: profile "
                    "the same ones on every device of the pool (the same --block, --samples, --space and --seed)"
                )
        for name, columns in self.groups.items():
            if not 0 <= columns.start < columns.stop <= encodings.shape[1]:
                raise DomainError(
                    f"the columns {columns} of group {name!r} are not within {encodings.shape[1]} columns"
                )
        object.__setattr__(self, "encodings", encodings)
        object.__setattr__(self, "latencies_ms", latencies_ms)
        object.__setattr__(self, "groups", dict(self.groups))

    @property
    def devices(self) -> tuple[str, ...]:
        """Names of the devices."""
        return tuple(self.latencies_ms)

    @property
    def table_ms(self) -> Array:
        """All latencies in milliseconds, shape (n, devices)."""
        return np.column_stack(list(self.latencies_ms.values()))

    @property
    def wide(self) -> bool:
        """Whether latencies span orders of magnitude, as those of blocks: then methods learn their logarithms, because
        of absolute latencies small ones would count nothing. Else absolute ones are better: latency is a sum."""
        table_ms = self.table_ms
        logs = np.log(table_ms[~np.isnan(table_ms).all(axis=1)])
        low, high = np.nanquantile(np.nanmean(logs - np.nanmedian(logs, axis=0), axis=1), (0.05, 0.95))
        return bool(high - low > np.log(_WIDE))

    def __len__(self) -> int:
        return len(self.encodings)

    def columns(self, *groups: str) -> Array:
        """Indices of the columns of those of these groups that there are; of `vec`: of all columns if there are no
        groups at all."""
        if not self.groups and "vec" in groups:
            return np.arange(self.encodings.shape[1])
        found = [np.arange(self.groups[name].start, self.groups[name].stop) for name in groups if name in self.groups]
        return np.concatenate(found) if found else np.empty(0, int)

    def families(self) -> list[Array]:
        """The rows of each family that occurs; all of them are one if the encoding has no group `family`."""
        columns = self.columns("family")
        if not len(columns):
            return [np.arange(len(self))]
        found = [np.flatnonzero(self.encodings[:, column]) for column in columns]
        return [rows for rows in found if len(rows)]

    @classmethod
    def of(cls, encodings: Encodings, latencies_ms: Mapping[str, Array]) -> Self:
        """The pool of encodings made by `blsm.transfer.encodings`."""
        return cls(encodings.values, latencies_ms, encodings.groups, encodings.graph)

    @classmethod
    def from_table(cls, table: Any, encoding: Sequence[str], devices: Sequence[str]) -> Self:
        """The pool in a data frame, an Arrow table or a mapping of columns.

        Args:
            table: `table[name]` is a column of n numbers.
            encoding: names of the columns that make up the encoding.
            devices: names of the columns with latencies in milliseconds.

        Raises:
            DomainError: a column is missing or holds something else than numbers.
        """
        values = {name: _column(table, name) for name in (*encoding, *devices)}
        return cls(np.column_stack([values[name] for name in encoding]), {name: values[name] for name in devices})

    @classmethod
    def from_parquet(cls, path: str | Path, encoding: Sequence[str], devices: Sequence[str]) -> Self:
        """The pool in a Parquet file; see `from_table`.

        Raises:
            FileError: the file can't be read.
        """
        import pyarrow
        import pyarrow.parquet

        try:
            table = pyarrow.parquet.read_table(path)
        except (OSError, pyarrow.ArrowException) as error:
            raise FileError(f"cannot read {path}: {str(error).splitlines()[0]}") from None
        return cls.from_table(table, encoding, devices)


def check_encodings(encodings: Any, width: int | None = None) -> Array:
    """Encodings as float64 of shape (n, d).

    Args:
        encodings: numbers.
        width: d, if it is given.

    Raises:
        DomainError: they have another shape or width, or are not finite.
    """
    values = np.asarray(encodings, float)
    if values.ndim != 2 or 0 in values.shape:
        raise DomainError(f"encodings must be a table of shape (n, d) that is not empty, got shape {values.shape}")
    if width is not None and values.shape[1] != width:
        raise DomainError(
            f"encodings must have {width} columns as those of the pool, got {values.shape[1]}: encode them alike"
        )
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise DomainError(f"encodings must be finite, got {values[row, column]} in row {row}, column {column}")
    return values


def check_latencies(latencies_ms: Any, count: int, of: str = "the new device") -> Array:
    """Latencies as float64 of shape (count,), all of them measured and positive.

    Raises:
        DomainError: they are not.
    """
    values = np.asarray(latencies_ms, float)
    if values.shape != (count,):
        raise DomainError(f"{of} must have {count} latencies, one for each architecture, got shape {values.shape}")
    wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
    if wrong.size:
        raise DomainError(
            f"latencies of {of} must be positive milliseconds, got {values[wrong[0]]} in row {wrong[0]}"
            + (f" and {wrong.size - 1} more rows" if wrong.size > 1 else "")
            + ": measure them again or leave them out"
        )
    return values


def _check_latencies(device: str, latencies_ms: Any, encodings: Array) -> Array:
    values = np.asarray(latencies_ms, float)
    if values.shape != (len(encodings),):
        raise DomainError(
            f"{device} must have {len(encodings)} latencies, one for each architecture, got shape {values.shape}"
        )
    measured = ~np.isnan(values)
    rows = np.flatnonzero(measured)
    try:
        check_latencies(values[rows], len(rows), device)
    except DomainError as error:
        raise DomainError(f"{error}; NaN stands for not measured") from None
    return values


def _column(table: Any, name: str) -> Array:
    try:
        column = table[name]
    except (KeyError, IndexError):
        raise DomainError(f"the table has no column {name!r}") from None
    try:
        return np.asarray(column, float)
    except (TypeError, ValueError):
        raise DomainError(f"column {name!r} must hold numbers; encode it first") from None
