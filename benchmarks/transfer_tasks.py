"""The transfer tasks on measured data sets: 27 devices, NAS-Bench-201 and FBNet; protocol in `load_task`.

The data files (Parquet) hold one architecture a row and one column of latencies for each device.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet

from blsm._types import Array
from blsm.errors import UnknownNameError
from blsm.transfer import DevicePool
from blsm.transfer.encodings import FBNET_LAYERS, Encodings, fbnet, nasbench201

#: Where the data files are.
DEFAULT_DATA = Path(os.environ.get("BLSM_TRANSFER_DATA", "../shared/data"))
QUERIES = 1000
_HELP_KNOWN = ("silver_4114", "silver_4210r", "samsung_a50", "pixel3", "essential_ph_1", "samsung_s7")
_GPUS = ("1080ti", "2080ti", "titan_rtx", "titanx", "titanxp")


@dataclass(frozen=True)
class Split:
    """A task: the devices that are known, those that are new, and the rows that were measured on the known ones."""

    space: str
    known: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def pool_rows(self) -> int:
        """Training rows; the queries follow."""
        return 900 if self.space == "nasbench201" else 4000


#: ND, FD, FA: HELP (Lee et al. 2021) and Multi-Predict; F1, F2: NASFLAT (Akhauri and Abdelfattah 2024).
SPLITS: Mapping[str, Split] = {
    "ND": Split(
        "nasbench201",
        ("1080ti_1", "1080ti_32", "1080ti_256", *_HELP_KNOWN),
        ("titan_rtx_256", "gold_6226", "fpga", "pixel2", "raspi4", "eyeriss"),
    ),
    "FD": Split("fbnet", ("1080ti_1", "1080ti_32", "1080ti_64", *_HELP_KNOWN), ("fpga", "raspi4", "eyeriss")),
    "F1": Split(
        "fbnet",
        ("2080ti_1", "essential_ph_1", "silver_4114", "titan_rtx_1", "titan_rtx_32"),
        ("eyeriss", "fpga", "raspi4", "samsung_a50", "samsung_s7"),
    ),
    "F2": Split(
        "fbnet",
        ("essential_ph_1", "gold_6226", "gold_6240", "pixel3", "raspi4"),
        ("1080ti_1", "1080ti_32", "2080ti_32", "titan_rtx_1", "titanxp_1"),
    ),
    "FA": Split(
        "fbnet",
        tuple(f"{gpu}_{batch}" for gpu in _GPUS for batch in (1, 32, 64)),
        ("gold_6226", "essential_ph_1", "samsung_s7", "pixel2"),
    ),
}


@dataclass(frozen=True)
class Task:
    """A task with its data.

    Attributes:
        pool: the known devices, on the training rows.
        samples_ms: new device -> latencies of the pool's architectures, from which samples are drawn, untrimmed.
        queries: encodings of the architectures to predict.
        queries_ms: new device -> their latencies.
    """

    pool: DevicePool
    samples_ms: Mapping[str, Array]
    queries: Array
    queries_ms: Mapping[str, Array]


def load_task(name: str, data: Path = DEFAULT_DATA) -> Task:
    """Reads a task.

    Raises:
        UnknownNameError: no such task.
    """
    if name not in SPLITS:
        raise UnknownNameError(name, SPLITS)
    split = SPLITS[name]
    table = pyarrow.parquet.read_table(data / f"{split.space}_latency.parquet")
    stop = split.pool_rows + QUERIES
    columns = {column: table[column].slice(0, stop).to_numpy() for column in table.column_names}
    encodings = _encode(split.space, columns)
    known, queries = slice(0, split.pool_rows), slice(split.pool_rows, stop)
    pool = Encodings(encodings.values[known], encodings.groups, encodings.graph)
    return Task(
        DevicePool.of(pool, {device: columns[device][known] for device in split.known}),
        {device: columns[device][known].astype(float) for device in split.new},
        encodings.values[queries],
        {device: columns[device][queries].astype(float) for device in split.new},
    )


def _encode(space: str, columns: Mapping[str, Array]) -> Encodings:
    if space == "nasbench201":
        return nasbench201([str(text) for text in columns["arch"]])
    operations = np.column_stack([columns[f"op{layer:02d}"] for layer in range(FBNET_LAYERS)])
    proxies = np.column_stack([values for column, values in columns.items() if column.startswith("zcp_")])
    return fbnet(operations, proxies)
