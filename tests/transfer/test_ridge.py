from __future__ import annotations

import numpy as np
import pytest

from blsm.transfer import DevicePool
from blsm.transfer.ridge import KnownLatencies, Ridge, Standard


@pytest.mark.parametrize("rows", [8, 200])
def test_a_linear_function_is_found_with_fewer_and_more_rows_than_columns(rows: int) -> None:
    random = np.random.default_rng(0)
    columns = random.normal(size=(rows, 6))
    fit = Ridge.fit(columns, 3 + columns @ np.arange(6.0))
    np.testing.assert_allclose(fit.coefficients, np.arange(6.0), atol=0.02)
    assert fit.intercept == pytest.approx(3, abs=0.02)


def test_noise_is_not_fitted() -> None:
    random = np.random.default_rng(0)
    columns, noise = random.normal(size=(60, 40)), random.normal(size=60)
    fit = Ridge.fit(columns, noise)
    assert np.abs(fit.coefficients).max() < 0.5 * np.abs(np.linalg.lstsq(columns, noise, rcond=None)[0]).max()


def test_columns_that_never_vary_become_zero() -> None:
    values = np.array([[1.0, 5.0], [3.0, 5.0]])
    np.testing.assert_array_equal(Standard.of(values)(values), [[-1, 0], [1, 0]])


def test_known_devices_are_predicted_where_they_were_not_measured() -> None:
    encodings = np.random.default_rng(0).integers(0, 2, (80, 6)).astype(float)
    truth = {"a": 2 + encodings @ np.arange(6.0), "b": 9 - encodings[:, 0]}
    gaps = {"a": np.where(np.arange(80) < 20, np.nan, truth["a"]), "b": truth["b"]}
    known = KnownLatencies.fit(DevicePool(encodings, gaps))
    np.testing.assert_allclose(known.predict(encodings), np.column_stack(list(truth.values())), rtol=0.02)
    again = KnownLatencies.from_arrays(known.to_arrays())
    np.testing.assert_array_equal(again.predict(encodings), known.predict(encodings))
