"""What every benchmark writes: its figures with machine, versions and date, into benchmarks/results/."""

from __future__ import annotations

import json
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from blsm.profiling import machine

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("blsm", "ai-edge-litert", "tensorflow", "keras", "lightgbm", "numpy")


def write_result(name: str, figures: dict[str, Any]) -> None:
    """Writes the figures of a benchmark as JSON and says where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    record = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": machine.cpu_name(),
            "cores": len(machine.available_cores()),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "packages": {package: version(package) for package in _PACKAGES},
        **figures,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {path}")
