from __future__ import annotations

import numpy as np
import pytest

from blsm.shrinkage import is_clear, kept_share


@pytest.mark.parametrize(
    ("estimate", "variance", "kept"),
    [
        (0.1, 0.0, 1.0),
        (-0.1, 0.0, 1.0),
        (0.2, 0.01, 0.75),
        (0.1, 0.01, 0.0),
        (0.01, 0.01, 0.0),
        (0.0, 0.0, 0.0),
        (1e-200, 1e-9, 0.0),
    ],
)
def test_what_noise_may_have_brought_is_not_kept(estimate: float, variance: float, kept: float) -> None:
    assert kept_share(estimate, variance) == pytest.approx(kept)


@pytest.mark.parametrize(
    ("gains", "standard_errors", "clear"),
    [
        ([1.0, 1.0, 1.0], 2.0, True),
        ([3.0, 1.0, 2.0], 2.0, True),
        ([3.0, 1.0, 2.0], 4.0, False),
        ([-1.0, -1.0], 2.0, False),
    ],
)
def test_gains_are_clear_by_their_standard_error(gains: list[float], standard_errors: float, clear: bool) -> None:
    assert is_clear(np.array(gains), standard_errors) == clear
