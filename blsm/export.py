"""Profiles as a table for other tools."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from blsm.errors import FileError
from blsm.files import write_atomically
from blsm.profiles import Profile, ProfileStore, encode_chain


def export(store: ProfileStore, path: Path) -> int:
    """Writes all profiles as one table; returns its number of rows.

    Columns: device, family (`network` where there are several blocks), blocks (JSON), one column per parameter of
    single blocks, latency_ms, cold_ms (with nothing in the caches, null if not timed so), spread, confirmed, visits,
    invocations, failure (null if measured).

    Raises:
        FileError: the name ends neither in .parquet nor in .csv, or the file can't be written.
    """
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    writers = {".parquet": pa.parquet.write_table, ".csv": pa.csv.write_csv}
    if path.suffix not in writers:
        raise FileError(f"cannot export to {path}: its name must end in .parquet or .csv")
    rows = [_row(device, profile) for device in store.devices() for profile in store.profiles(device)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: [row.get(name) for row in rows] for name in names})
    buffer = io.BytesIO()
    writers[path.suffix](table, buffer)
    write_atomically(path, buffer.getvalue())
    return len(rows)


def _row(device: str, profile: Profile) -> dict[str, Any]:
    single = profile.blocks[0] if len(profile.blocks) == 1 else None
    measured = bool(profile.visits)
    return {
        "device": device,
        "family": single.family if single else "network",
        "blocks": encode_chain(profile.blocks),
        **(single.to_dict() if single else {}),
        "latency_ms": profile.latency_ms if measured else None,
        "cold_ms": profile.cold_ms,
        "spread": profile.spread if measured else None,
        "confirmed": profile.confirmed if measured else None,
        "visits": len(profile.visits),
        "invocations": sum(visit.invocations for visit in profile.visits),
        "failure": profile.failure,
    }
