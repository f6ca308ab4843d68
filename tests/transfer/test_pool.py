from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from blsm.errors import DomainError, FileError, FitError
from blsm.transfer import DevicePool

ENCODINGS = np.arange(12.0).reshape(6, 2)
ONES = np.ones(6)


def test_a_pool_knows_its_devices_and_columns() -> None:
    pool = DevicePool(ENCODINGS, {"a": ONES, "b": 2 * ONES}, {"vec": slice(0, 1), "physical": slice(1, 2)})
    assert pool.devices == ("a", "b")
    assert len(pool) == 6
    np.testing.assert_array_equal(pool.table_ms, np.column_stack([ONES, 2 * ONES]))
    np.testing.assert_array_equal(pool.columns("physical", "zcp"), [1])
    np.testing.assert_array_equal(pool.columns("zcp"), [])


def test_without_groups_all_columns_are_the_vector() -> None:
    pool = DevicePool(ENCODINGS, {"a": ONES, "b": ONES})
    np.testing.assert_array_equal(pool.columns("vec"), [0, 1])
    np.testing.assert_array_equal(pool.columns("physical"), [])


@pytest.mark.parametrize(
    ("encodings", "latencies_ms", "error", "match"),
    [
        (ENCODINGS, {"a": ONES}, FitError, "at least 2 devices, got a"),
        (ENCODINGS, {}, FitError, "at least 2 devices, got none"),
        (ENCODINGS[:, 0], {"a": ONES, "b": ONES}, DomainError, r"shape \(n, d\)"),
        (np.where(ENCODINGS == 3, np.nan, ENCODINGS), {"a": ONES, "b": ONES}, DomainError, "row 1, column 1"),
        (ENCODINGS, {"a": ONES, "b": np.ones(5)}, DomainError, r"b must have 6 latencies.*\(5,\)"),
        (
            ENCODINGS,
            {"a": ONES, "b": np.where(ENCODINGS[:, 0] == 4, 0, 1)},
            DomainError,
            "b must be positive.*got 0.0 in row 2",
        ),
        (ENCODINGS, {"a": ONES, "b": -ONES}, DomainError, "and 5 more rows"),
        (ENCODINGS, {"a": ONES, "b": np.inf * ONES}, DomainError, "got inf"),
    ],
)
def test_bad_pools_are_refused(
    encodings: np.ndarray, latencies_ms: dict[str, np.ndarray], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        DevicePool(encodings, latencies_ms)


def test_devices_measured_on_disjoint_architectures_are_refused() -> None:
    first = np.array([1, 1, 1, np.nan, np.nan, np.nan])
    with pytest.raises(FitError, match="a and b have 0 architectures in common"):
        DevicePool(ENCODINGS, {"a": first, "b": first[::-1]})


def test_rows_of_each_family_that_occurs() -> None:
    encodings = np.eye(3)[[0, 2, 0, 2, 2]]
    devices = {name: np.arange(1.0, 6.0) for name in ("a", "b")}
    families = DevicePool(encodings, devices, {"family": slice(0, 3)}).families()
    assert [rows.tolist() for rows in families] == [[0, 2], [1, 3, 4]]
    assert [rows.tolist() for rows in DevicePool(encodings, devices).families()] == [[0, 1, 2, 3, 4]]


def test_groups_outside_the_encoding_are_refused() -> None:
    with pytest.raises(DomainError, match="group 'vec'"):
        DevicePool(ENCODINGS, {"a": ONES, "b": ONES}, {"vec": slice(0, 3)})


def test_a_pool_is_read_from_a_table_and_from_parquet(tmp_path: Path) -> None:
    columns = {"x": [1.0, 2.0, 3.0], "y": [0, 1, 0], "a": [1.0, 2.0, None], "b": [3.0, 4.0, 5.0]}
    table = pyarrow.table(columns)
    pyarrow.parquet.write_table(table, tmp_path / "pool.parquet")
    for pool in (
        DevicePool.from_table(table, ["x", "y"], ["a", "b"]),
        DevicePool.from_table({name: table[name].to_numpy() for name in columns}, ["x", "y"], ["a", "b"]),
        DevicePool.from_parquet(tmp_path / "pool.parquet", ["x", "y"], ["a", "b"]),
    ):
        np.testing.assert_array_equal(pool.encodings, [[1, 0], [2, 1], [3, 0]])
        np.testing.assert_array_equal(pool.latencies_ms["a"], [1, 2, np.nan])


def test_bad_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DomainError, match="no column 'z'"):
        DevicePool.from_table({"x": [1.0]}, ["x"], ["z"])
    with pytest.raises(DomainError, match="'x' must hold numbers"):
        DevicePool.from_table({"x": ["conv"]}, ["x"], [])
    with pytest.raises(FileError, match="cannot read"):
        DevicePool.from_parquet(tmp_path / "missing.parquet", ["x"], ["a", "b"])
