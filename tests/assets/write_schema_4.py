"""Wrote schema_4.blsm, with blsm at commit 554a5e3, the last one whose bundles have schema 4."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

import blsm
from blsm.fitting import fit_latency_model
from blsm.hypermodels import sample_networks
from blsm.profiles import ProfileStore
from blsm.surrogates.joined import JoinedSurrogate
from blsm.testing import fake_latency_ms, fill_store


def main() -> None:
    """Fits two families on the fake device, one with a joined surrogate, and stores what they predict beside it."""
    folder = Path(__file__).parent
    configs = {name: blsm.block_family(name).sample(40, seed=0) for name in ("head", "mbconv")}
    with tempfile.TemporaryDirectory() as temporary, ProfileStore(Path(temporary) / "p.db", create=True) as store:
        fill_store(store, [(config,) for members in configs.values() for config in members])
        fitted = fit_latency_model(store, "fake", regressor="linear")
    networks = sample_networks(8, seed=1, families=["mbconv"])
    pairs = [pair for network in networks for pair in pairwise(network) if pair[1].family == "mbconv"]
    isolated_ms = np.array([fake_latency_ms([after]) for _, after in pairs])
    joined = JoinedSurrogate.fit(pairs, 2 * isolated_ms, isolated_ms, seed=0)
    model = replace(fitted, network_scores=(0.5, 1.0), joined={"mbconv": joined})
    blsm.save(model, folder / "schema_4.blsm")
    expected = {
        "predicted_ms": model.predict(configs["head"][:5]).tolist(),
        "latency_ms": model.latency(configs["head"][:2]).latency_ms,
        "joined_ms": joined.predict(pairs[:5], isolated_ms[:5]).tolist(),
    }
    (folder / "schema_4.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
