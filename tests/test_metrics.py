from __future__ import annotations

import pytest

from blsm.metrics import HEADERS, Agreement, table_row


def test_figures_of_a_small_example() -> None:
    agreement = Agreement.of([1.0, 2.08, 3.24, 5.0], [1.0, 2.0, 3.0, 4.0])
    assert agreement.spearman == 1
    assert agreement.mape == pytest.approx((0 + 4 + 8 + 25) / 4)
    assert (agreement.within_5, agreement.within_10) == (0.5, 0.75)
    assert agreement.bias == pytest.approx(1.132)
    assert Agreement.from_json(agreement.to_json()) == agreement
    assert len(table_row("x", agreement)) == len(HEADERS)
