"""Wrote schema_3.blsm, with blsm at commit 25d789a, the last one whose bundles have schema 3."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import blsm
from blsm.fitting import fit_latency_model
from blsm.profiles import DISPATCH_PROBE, ProfileStore
from blsm.testing import fill_store


def main() -> None:
    """Fits boosted trees to heads on the fake device, and stores what the bundle predicts beside it."""
    folder = Path(__file__).parent
    configs = blsm.block_family("head").sample(60, seed=0)
    with tempfile.TemporaryDirectory() as temporary, ProfileStore(Path(temporary) / "p.db", create=True) as store:
        fill_store(store, [DISPATCH_PROBE, *((config,) for config in configs)])
        fitted = fit_latency_model(store, "fake", families=["head"])
    model = replace(fitted, network_scores=(0.5, 1.0))
    blsm.save(model, folder / "schema_3.blsm")
    estimate = model.latency(configs[:2])
    expected = {"predicted_ms": model.predict(configs[:5]).tolist(), "latency_ms": estimate.latency_ms}
    (folder / "schema_3.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
