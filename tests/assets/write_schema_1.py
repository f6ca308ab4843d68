"""Wrote schema_1.blsm, with blsm at commit c6dac0f, the last one whose bundles have schema 1."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import blsm
from blsm.fitting import fit_latency_model
from blsm.profiles import ProfileStore
from blsm.testing import fill_store


def main() -> None:
    """Fits heads on the fake device, and stores what the bundle predicts beside it."""
    folder = Path(__file__).parent
    configs = blsm.block_family("head").sample(40, seed=0)
    with tempfile.TemporaryDirectory() as temporary, ProfileStore(Path(temporary) / "p.db", create=True) as store:
        fill_store(store, [(config,) for config in configs])
        model = fit_latency_model(store, "fake")
    blsm.save(model, folder / "schema_1.blsm")
    estimate = model.latency(configs[:2])
    expected = {"predicted_ms": model.predict(configs[:5]).tolist(), "latency_ms": estimate.latency_ms}
    (folder / "schema_1.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
