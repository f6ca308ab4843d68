from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from blsm.errors import FileError
from blsm.evaluation import Comparison
from blsm.report.figures import predicted_versus_measured


def test_a_picture_with_a_panel_for_each_comparison(tmp_path: Path) -> None:
    measured = np.geomspace(0.1, 10, 50)
    comparisons = {name: Comparison(measured * 1.03, measured) for name in ("a", "b", "c", "d", "e")}
    for name in ("f.png", "f.svg"):
        predicted_versus_measured(comparisons, tmp_path / name, "title")
    assert (tmp_path / "f.svg").read_text().count("axes_") >= 5
    with pytest.raises(FileError, match="cannot draw"):
        predicted_versus_measured(comparisons, tmp_path / "f.nothing", "title")
