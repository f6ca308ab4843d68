from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def test_the_demo_in_a_small_form(tmp_path: Path) -> None:
    command = [sys.executable, str(DEMO), "--output", str(tmp_path / "demo"), "--samples", "40", "--networks", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {
        "profiles.db", "edge_cpu.blsm", "network.keras", "predicted_versus_measured.png", "figures.json",
    }  # fmt: skip
    figures = json.loads((tmp_path / "demo" / "figures.json").read_text())
    assert set(figures["evaluation"]["figures"]) == {
        "mbconv", "res_v1", "res_v2", "conv", "head", "output", "rescale", "networks",
    }  # fmt: skip
    assert figures["evaluation"]["figures"]["networks"]["count"] == 3
    network = figures["network"]
    assert network["predicted"]["coverage"] == 1
    assert len(network["predicted"]["blocks"]) == 12
    assert 0.5 < network["ratio"] < 2
