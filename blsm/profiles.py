"""Profiles: timing samples of blocks and networks on a device, and the SQLite store that keeps them.

What is profiled is a chain of block configs: one config for a block, several for a whole network.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from blsm.blocks import BlockConfig, block_family
from blsm.errors import FingerprintError, StoreError

Chain = tuple[BlockConfig, ...]

SCHEMA = 2
_APPLICATION_ID = 0x626C736D  # "blsm", in the header of the file
#: A visit keeps these quantiles of its invocations, as integer nanoseconds.
QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

#: Two visits confirm a minimum if they agree on it within this relative difference.
AGREEMENT = 0.03

#: Almost nothing but entering and leaving the runtime: its latency is the dispatch cost c0 of a device.
DISPATCH_PROBE: Chain = (block_family("output").config(in_channels=1, activation="sigmoid"),)


@dataclass(frozen=True)
class Fingerprint:
    """The machine and software that a measurement was taken with.

    Attributes:
        identity: what must agree before two measurements may be mixed, e.g. cpu, runtime, threads, precision.
        notes: what is good to know and need not agree, e.g. the kernel.
    """

    identity: Mapping[str, str | int]
    notes: Mapping[str, str | int] = field(default_factory=dict, compare=False)

    def differences(self, other: Fingerprint) -> list[str]:
        """One `key: ours, theirs` for each identity key that disagrees."""
        keys = dict.fromkeys([*self.identity, *other.identity])
        pairs = {key: (self.identity.get(key), other.identity.get(key)) for key in keys}
        return [f"{key}: {ours!r} against {theirs!r}" for key, (ours, theirs) in pairs.items() if ours != theirs]

    def to_json(self) -> dict[str, Any]:
        """The fingerprint as JSON data."""
        return {"identity": dict(self.identity), "notes": dict(self.notes)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        return cls(data["identity"], data.get("notes", {}))


@dataclass(frozen=True)
class Visit:
    """One uninterrupted series of invocations.

    Attributes:
        invocations: how many were timed.
        quantiles_ns: their durations at the quantiles `QUANTILES`, nanoseconds.
        started_s: seconds since the epoch.
        cold_ns: durations of further invocations, which found their data in no cache, at the same quantiles; none where
            it made none.
        waited_s: how long it waited for its cores to be fast and its own, seconds; not stored.
        disturbed: whether they were slow or others', and did not change in time; not stored.
    """

    invocations: int
    quantiles_ns: tuple[int, ...]
    started_s: float
    cold_ns: tuple[int, ...] = ()
    waited_s: float = field(default=0.0, compare=False)
    disturbed: bool = field(default=False, compare=False)

    @classmethod
    def from_samples(
        cls, samples_ns: Sequence[int], started_s: float | None = None, cold_ns: Sequence[int] = ()
    ) -> Self:
        """The visit of these durations, one an invocation, and of those that found cold caches."""
        started_s = time.time() if started_s is None else started_s
        return cls(len(samples_ns), _quantiles_ns(samples_ns), started_s, _quantiles_ns(cold_ns) if cold_ns else ())

    @property
    def minimum_ns(self) -> int:
        """Shortest invocation."""
        return self.quantiles_ns[0]


def _quantiles_ns(samples_ns: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(value) for value in np.quantile(samples_ns, QUANTILES, method="lower"))


@dataclass(frozen=True)
class Profile:
    """All visits of one chain on one device.

    Attributes:
        blocks: the chain.
        visits: its visits, in order of time.
        failure: why it could not be compiled or run; None if it could.
    """

    blocks: Chain
    visits: tuple[Visit, ...]
    failure: str | None = None

    @property
    def latency_ms(self) -> float:
        """Minimum over all invocations of all visits, milliseconds."""
        return min(visit.minimum_ns for visit in self.visits) / 1e6

    @property
    def cold_ms(self) -> float | None:
        """Minimum over all invocations with nothing in the caches, milliseconds; None where there were none."""
        return min((visit.cold_ns[0] / 1e6 for visit in self.visits if visit.cold_ns), default=None)

    @property
    def disagreement(self) -> float:
        """How far the two smallest minima of visits lie apart, relative to the smallest; infinite with one visit."""
        if len(self.visits) == 1:
            return float("inf")
        best, second = sorted(visit.minimum_ns for visit in self.visits)[:2]
        return second / best - 1

    @property
    def confirmed(self) -> bool:
        """Whether two visits agree on the minimum: the verdict that the latency is no accident."""
        return self.disagreement <= AGREEMENT

    @property
    def spread(self) -> float:
        """How far the minima of the visits lie apart, relative to the smallest."""
        minima = [visit.minimum_ns for visit in self.visits]
        return max(minima) / min(minima) - 1


def encode_chain(blocks: Chain) -> str:
    """A chain as JSON text; equal chains give equal text."""
    return json.dumps([[config.family, config.to_dict()] for config in blocks], separators=(",", ":"))


@lru_cache(maxsize=100_000)
def decode_chain(text: str) -> Chain:
    """Inverse of `encode_chain`."""
    return tuple(block_family(family).config(**values) for family, values in json.loads(text))


def digest(blocks: Chain) -> str:
    """A short name of a chain: 16 hexadecimal digits."""
    return hashlib.sha256(encode_chain(blocks).encode()).hexdigest()[:16]


_TABLES = """
CREATE TABLE devices (
    name TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL               -- JSON
) STRICT;
CREATE TABLE subjects (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL REFERENCES devices,
    chain TEXT NOT NULL,                    -- JSON, [[family, {parameter: value}], ...]
    failure TEXT,
    UNIQUE (device, chain)
) STRICT;
CREATE TABLE visits (
    subject INTEGER NOT NULL REFERENCES subjects,
    number INTEGER NOT NULL,                -- 0, 1, ... of this subject: a visit can't be stored twice
    started_s REAL NOT NULL,
    invocations INTEGER NOT NULL,
    quantiles_ns TEXT NOT NULL,             -- JSON
    cold_ns TEXT,                           -- JSON, likewise; NULL where not timed
    PRIMARY KEY (subject, number)
) STRICT, WITHOUT ROWID;
CREATE TABLE sentinel_visits (
    device TEXT NOT NULL REFERENCES devices,
    started_s REAL NOT NULL,
    invocations INTEGER NOT NULL,
    quantiles_ns TEXT NOT NULL
) STRICT;
"""


class ProfileStore:
    """Profiles in one SQLite file: one transaction a visit, so that a kill loses the running visit at most.

    A store holds one fingerprint per device. It is a context manager.

    Args:
        path: the file.
        create: make it if it does not exist.

    Raises:
        StoreError: it is missing, empty, damaged, no profile store, or of a newer schema.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise StoreError(f"no profile store at {self.path}: make one with `blsm profile --store {self.path} ...`")
        with self._errors():
            self._db = sqlite3.connect(self.path, isolation_level=None, timeout=30)
            self._db.execute("PRAGMA foreign_keys = ON")
            self._prepare(create)

    def _prepare(self, create: bool) -> None:
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if application == 0 and tables == 0 and create:
            self._db.executescript(
                f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {_APPLICATION_ID}; "
                f"PRAGMA user_version = {SCHEMA}; COMMIT;"
            )
        elif application != _APPLICATION_ID:
            what = "an empty file" if tables == 0 else "a database of another program"
            raise StoreError(f"{self.path} is no profile store but {what}")
        elif version > SCHEMA:
            raise StoreError(
                f"{self.path} has schema {version}, this blsm reads up to {SCHEMA}: upgrade blsm (pip install -U blsm)"
            )
        elif version < SCHEMA:
            self._upgrade()

    def _upgrade(self) -> None:
        """Schema 1 knew no cold caches."""
        with self._transaction():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version < SCHEMA:  # nobody else has done it meanwhile
                self._db.execute("ALTER TABLE visits ADD COLUMN cold_ns TEXT")
                self._db.execute(f"PRAGMA user_version = {SCHEMA}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if "full" in text or "disk I/O" in text:
                advice = "the disk is full or failing; what was stored before is safe: free some space and run again"
            elif "readonly" in text:
                advice = "it is of an older blsm, and can only be read once this one could write to it"
            elif "locked" in text:
                advice = "another process is writing to it; wait for it to end"
            elif "unable to open" in text:
                advice = "the folder does not exist or is not writable"
            else:
                advice = "it is damaged or no profile store"
            raise StoreError(f"{self.path}: {text}; {advice}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def devices(self) -> dict[str, Fingerprint]:
        """The devices with profiles in this store, by name."""
        with self._errors():
            rows = self._db.execute("SELECT name, fingerprint FROM devices ORDER BY name").fetchall()
        return {name: Fingerprint.from_json(json.loads(text)) for name, text in rows}

    def register_device(self, name: str, fingerprint: Fingerprint) -> None:
        """Says that measurements of a device follow.

        Raises:
            FingerprintError: the store's measurements of this device were taken on another machine or software.
        """
        with self._errors():
            text = json.dumps(fingerprint.to_json())
            self._db.execute("INSERT OR IGNORE INTO devices VALUES (?, ?)", (name, text))
        stored = self.devices()[name]
        if different := fingerprint.differences(stored):
            raise FingerprintError(
                f"{self.path} holds profiles of {name} from another machine or software (here against the store: "
                f"{'; '.join(different)}); use another file with --store"
            )

    def fingerprint(self, device: str) -> Fingerprint:
        """The fingerprint of a device's profiles; raises StoreError if there are none."""
        devices = self.devices()
        if device not in devices:
            held = f"it holds {', '.join(devices)}" if devices else "it holds no profiles yet"
            raise StoreError(f"{self.path} has no profiles of {device!r}; {held}")
        return devices[device]

    def add_visit(self, device: str, blocks: Chain, visit: Visit) -> None:
        """Stores one visit, durably when this returns."""
        self.add_visits(device, [(blocks, visit)])

    def add_visits(self, device: str, visits: Iterable[tuple[Chain, Visit]]) -> None:
        """Stores visits of chains, all or none, durably when this returns; a disk needs for many as long as for one."""
        with self._transaction():
            for blocks, visit in visits:
                subject = self._subject(device, blocks)
                self._db.execute(
                    "INSERT INTO visits SELECT ?, count(*), ?, ?, ?, ? FROM visits WHERE subject = ?",
                    (subject, *_visit_row(visit), json.dumps(visit.cold_ns) if visit.cold_ns else None, subject),
                )

    def add_failure(self, device: str, blocks: Chain, reason: str) -> None:
        """Stores that a chain can't be compiled or run, and why."""
        with self._transaction():
            subject = self._subject(device, blocks)
            self._db.execute("UPDATE subjects SET failure = ? WHERE id = ?", (reason, subject))

    def clear_failures(self, device: str) -> int:
        """Forgets the failures of a device, so that a campaign tries them again; returns how many there were."""
        with self._transaction():
            sql = "UPDATE subjects SET failure = NULL WHERE device = ? AND failure IS NOT NULL"
            return self._db.execute(sql, (device,)).rowcount

    def add_sentinel_visit(self, device: str, visit: Visit) -> None:
        """Stores a visit of the sentinel block."""
        with self._transaction():
            self._db.execute("INSERT INTO sentinel_visits VALUES (?, ?, ?, ?)", (device, *_visit_row(visit)))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _subject(self, device: str, blocks: Chain) -> int:
        key = (device, encode_chain(blocks))
        self._db.execute("INSERT OR IGNORE INTO subjects (device, chain) VALUES (?, ?)", key)
        row = self._db.execute("SELECT id FROM subjects WHERE device = ? AND chain = ?", key).fetchone()
        return int(row[0])

    def profiles(self, device: str) -> list[Profile]:
        """All profiles of a device, failures included, in the order in which they were begun."""
        with self._errors():
            subjects = self._db.execute(
                "SELECT id, chain, failure FROM subjects WHERE device = ? ORDER BY id", (device,)
            ).fetchall()
            rows = self._db.execute(
                "SELECT subject, started_s, invocations, quantiles_ns, cold_ns FROM visits "
                "WHERE subject IN (SELECT id FROM subjects WHERE device = ?) ORDER BY subject, number",
                (device,),
            ).fetchall()
        visits: dict[int, list[Visit]] = {}
        for subject, *row in rows:
            visits.setdefault(subject, []).append(_visit(*row))
        return [Profile(decode_chain(chain), tuple(visits.get(id_, ())), failure) for id_, chain, failure in subjects]

    def sentinel_visits(self, device: str) -> list[Visit]:
        """The visits of the sentinel block, in order of time: they show whether the device itself became slower."""
        with self._errors():
            rows = self._db.execute(
                "SELECT started_s, invocations, quantiles_ns FROM sentinel_visits WHERE device = ? ORDER BY rowid",
                (device,),
            ).fetchall()
        return [_visit(*row) for row in rows]


def latencies(profiles: Iterable[Profile]) -> dict[Chain, float]:
    """Chain -> latency in milliseconds, of the profiles that were measured."""
    return {profile.blocks: profile.latency_ms for profile in profiles if profile.visits and not profile.failure}


def cold_latencies(profiles: Iterable[Profile]) -> dict[Chain, float]:
    """Chain -> latency with nothing in the caches in milliseconds, of the profiles that were timed so."""
    return {p.blocks: p.cold_ms for p in profiles if p.cold_ms is not None and not p.failure}


def _visit_row(visit: Visit) -> tuple[float, int, str]:
    return visit.started_s, visit.invocations, json.dumps(visit.quantiles_ns)


def _visit(started_s: float, invocations: int, quantiles_ns: str, cold_ns: str | None = None) -> Visit:
    return Visit(invocations, tuple(json.loads(quantiles_ns)), started_s, tuple(json.loads(cold_ns or "[]")))
