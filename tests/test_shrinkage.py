from __future__ import annotations

import pytest

from blsm.shrinkage import kept_share


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
